"""γ as given, chosen, saved and looked up."""

import json
from dataclasses import replace

import pytest
from judged_cases import ZHANG, found, thing
from small_flickr30k import write_photos

from eval.flickr30k import annotated_photos
from eval.gammas import GammaFile, SavedGamma, choose_gamma, find_candidates, given_candidate, read_gammas, save_choice
from eval.measured import describe_photos
from eval.records import Predictions
from eval.result import Gamma

KEY = "a model of the tests, cmwp, mcg"
GRID = (0.25, 0.0)
FAR = (80, 80, 90, 90)


@pytest.fixture
def folder(tmp_path, examples):
    write_photos(tmp_path, examples)
    return tmp_path


@pytest.fixture
def photos(folder):
    return annotated_photos(folder / "photos", folder / "entities")


def find(folder, photos, grid=GRID):
    return find_candidates(photos, folder / "entities", GammaFile(folder / "out" / "gammas.json", KEY), grid)


def test_photos_outside_the_test_split_choose_among_the_grid(folder, photos):
    candidates = find(folder, photos)
    assert candidates.values == candidates.grid == (0.0, 0.25)
    assert candidates.chosen_on == "2 photos"
    assert candidates.supervision == "γ was chosen with the boxes of these very photos."


def test_a_grid_of_one_is_no_choice(folder, photos):
    assert find(folder, photos, (0.4,)) == given_candidate(0.4)


def test_test_photos_do_not_choose_their_own_gamma(folder, photos):
    (folder / "entities" / "test.txt").write_text("2\n")
    with pytest.raises(ValueError, match="not chosen yet, and test photos must not choose it"):
        find(folder, photos)
    GammaFile(folder / "out" / "gammas.json", KEY).save(SavedGamma(0.7, (0.5, 0.7), 9, None))
    candidates = find(folder, photos)
    assert (candidates.values, candidates.grid) == ((0.7,), (0.5, 0.7))
    assert candidates.chosen_on == "9 photos, of no one split"
    assert candidates.supervision == "γ was chosen with the boxes of other photos (9 photos, of no one split)."
    assert candidates.file is None
    (folder / "entities" / "test.txt").unlink()
    with pytest.raises(ValueError, match=r"no test\.txt"):
        find(folder, photos)


@pytest.mark.parametrize("text", ['{"a model": 3}', "[1]", "{", '{"a model": {"gamma": 0.5}}'])
def test_a_damaged_file_is_named(folder, text):
    path = folder / "gammas.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"gammas\.json: expected names"):
        read_gammas(path)


def test_a_gamma_of_more_photos_is_kept(tmp_path):
    file = GammaFile(tmp_path / "new" / "gammas.json", KEY)
    assert file.read() is None
    many, few = SavedGamma(0.5, GRID, 247, "part of val"), SavedGamma(0.25, GRID, 3, None)
    for gamma in (many, few):
        file.save(gamma)
        assert file.read() == many
    file.save(replace(many, gamma=0.75))
    assert file.read().gamma == 0.75
    assert json.loads(file.path.read_text())[KEY]["chosen_by"] == "mean of R@1, R@5 and R@10"


BOX = (0, 0, 10, 10)


@pytest.mark.parametrize(
    ("by_gamma", "best"),
    [
        ({0.0: [FAR, BOX], 0.25: [BOX, FAR]}, 0.25),  # by R@1
        ({0.0: [BOX], 0.25: [BOX]}, 0.0),  # the lowest of equals
        ({0.0: [FAR], 0.25: [FAR, BOX]}, 0.25),
    ],
)
def test_the_gamma_of_the_best_recall_is_chosen(folder, photos, by_gamma, best):
    candidates = find(folder, photos)
    predictions = Predictions({gamma: [found(*boxes)] for gamma, boxes in by_gamma.items()}, [found()])
    chosen = choose_gamma([thing(BOX)], predictions, candidates, ZHANG)
    assert chosen.value == best
    assert chosen.recorded == Gamma(value=best, chosen_on="2 photos", grid=(0.0, 0.25))
    assert [tried.value for tried in chosen.tried] == [0.0, 0.25]
    measured = describe_photos(photos, [thing(BOX)], name="flickr30k", entities_folder=folder / "entities")
    save_choice(chosen, candidates, measured)
    assert candidates.file.read() == SavedGamma(best, (0.0, 0.25), 2, None)


def test_without_attention_no_gamma_is_recorded():
    without = Predictions({0.5: [replace(found(BOX), mass=0.0)]}, [found()])
    chosen = choose_gamma([thing(BOX)], without, given_candidate(0.5), ZHANG)
    assert (chosen.value, chosen.recorded) == (0.5, None)
    assert chosen.supervision.startswith("No attention")
