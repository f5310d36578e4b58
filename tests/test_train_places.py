"""Training over places, and with distillation, on photos of one colour each, whose tags name the colour."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tag_runs import TINY, read_log, read_photos, small_classifier, train_small, write_photos

from grounding.attention import CAM, ExcitationBackprop
from grounding.attention.trace import trace_network
from grounding.checkpoint import load_checkpoint
from grounding.models import Pooling
from grounding.pooling import log_mean_exp
from train.contrast import phrase_loss
from train.distillation import divergence
from train.distributed import ALONE
from train.loop import _photo_losses
from train.loss import tag_loss
from train.preparation import Words, prepare_run
from train.sources import epoch_batches
from train.views import show_photo


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder)
    return folder


@pytest.mark.parametrize(("trained", "epochs", "rate"), [("head", 12, 0.06), ("blocks.3", 2, 0.003), ("all", 2, 0.003)])
@pytest.mark.parametrize("pooling", ["lse", "attention"])
def test_a_head_learned_over_places_knows_colours_and_attends_from_all_places_alike(
    photos, tmp_path, trained, epochs, rate, pooling
):
    model = small_classifier()
    training = replace(TINY, trained=trained, pooling=pooling, sharpness=2.0, views=1, resize=(64, 64), crop=64)
    training = replace(training, optimiser="adamw", learning_rate=rate, epochs=epochs, batch_norm="frozen")
    folder = train_small(photos, tmp_path / "model", training, model)
    assert json.loads((folder / "metrics.json").read_text())["mean_ap"] > 0.9
    learned = load_checkpoint(checkpoint=folder)
    assert (learned.window, learned.pooling) == (None, Pooling(pooling, 2.0))
    before = model.network.state_dict()
    for name, value in learned.network.state_dict().items():
        if trained == "head" and not name.startswith("classifier"):
            assert torch.equal(value, before[name]), name
    if trained == "head":
        features = np.load(folder / "training" / "features.npy", mmap_mode="r")
        assert features.shape == (1, 18, 256, 2, 2)
        assert features.dtype == np.float16
    pixels = learned.prepare(torch.rand(3, 64, 64))[None]
    for method, options in ((ExcitationBackprop, {"signed": "clamp"}), (CAM, {})):
        attend = method(learned.network, "bn2", window=learned.window, **options)
        assert attend(pixels, [torch.tensor([0, 1])])[0].isfinite().all()


def test_validation_pools_as_training_does(photos, tmp_path):
    """The loss in the log is that of the checkpoint's responses at single cells, pooled."""
    training = replace(TINY, trained="blocks.3", pooling="lse", epochs=1, resize=(64, 64), crop=64)
    folder = train_small(photos, tmp_path / "model", training)
    learned = load_checkpoint(checkpoint=folder)
    at_places = trace_network(learned.network, window=1).module
    words = list(learned.vocabulary.units)
    losses = []
    for photo in read_photos(photos, "val").photos:
        with Image.open(photos / photo.name) as image:
            pixels = show_photo(image.convert("RGB"), training.view.whole, None)
        normalised = learned.prepare(torch.from_numpy(pixels) / 255)  # of the network's side already
        with torch.no_grad():
            responses = log_mean_exp(at_places(normalised[None]), 1.0)
        truth = torch.tensor([[float(word in photo.tags) for word in words]])
        losses.append(F.binary_cross_entropy_with_logits(responses, truth, reduction="sum").item())
    assert float(read_log(folder)[-1]["validation_loss"]) == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_units_kept_by_distillation_stay_near_what_they_were(photos, tmp_path):
    """The nearer, the more the divergence weighs; without it they cannot be kept."""
    model = small_classifier()
    with torch.no_grad():
        model.network.classifier.weight *= 300
    pixels = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    training = replace(TINY, trained="blocks.3", pooling="lse", batch_norm="frozen", epochs=1)
    training = replace(training, optimiser="adamw", learning_rate=0.001)
    distances = []
    for distil in (1e-6, 100.0):
        folder = train_small(photos, tmp_path / str(distil), replace(training, distil=distil), model, keep=1)
        joined = load_checkpoint(checkpoint=folder)
        assert joined.vocabulary.size == 1004
        assert joined.vocabulary.units["tabby"] == tuple(4 + unit for unit in model.vocabulary.units["tabby"])
        with torch.no_grad():
            distances.append(divergence(joined.network(pixels)[:, 4:], model.network(pixels)).mean().item())
    assert distances[1] < 0.2 * distances[0]


@pytest.mark.parametrize(("contrast", "distil"), [(0.0, 0.0), (3.0, 0.0), (0.0, 2.0), (3.0, 2.0)])
def test_the_loss_is_that_of_the_tags_of_the_phrases_and_the_divergence_by_their_weights(
    photos, tmp_path, contrast, distil
):
    training = replace(TINY, trained="blocks.3", batch_norm="frozen", contrast=contrast, distil=distil)
    run, _ = prepare_run(
        tmp_path,
        small_classifier(),
        read_photos(photos),
        read_photos(photos, "val"),
        words=Words(100, 1, False),
        keep=1 if distil else None,
        start=None,
        training=training,
        share=ALONE,
        device=torch.device("cpu"),
    )
    batch = next(epoch_batches(run.source, 0, first=0, count=1))
    with torch.no_grad():
        inputs = run.network.trained_inputs(batch)
        responses = run.network.trained(inputs)
        expected = tag_loss(responses[:, :4], batch.units, batch.weights)
        of_phrases = phrase_loss(responses[:, :4], batch.phrases, batch.units, batch.weights)
        assert (of_phrases > 0).all()
        expected += contrast * of_phrases
        if distil:
            own = run.original.network(run.network.normalise(batch.inputs))
            expected += distil * divergence(responses[:, 4:], own)
        torch.testing.assert_close(_photo_losses(run, batch), expected, atol=1e-5 if distil else 0, rtol=0)
