"""Numbers that hold on every device: full float32, in a fixed order, and no overflow."""

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import RandomNetwork, layer_of, photo
from torch import nn

from grounding.attention import CAM, LRP, Deconv, ExcitationBackprop, Grad, precision
from grounding.attention.ascent import ratio_of
from grounding.attention.descent import add_in_order
from grounding.attention.precision import full_precision


def switches():
    """All that decides how float32 is multiplied and summed, as torch reports it."""
    cudnn = torch.backends.cudnn
    found = {"deterministic": cudnn.deterministic, "benchmark": cudnn.benchmark}
    if not hasattr(cudnn, "fp32_precision"):
        return found | {"cudnn": cudnn.allow_tf32, "matmul": torch.get_float32_matmul_precision()}
    mkldnn = torch.backends.mkldnn
    named = {"cudnn": cudnn.conv, "matmul": torch.backends.cuda.matmul, "conv": mkldnn.conv, "cpu": mkldnn.matmul}
    return found | {name: operation.fp32_precision for name, operation in named.items()}


@pytest.fixture(params=["highest", "high", "medium"])
def chosen(request):
    """The switches of a process that has chosen speed, to some degree."""
    torch.set_float32_matmul_precision(request.param)
    torch.backends.cudnn.benchmark = True
    yield switches()
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.benchmark = False


def is_exact(found):
    speedy = {"tf32", "bf16", "high", "medium", True}
    return found["deterministic"] and not found["benchmark"] and not speedy & {found["cudnn"], found["matmul"]}


def test_products_are_exact_inside_and_as_chosen_outside(chosen):
    assert not is_exact(chosen)
    with full_precision("cpu"):
        assert is_exact(switches())
        with full_precision("cpu"):
            assert is_exact(switches())
        assert is_exact(switches())
    assert switches() == chosen


def test_an_exception_sets_all_back(chosen):
    with pytest.raises(KeyError), full_precision("cpu"):
        raise KeyError
    assert switches() == chosen


def test_the_last_of_several_threads_sets_all_back(chosen):
    entered, leave = threading.Event(), threading.Event()

    def work():
        with full_precision("cpu"):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=work)
    with full_precision("cpu"):
        thread.start()
        entered.wait()
    assert is_exact(switches())  # the other thread still computes
    leave.set()
    thread.join()
    assert switches() == chosen


def test_torch_before_2_9_has_other_switches(chosen, monkeypatch):
    monkeypatch.setattr(precision, "hasattr", lambda owner, name: False, raising=False)
    with full_precision("cpu"):
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32
    assert switches() == chosen


@pytest.mark.parametrize("method", [CAM, LRP, Grad, Deconv, ExcitationBackprop])
@pytest.mark.parametrize("chosen", ["medium"], indirect=True)
def test_every_method_runs_the_network_in_full_precision(method, chosen, monkeypatch):
    run, seen = nn.Conv2d.forward, []

    def watched(module, x):
        seen.append(is_exact(switches()))
        return run(module, x)

    monkeypatch.setattr(nn.Conv2d, "forward", watched)
    network = RandomNetwork(2, ("conv",))
    attend = method(network, layer_of(network))
    seen.clear()
    attend(photo(0), [torch.tensor([1])])
    assert seen
    assert all(seen)
    assert switches() == chosen


@settings(max_examples=20)
@given(st.integers(0, 2**16), st.integers(1, 4), st.integers(1, 30), st.integers(1, 9))
def test_adding_in_order_adds(seed, count, values, places):
    generator = torch.Generator().manual_seed(seed)
    where = torch.randint(places, (values,), generator=generator)
    added = torch.rand(count, values, generator=generator, dtype=torch.float64)
    sums = torch.rand(count, places, generator=generator, dtype=torch.float64)
    expected = sums.clone()
    for value, place in enumerate(where.tolist()):
        expected[:, place] += added[:, value]
    on_gpu = sums.clone()
    on_gpu.T.index_put_((where,), added.T, accumulate=True)  # what a GPU does
    add_in_order(sums, where, added)
    torch.testing.assert_close(sums, expected)
    torch.testing.assert_close(on_gpu, expected)


def faint(scale, dtype):
    """A network in which all weights of some neurons are as small as ``scale``, and a bias keeps them alive."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(6, 5, 1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3),
    ).double()  # fmt: skip
    for index, rows in ((2, slice(0, 3)), (5, slice(0, 2)), (9, slice(0, 2))):
        network[index].weight.data[rows] *= scale
        network[index].bias.data.fill_(3.0)
    return network.to(dtype)


@pytest.mark.parametrize("scale", [1e-20, 1e-37, 1e-38])
@pytest.mark.parametrize("contrastive", [False, True])
def test_weights_near_the_least_number_give_the_maps_of_double_precision(scale, contrastive):
    x, targets = photo(3, size=(9, 8)), [torch.arange(3)]
    exact, single = (
        ExcitationBackprop(faint(scale, dtype), "1", contrastive=contrastive).attend_with_mass(x.to(dtype), targets)[0]
        for dtype in (torch.float64, torch.float32)
    )
    assert (single.maps.sum((1, 2)) > 0.01).all()
    torch.testing.assert_close(single.maps.double(), exact.maps, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(single.reached.double(), exact.reached, atol=1e-6, rtol=1e-5)


def test_evidence_below_the_least_number_is_none():
    """Neither activation / normaliser nor a probability / normaliser overflows."""
    activation = torch.tensor([1.0, 100.0, 1e-30, 0.0, 2.0])
    normaliser = torch.tensor([1e-40, 1e-37, 1e-39, 0.0, 4.0])
    assert ratio_of(activation, normaliser).tolist() == [0.0, 0.0, 0.0, 0.0, 0.5]
    least = ratio_of(torch.tensor([1e-30]), torch.tensor([2e-38]))
    assert (least / 1e-30).isfinite().all()  # at a probability of 1, evidence is 1 / activation
