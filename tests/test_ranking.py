from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from sklearn.ensemble import RandomForestRegressor

from proposals.mcg.ranking import POWERS, RANKER, diversify, forest_of, load_forest, save_forest


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


def slowly_diversified(boxes, scores, likely, count):
    """The definition as loops."""
    chosen = []
    for turn in range(count):
        power = POWERS[0] if turn < likely else POWERS[1]
        values = {
            i: scores[i] ** power * (1 - max((iou(boxes[i], boxes[j]) for j in chosen), default=0))
            for i in range(len(boxes))
            if i not in chosen
        }
        chosen.append(max(values, key=values.__getitem__))  # the first of equal ones
    return chosen


def iou(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return common / (sum(areas) - common)


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(0, 50), st.integers(1, 50), st.integers(1, 10))
def test_candidates_are_chosen_for_their_score_and_their_difference(seed, number, likely, count, levels):
    random = np.random.default_rng(seed)
    corners = random.integers(0, 20, (number, 2))
    boxes = np.column_stack([corners, corners + random.integers(1, 10, (number, 2))]).astype(float)
    scores = random.integers(0, levels + 1, number) / levels  # with ties, with 0 and with 1
    chosen = diversify(boxes, scores, likely=likely, count=count)
    assert chosen.tolist() == slowly_diversified(boxes, scores, likely, min(count, number))


def test_no_candidates_are_no_error():
    assert len(diversify(np.zeros((0, 4)), np.zeros(0), likely=3, count=5)) == 0
