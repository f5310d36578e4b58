from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from sklearn.ensemble import RandomForestRegressor
from torchvision.ops import box_iou

from proposals.mcg.ranking import RANKER, diversify, forest_of, load_forest, save_forest


@pytest.fixture(scope="module")
def fitted():
    random = np.random.default_rng(0)
    features = random.random((400, 16)).astype(np.float32)
    return RandomForestRegressor(7, min_samples_leaf=3, random_state=0).fit(features, features[:, 3] * features[:, 5])


def test_the_forest_answers_as_the_fitted_one(fitted):
    features = np.random.default_rng(1).random((1000, 16)).astype(np.float32)
    assert np.allclose(forest_of(fitted)(features), fitted.predict(features), atol=1e-6)


def test_features_equal_to_a_threshold_go_where_they_went(fitted):
    forest = forest_of(fitted)
    exact = forest.thresholds[forest.features >= 0]
    features = np.random.default_rng(2).choice(exact, (500, 16)).astype(np.float32)
    assert np.allclose(forest(features), fitted.predict(features), atol=1e-6)


def test_a_stored_forest_is_the_same(fitted, tmp_path):
    path = tmp_path / "forest.safetensors"
    path.write_bytes(save_forest(forest_of(fitted), photos="7"))
    features = np.random.default_rng(1).random((50, 16)).astype(np.float32)
    assert (load_forest(path)(features) == forest_of(fitted)(features)).all()


def test_damaged_forests_are_refused(fitted, tmp_path):
    path = tmp_path / "forest.safetensors"
    with pytest.raises(ValueError, match=r"forest\.safetensors: no ranker can be read"):
        load_forest(path)
    path.write_bytes(b"junk")
    with pytest.raises(ValueError, match="no ranker can be read"):
        load_forest(path)
    save_file({"x": np.zeros(2)}, path)
    with pytest.raises(ValueError, match="these are not the trees of a ranker"):
        load_forest(path)
    for part, value in {"children": 0, "features": 900, "roots": -1, "values": np.nan}.items():
        forest = forest_of(fitted)
        getattr(forest, part)[0] = value
        path.write_bytes(save_forest(forest))
        with pytest.raises(ValueError, match="the trees of this ranker are damaged"):
            load_forest(path)
    path.write_bytes(save_forest(replace(forest_of(fitted), values=forest_of(fitted).values[:-1])))
    with pytest.raises(ValueError, match="the trees of this ranker are damaged"):
        load_forest(path)


def test_the_packaged_ranker_prefers_what_looks_like_an_object():
    forest = load_forest(RANKER)
    answers = forest(np.random.default_rng(0).random((100, 16)).astype(np.float32))
    assert ((answers >= 0) & (answers <= 1)).all()
    assert answers.std() > 0


def slowly_diversified(boxes, scores, theta, count):
    """The definition as loops."""
    overlap = box_iou(torch.from_numpy(boxes), torch.from_numpy(boxes)).numpy()
    chosen, values = [], []
    for _ in range(count):
        left = [i for i in range(len(boxes)) if i not in chosen]
        new = [scores[i] ** theta * (1 - max((overlap[i, j] for j in chosen), default=0)) ** (1 - theta) for i in left]
        values.append(max(new))
        chosen.append(left[int(np.argmax(new))])
    return chosen, values


def random_boxes(random, count):
    corners = np.sort(random.random((count, 2, 2)), 1).reshape(count, 4)
    return corners + np.array([0, 0, 0.01, 0.01])


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.floats(0.1, 0.9), st.integers(1, 30))
def test_diversity_is_maximal_marginal_relevance(seed, theta, count):
    random = np.random.default_rng(seed)
    boxes, scores = random_boxes(random, 40), random.random(40)
    chosen, values = diversify(boxes, scores, theta=theta, count=count)
    expected, expected_values = slowly_diversified(boxes, scores, theta, count)
    assert np.allclose(values, expected_values)
    assert chosen.tolist() == expected


@given(st.integers(0, 2**31))
def test_scores_alone_are_an_order_and_diversity_alone_begins_with_the_first(seed):
    random = np.random.default_rng(seed)
    boxes, scores = random_boxes(random, 10), random.random(10)
    assert diversify(boxes, scores, theta=1, count=10)[0].tolist() == np.argsort(-scores).tolist()
    chosen, values = diversify(boxes, scores, theta=0, count=10)
    assert chosen[0] == 0
    assert values[0] == 1


def test_boxes_of_equal_value_stay_in_their_order():
    apart = np.array([[0.0, 0, 1, 1], [2, 0, 3, 1], [4, 0, 5, 1]])
    chosen, values = diversify(np.concatenate([apart, apart]), np.full(6, 0.25), theta=0.5, count=9)
    assert chosen.tolist() == [0, 1, 2, 3, 4, 5]  # the copies overlap wholly with what was taken
    assert values.tolist() == [0.5, 0.5, 0.5, 0, 0, 0]


def test_no_boxes_are_chosen_of_none():
    chosen, values = diversify(np.zeros((0, 4)), np.zeros(0), theta=0.5, count=5)
    assert chosen.shape == values.shape == (0,)
