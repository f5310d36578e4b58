import io
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import train.features
from train.batches import epoch_order
from train.data import TaggedPhoto, TaggedPhotos
from train.distributed import Share
from train.features import compute_features, feature_batches, feature_batches_in_order
from train.views import View
from train.vocabulary import TagVocabulary

TAGS = TagVocabulary(("dog", "cat"), (2, 1), {"dog": "dog", "cat": "cat"})
VIEW = View((10, 12), 8)
COUNT = 11


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Eleven photos, of which the third cannot be read; four are computed together."""
    monkeypatch.setattr(train.features, "BATCH_SIZE", 4)
    monkeypatch.setattr(train.features, "SAVE_EVERY", 1)
    random = np.random.default_rng(0)
    for index in range(COUNT):
        (tmp_path / f"{index}.png").write_bytes(png(random.integers(0, 256, (9, 14, 3), np.uint8)))
    (tmp_path / "2.png").write_bytes(b"junk")
    tagged = [
        TaggedPhoto(f"{index}.png", TAGS.words[: index % 3], phrases=(TAGS.words,) * (index % 2))
        for index in range(COUNT)
    ]
    return TaggedPhotos(tmp_path, tagged, ())


class Lower:
    """Means over quarters of the photos; counts, and may be interrupted."""

    def __init__(self, until=None):
        self.photos, self.until = 0, until

    def __call__(self, pixels):
        if self.until is not None and self.photos >= self.until:
            raise KeyboardInterrupt
        self.photos += len(pixels)
        return torch.nn.functional.avg_pool2d(pixels.float() / 255, 4)


def compute(photos, lower=None, **options):
    options = {"view": VIEW, "views": 3, "seed": 1, "about": {"model": "a"}, "workers": 0} | options
    view = options.pop("view")
    reports = []
    path = photos.folder / "kept" / "features.npy"
    features = compute_features(
        path, photos, TAGS, view, lower or Lower(), report=lambda *counts: reports.append(counts), **options
    )
    assert reports[-1] == (options["views"] * len(photos),) * 2
    return features


def assert_same(found, expected):
    assert np.array_equal(found.values, expected.values)
    assert np.array_equal(found.readable, expected.readable)
    assert found.unreadable == expected.unreadable
    assert found.units == expected.units


def test_features_are_those_of_every_photo_and_view_in_order(photos):
    features = compute(photos)
    assert features.values.shape == (3, COUNT, 3, 2, 2)
    assert features.values.dtype == np.float16
    assert len(features) == COUNT
    assert features.units == [[[], [0], [0, 1]][index % 3] for index in range(COUNT)]
    assert features.phrases == [[(0, 1)] * (index % 2) for index in range(COUNT)]
    assert np.flatnonzero(~features.readable).tolist() == [2]
    assert features.unreadable == ("2.png: not an image, or of an unknown format",)
    assert not np.array_equal(features.values[0], features.values[1])
    (view,) = compute(replace(photos, photos=photos.photos[4:5])).values[1:2]  # a photo's view depends on its place
    assert view.shape == (1, 3, 2, 2)


def test_without_a_seed_the_view_is_the_whole_photo(photos):
    features = compute(photos, view=VIEW.whole, views=1, seed=None)
    expected = Image.open(photos.path(0)).resize((8, 5), Image.Resampling.BILINEAR, reducing_gap=2)
    padded = np.pad(np.asarray(expected), ((1, 2), (0, 0), (0, 0)), "symmetric").astype(np.float32) / 255
    means = padded.reshape(2, 4, 2, 4, 3).mean((1, 3)).transpose(2, 0, 1)
    np.testing.assert_allclose(features.values[0, 0], means, atol=1e-3)


def test_features_are_computed_once(photos):
    first = compute(photos)
    lower = Lower()
    assert_same(compute(photos, lower), first)
    assert lower.photos == 0
    retagged = replace(photos, photos=[replace(photo, tags=("cat",)) for photo in photos.photos])
    assert compute(retagged, lower).units == [[1]] * COUNT
    assert lower.photos == 0


def another_file(photos):
    photos.path(1).write_bytes(photos.path(3).read_bytes() + b"more")


def touched(photos):
    os.utime(photos.path(1), (1, 1))


def cut(photos):
    path = photos.folder / "kept" / "features.npy"
    path.write_bytes(path.read_bytes()[:-1])


def spoilt(photos):
    (photos.folder / "kept" / "features.json").write_text("{")


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({"about": {"model": "b"}}, None),
        ({"view": View((11, 12), 8)}, None),
        ({"views": 2}, None),
        ({"seed": 2}, None),
        ({}, another_file),
        ({}, touched),
        ({}, lambda photos: photos.photos.reverse()),
        ({}, lambda photos: photos.photos.append(TaggedPhoto("gone.png", ()))),
        ({}, lambda photos: photos.photos.__setitem__(0, replace(photos.photos[0], size=(5, 5)))),
        ({}, cut),
        ({}, spoilt),
    ],
)
def test_features_of_anything_else_are_computed_again(photos, options, change):
    compute(photos)
    if change is not None:
        change(photos)
    lower = Lower()
    found = compute(photos, lower, **options)
    assert lower.photos == options.get("views", 3) * len(photos)
    (photos.folder / "kept" / "features.json").unlink()
    assert_same(found, compute(photos, **options))


@pytest.mark.parametrize(("until", "workers"), [(0, 0), (4, 0), (8, 0), (11, 0), (15, 0), (15, 2), (30, 0)])
def test_a_stopped_computation_is_resumed(photos, until, workers):
    whole = compute(photos)
    for path in (photos.folder / "kept").iterdir():
        path.unlink()
    stopped = Lower(until)
    with pytest.raises(KeyboardInterrupt):
        compute(photos, stopped)
    with (photos.folder / "kept" / "features.npy").open("ab") as file:
        file.write(b"half a batch")
    lower = Lower()
    assert_same(compute(photos, lower, workers=workers), whole)
    assert stopped.photos + lower.photos == 3 * COUNT


def test_features_that_were_half_replaced_are_computed_again(photos, monkeypatch):
    values = np.array(compute(photos, views=1).values)
    monkeypatch.setattr(train.features, "SAVE_EVERY", 99)
    with pytest.raises(KeyboardInterrupt):
        compute(photos, Lower(30))
    lower = Lower()
    assert np.array_equal(compute(photos, lower, views=1).values, values)
    assert lower.photos == COUNT


def test_a_photo_that_could_not_be_read_in_one_view_is_left_out_of_all(photos):
    (photos.folder / "2.png").write_bytes(photos.path(0).read_bytes())

    class Meddling(Lower):
        def __call__(self, pixels):
            if self.photos == 0:
                photos.path(5).rename(photos.folder / "away.png")
            elif self.photos == 2 * COUNT:
                (photos.folder / "away.png").rename(photos.path(5))
            return super().__call__(pixels)

    features = compute(photos, Meddling())
    assert np.flatnonzero(~features.readable).tolist() == [5]
    assert features.unreadable == ("5.png: No such file or directory",)


def test_photos_of_which_none_can_be_read_are_refused_and_so_is_what_is_not_finite(photos):
    with pytest.raises(ValueError, match=r"not finite in half precision"):
        compute(photos, lambda pixels: pixels * 1e6)
    for index in range(COUNT):
        photos.path(index).write_bytes(b"")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"none of the photos can be read; the first: 0\.png: the file is empty"):
            compute(photos)


def test_a_full_disk_is_an_error(photos, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        compute(photos)


def test_an_epoch_has_every_photo_and_the_next_one_sees_other_views(photos):
    features = compute(photos)
    for epoch in range(4):
        batches = list(feature_batches(features, batch_size=4, seed=1, epoch=epoch))
        order = epoch_order(COUNT, batch_size=4, seed=1, epoch=epoch)
        for batch, indices in zip(batches, order, strict=True):
            assert np.array_equal(batch.inputs.numpy(), features.values[epoch % 3][indices])
            assert batch.weights.tolist() == [float(index != 2) for index in indices]
            units = [[unit for unit in row if unit >= 0] for row in batch.units.tolist()]
            assert units == [features.units[index] for index in indices]
        assert set(order.flatten()) == set(range(COUNT))
        resumed = list(feature_batches(features, batch_size=4, seed=1, epoch=epoch, first=2))
        assert [torch.equal(one.inputs, other.inputs) for one, other in zip(resumed, batches[2:], strict=True)] == [
            True
        ]


def test_two_processes_go_through_all_features(photos):
    features = compute(photos)
    shares = [Share(0, 2), Share(1, 2)]
    for rank, share in enumerate(shares):
        found = torch.cat([batch.inputs for batch in feature_batches_in_order(features, batch_size=4, share=share)])
        assert np.array_equal(found.numpy(), features.values[0, rank::2])
    halves = [list(feature_batches(features, batch_size=2, seed=1, epoch=0, share=share)) for share in shares]
    assert len(halves[0]) == len(halves[1]) == 3
    together = torch.cat([batch.inputs for batch in halves[0] + halves[1]]).numpy()
    for value in features.values[0]:
        assert (together == value).all((1, 2, 3)).any()


def test_the_progress_of_the_features_is_plain_json(photos):
    compute(photos)
    known = json.loads((photos.folder / "kept" / "features.json").read_text())
    assert known["done"] == 3 * COUNT
    assert known["unreadable"] == [[2, "2.png: not an image, or of an unknown format"]]
