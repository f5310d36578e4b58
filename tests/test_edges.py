import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from proposals.edges import EdgeDetector, Edges, orientation_of, shrink, thin
from proposals.edges.network import EdgeNetwork, fold, side_losses
from train.crops import edge_consensus


@pytest.fixture(scope="module")
def detect():
    return EdgeDetector()


def square(height=120, width=160):
    pixels = np.full((height, width, 3), (30, 60, 90), np.uint8)
    pixels[30:90, 40:120] = (220, 180, 60)
    return pixels


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_edges_lie_where_a_square_ends(detect, scale):
    strength = thin(Edges(detect.strength(square(), scale), orientation_of(detect.strength(square(), scale))))
    rows, columns = np.nonzero(strength > 0.5)
    assert len(rows) > 150
    away = np.minimum.reduce([abs(rows - 29.5), abs(rows - 89.5), abs(columns - 39.5), abs(columns - 119.5)])
    assert np.percentile(away, 95) <= 2.5


def test_scales_are_averaged(detect):
    several = EdgeDetector(scales=(0.5, 1))(square())
    mean = (detect.strength(square(), 0.5) + detect.strength(square(), 1)) / 2
    assert np.allclose(several.strength, mean, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (15, 3), (31, 33), (133, 200)])
def test_any_size_has_edges_of_that_size(detect, size):
    edges = detect(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    assert edges.strength.shape == edges.orientation.shape == size
    assert edges.strength.min() >= 0
    assert edges.strength.max() <= 1
    assert (edges.orientation >= 0).all()
    assert (edges.orientation <= np.float32(np.pi)).all()


def test_a_photo_is_seen_the_same_wherever_its_size_ends(detect):
    whole = detect.strength(np.pad(square(), ((0, 16), (0, 16), (0, 0)), mode="edge"))
    assert np.abs(whole[:110, :150] - detect.strength(square())[:110, :150]).max() < 0.2


@pytest.mark.parametrize("degrees", [0, 30, 77, 90, 135, 160])
def test_orientation_is_that_of_the_normal(degrees):
    angle = np.radians(degrees)
    y, x = np.mgrid[-40:41, -40:41]
    ridge = np.exp(-((x * np.cos(angle) + y * np.sin(angle)) ** 2) / 4).astype(np.float32)
    found = orientation_of(ridge)[30:51, 30:51][ridge[30:51, 30:51] > 0.8]
    difference = (found - angle + np.pi / 2) % np.pi - np.pi / 2
    assert np.abs(difference).max() < 0.1


def test_folding_batch_norm_changes_nothing():
    torch.manual_seed(0)
    network = EdgeNetwork().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    images = torch.rand(2, 3, 50, 70)
    with torch.no_grad():
        before = network(images)
        assert torch.allclose(fold(network)(images), before, atol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("size", [(150, 40), (97, 33)])
def test_bands_change_nothing(monkeypatch, size):
    """In double precision, so that a row on which a band depends and does not see would show."""
    torch.manual_seed(0)
    network = fold(EdgeNetwork()).double()
    images = torch.rand(1, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        monkeypatch.setattr("proposals.edges.network.BAND", 2**30)
        whole = network(images)
        monkeypatch.setattr("proposals.edges.network.BAND", 1)
        assert torch.allclose(network(images), whole, rtol=0, atol=1e-12)


def test_training_has_an_output_for_every_resolution():
    logits = EdgeNetwork().train()(torch.rand(1, 3, 40, 56))
    assert logits.shape == (1, 6, 40, 56)
    consensus = torch.zeros(1, 1, 40, 56)
    consensus[..., 20, :] = 1
    consensus[..., :5, :] = -1
    weights = [1.0, 0, 0, 0, 0, 0]
    loss = side_losses(logits, consensus, positive=10, weights=weights)
    elsewhere = logits.detach().clone()
    elsewhere[:, :, :5] = 100  # where nobody looked
    elsewhere[:, 1:] = -100  # outputs without weight
    assert torch.isclose(side_losses(elsewhere, consensus, positive=10, weights=weights), loss)
    log_likelihood = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[:, :1, 5:], consensus[:, :, 5:], pos_weight=torch.tensor(10.0)
    )
    assert torch.isclose(loss, log_likelihood)


def test_consensus_counts_people_who_drew_nearby():
    segments = np.ones((4, 20, 20), int)
    segments[0, :, 10:] = 2
    segments[1, :, 11:] = 2  # a pixel away: the same edge
    segments[2, :, 16:] = 2
    consensus = edge_consensus(segments)
    assert (consensus[:, 9:11] == 0.5).all()
    assert (consensus[:, 15] == 0.25).all()
    assert (consensus[:, [3, 12, 18]] == 0).all()
    segments[:, :6] = 0  # no photo there
    assert (edge_consensus(segments)[:8] == -1).all()
    assert (edge_consensus(segments)[8:, 15] == 0.25).all()


def test_large_photos_are_shrunk_as_said():
    assert shrink(torch.rand(3, 400, 900), 300).shape == (133, 300, 3)
    assert shrink(torch.rand(3, 40, 90), 300).shape == (40, 90, 3)
    assert shrink(torch.rand(3, 1, 9000), 300).shape == (1, 300, 3)


def test_the_device_is_chosen_by_name():
    assert EdgeDetector(device="cpu").device == torch.device("cpu")
    assert EdgeDetector().device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="device 'abacus' cannot be used"):
        EdgeDetector(device="abacus")


def test_edges_are_found_in_full_precision_whatever_surrounds_the_call(detect):
    expected = detect.strength(square())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (detect.strength(square()) == expected).all()


def test_wrong_weights_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.safetensors: weights of edges cannot be read"):
        EdgeDetector(tmp_path / "nowhere.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(ValueError, match=r"cut\.safetensors: weights of edges cannot be read"):
        EdgeDetector(tmp_path / "cut.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="these are not weights of an edge network"):
        EdgeDetector(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"scales of edges are a list of numbers from 0\.1 to 4"):
        EdgeDetector(scales=())
