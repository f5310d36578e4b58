"""The network that is trained, its optimiser's schedule, and the vocabulary of a head with original units."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from tag_runs import small_classifier

from grounding.models import torchvision_classifier
from train.model import add_original_units, last_map_size
from train.optimisers import cosine_factor


def test_a_word_in_both_vocabularies_means_the_trained_unit_where_enough_photos_had_it():
    original = small_classifier()
    often, seldom = list(original.vocabulary.units)[:2]
    units, counts = {often: (0,), seldom: (1,)}, {often: 3, seldom: 2}
    trained = replace(original, vocabulary=replace(original.vocabulary, units=units, nouns=frozenset(), counts=counts))
    words = add_original_units(trained, original, 3).vocabulary
    assert words.units[often] == (0,)
    assert words.units[seldom] == tuple(1000 + unit for unit in original.vocabulary.units[seldom])
    assert words.nouns == original.vocabulary.nouns - {often}
    assert words.counts == counts


def test_the_size_of_the_last_map_is_measured():
    network = small_classifier().network.eval()
    assert [last_map_size(network, crop) for crop in (64, 224)] == [2, 7]


def test_a_network_that_cannot_respond_that_a_tag_is_absent_is_refused():
    network = torchvision_classifier(
        name="squeezenet1_1", weights=None, layer="features.5", window=None, short_side=64
    ).network
    with pytest.raises(ValueError, match="SqueezeNet ends in an activation function, and cannot say that a tag"):
        last_map_size(network, 64)


def test_a_network_that_takes_no_such_photos_is_refused():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 99))
    with pytest.raises(ValueError, match=r"takes no photos of training\.crop=64 pixels") as error:
        last_map_size(network, 64)
    assert "\n" not in str(error.value)


def test_the_learning_rate_rises_linearly_and_falls_along_a_cosine():
    factors = [cosine_factor(step, 100) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert factors[10] == 1
    assert all(later < earlier for earlier, later in pairwise(factors[10:]))
    assert factors[-1] < 0.001
