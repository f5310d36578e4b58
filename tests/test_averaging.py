import pytest
import torch
from torch import nn

from train.averaging import averaged_model


@pytest.mark.parametrize("ema_decay", [0.0, 0.3, 0.998, 1.0])
def test_the_average_follows_the_formula_with_its_warm_up(ema_decay):
    """Weights and statistics: average ← d · average + (1 − d) · value, d = min(decay, (1 + step) / (10 + step))."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).double()
    average = averaged_model(network, ema_decay)
    expected = {name: value.clone() for name, value in network.state_dict().items()}
    for step in range(20):
        network.train()(torch.randn(2, 3, 4, 4).double())  # changes the statistics
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(torch.randn_like(weight))
        average.update_parameters(network)
        decay = min(ema_decay, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value
            else:
                expected[name] = value.clone()
    found = average.module.state_dict()
    assert found["1.num_batches_tracked"] == 20
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_the_network_itself_is_left_alone():
    network = nn.Linear(2, 2)
    average = averaged_model(network, 0.9)
    with torch.no_grad():
        network.weight.fill_(1)
    average.update_parameters(network)
    assert (network.weight == 1).all()
    assert not (average.module.weight == 1).all()
