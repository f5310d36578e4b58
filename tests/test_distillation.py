"""Distillation keeps the responses of the model's own units while the features below them are trained."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tag_runs import TINY, small_classifier

from train.batches import Batch
from train.counting import count_tags_of_photos
from train.data import TaggedPhoto
from train.distillation import divergence
from train.model import build_network

seeds = st.integers(0, 2**16)
CPU = torch.device("cpu")
TRAINING = replace(TINY, trained="blocks.3", distil=1.0, batch_norm="frozen", crop=64, resize=(64, 64))
PHOTOS = [TaggedPhoto("a", ("red", "tabby")), TaggedPhoto("b", ("blue",)), TaggedPhoto("c", ()), TaggedPhoto("d", ())]
COUNTS = count_tags_of_photos(PHOTOS, size=9, least=1, lemmatise=False)


def drawn(seed, count=4):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(count, 6, generator=generator, dtype=torch.float64)


@given(seeds)
def test_the_divergence_is_its_definition(seed):
    responses, teacher = drawn(seed), drawn(seed + 1)
    found = divergence(responses, teacher)
    for row, (ours, theirs) in enumerate(zip(responses.softmax(1), teacher.softmax(1), strict=True)):
        expected = sum(p * torch.log(p / q) for p, q in zip(theirs, ours, strict=True))
        torch.testing.assert_close(found[row], expected)


@given(seeds, st.floats(-9, 9))
def test_the_divergence_is_positive_unless_responses_differ_by_a_constant(seed, shift):
    responses, teacher = drawn(seed), drawn(seed + 1)
    assert (divergence(responses, teacher) > 0).all()
    torch.testing.assert_close(divergence(teacher + shift, teacher), torch.zeros(4, dtype=torch.float64))


def lively_classifier():
    """A classifier whose responses differ from unit to unit and from photo to photo."""
    model = small_classifier()
    with torch.no_grad():
        model.network.classifier.weight *= 300
    return model


def batch(count=3):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 64, 64), generator=generator, dtype=torch.uint8)
    units = torch.zeros(count, 1, dtype=torch.long)
    return Batch(pixels, units, units[..., None], torch.zeros(count), torch.ones(count), ())


def mean_divergence(network):
    """The divergence in evaluation mode, with gradients."""
    network.trained.eval()
    inputs = network.trained_inputs(batch())
    return network.divergences(inputs, network.respond(inputs, network.trained, has_features=False)).mean()


@pytest.mark.parametrize("trained", ["all", "blocks.3"])
@pytest.mark.parametrize("pooling", ["average", "lse", "attention"])
def test_at_the_start_the_model_s_own_units_respond_as_before(trained, pooling):
    model = lively_classifier()
    training = replace(TRAINING, trained=trained, pooling=pooling)
    network = build_network(model, COUNTS, training, CPU, keep=1)
    assert network.learned == 3
    assert network.classifier.vocabulary.size == 1003
    assert mean_divergence(network).item() == pytest.approx(0, abs=1e-6)
    network.trained.eval()
    inputs = network.trained_inputs(batch())
    with torch.no_grad():
        responses = network.respond(inputs, network.trained, has_features=False)
        expected = model.network(network.normalise(batch().inputs))
    assert expected.std(1).min() > 0.1
    torch.testing.assert_close(responses[:, 3:], expected, atol=1e-4, rtol=1e-4)


def test_steps_bring_disturbed_units_back_and_leave_the_teacher_alone():
    model = lively_classifier()
    network = build_network(model, COUNTS, replace(TRAINING, pooling="lse"), CPU, keep=1)
    teacher = {name: value.clone() for name, value in network.teacher.state_dict().items()}
    with torch.no_grad():
        network.head.bias[3:] += torch.randn(1000)
    optimiser = torch.optim.SGD(network.trained.parameters(), lr=1e-4)
    found = []
    for _ in range(4):
        optimiser.zero_grad()
        loss = mean_divergence(network)
        loss.backward()
        optimiser.step()
        found.append(loss.item())
    assert found[0] > 0.01
    assert found == sorted(found, reverse=True)
    assert all(torch.equal(value, teacher[name]) for name, value in network.teacher.state_dict().items())
    assert not any(weight.requires_grad for weight in network.teacher.parameters())
    assert torch.equal(model.network.classifier.weight, network.teacher.classifier.weight)


def test_without_distillation_the_head_has_the_learned_units_alone():
    network = build_network(small_classifier(), COUNTS, replace(TRAINING, distil=0.0), CPU, keep=None)
    assert network.teacher is None
    assert network.learned == network.classifier.vocabulary.size == 3
    with pytest.raises(ValueError, match="has no teacher"):
        network.divergences(torch.zeros(1), torch.zeros(1, 3))


def test_the_model_s_own_units_keep_their_weights_to_the_bit():
    model = lively_classifier()
    network = build_network(model, COUNTS, replace(TRAINING, pooling="lse"), CPU, keep=1)
    with torch.no_grad():
        for weight in network.head.parameters():
            weight += 1
    learned = network.head.weight[:3].clone()
    network.hold_own_units(model)
    assert torch.equal(network.head.weight[3:], model.network.classifier.weight)
    assert torch.equal(network.head.bias[3:], model.network.classifier.bias)
    assert torch.equal(network.head.weight[:3], learned)


def test_words_start_from_the_weights_of_a_checkpoint_that_knows_them():
    first = build_network(small_classifier(), COUNTS, replace(TRAINING, distil=0.0), CPU).classifier
    words = [TaggedPhoto("a", ("green", "blue")), TaggedPhoto("b", ("tabby",)), TaggedPhoto("c", ())]
    counts = count_tags_of_photos(words, size=9, least=1, lemmatise=False)
    started = build_network(small_classifier(), counts, replace(TRAINING, distil=0.0), CPU, start=first).classifier
    fresh = build_network(small_classifier(), counts, replace(TRAINING, distil=0.0), CPU).classifier
    for word, (unit,) in started.vocabulary.units.items():
        expected, row = (first, first.vocabulary.units[word][0]) if word in first.vocabulary else (fresh, unit)
        assert torch.equal(started.network.classifier.weight[unit], expected.network.classifier.weight[row]), word
        assert torch.equal(started.network.classifier.bias[unit], expected.network.classifier.bias[row]), word


def test_words_do_not_start_from_a_network_with_other_features():
    other = replace(small_classifier(), network=torch.nn.Sequential(torch.nn.Linear(3, 1000)))
    with pytest.raises(ValueError, match="other features"):
        build_network(small_classifier(), COUNTS, replace(TRAINING, distil=0.0), CPU, start=other)
