from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from sklearn.ensemble import RandomForestRegressor

from proposals.mcg.grouping import group
from proposals.mcg.hierarchy import build_hierarchies
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


def slowly_diversified(masks, scores, theta, count):
    """The definition as loops."""
    chosen, values = [], []
    for _ in range(count):
        best = None
        for i in range(len(masks)):
            if i not in chosen:
                overlaps = [(masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum() for j in chosen]
                value = theta * scores[i] - (1 - theta) * max(overlaps, default=0)
                if best is None or value > best[0] + 1e-12:
                    best = (value, i)
        values.append(best[0])
        chosen.append(best[1])
    return chosen, values


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.floats(0.01, 1), st.integers(1, 30))
def test_diversity_is_maximal_marginal_relevance(seed, theta, count):
    random = np.random.default_rng(seed)
    maps = [random.random((10, 10)).astype(np.float32) for _ in range(3)]
    partition, hierarchies = build_hierarchies(maps, most_superpixels=12)
    groups = group(partition, hierarchies, [[10] * 4] * 4)
    scores = random.random(len(groups))
    count = min(count, len(groups))
    chosen, values = diversify(groups, scores, partition.areas, theta=theta, count=count)
    offsets, members = groups.members
    masks = [np.isin(partition.superpixels, members[offsets[i] : offsets[i + 1]]) for i in range(len(groups))]
    expected, expected_values = slowly_diversified(masks, scores, theta, count)
    assert np.allclose(values, expected_values)
    assert len(set(chosen.tolist())) == count
    if theta > 0.01:  # otherwise ties are many
        assert chosen.tolist() == expected
    assert (np.diff(values) <= 1e-12).all()
