from dataclasses import replace

import numpy as np
import pytest
import torch
from batch_photos import TAGS, VIEW, assert_same_batches, check_broken, numbers, plain_photo, png
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from train.batches import (
    Batch,
    default_workers,
    epoch_order,
    pad_phrases,
    pad_units,
    photo_batches,
    photo_batches_in_order,
)
from train.data import TaggedPhoto, TaggedPhotos
from train.distributed import Share

COUNT = 23


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    tagged = []
    for index in range(COUNT):
        (folder / f"{index}.png").write_bytes(plain_photo(index))
        tags = (TAGS.words[index % 3], "unknown", "red")[: 1 + index % 3]
        tagged.append(TaggedPhoto(f"{index}.png", tags, phrases=(tags, ("red", "dog"), ("unknown",))[: index % 4]))
    return TaggedPhotos(folder, tagged, ())


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Photos in which every view looks different."""
    folder = tmp_path_factory.mktemp("noisy")
    random = np.random.default_rng(0)
    for index in range(7):
        (folder / f"{index}.png").write_bytes(png(random.integers(0, 256, (20, 30, 3), np.uint8)))
    return TaggedPhotos(folder, [TaggedPhoto(f"{index}.png", ("dog",)) for index in range(7)], ())


@given(
    st.integers(1, 60),
    st.integers(1, 7),
    st.integers(1, 4),
    st.integers(0, 2**31),
    st.integers(0, 5),
    st.integers(0, 9),
)
def test_an_epoch_has_every_photo_once_and_is_filled_up_with_its_first_photos(count, batch, world, seed, epoch, first):
    shares = [epoch_order(count, batch_size=batch, seed=seed, epoch=epoch, share=Share(k, world)) for k in range(world)]
    assert len({order.shape for order in shares}) == 1
    together = np.stack(shares, 1).reshape(-1)
    assert sorted(together[:count]) == list(range(count))
    assert len(together) - count < batch * world
    again = np.resize(together[:count], len(together))
    assert np.array_equal(together, again)


def test_every_epoch_and_every_seed_has_its_own_order():
    orders = [epoch_order(50, batch_size=50, seed=seed, epoch=epoch)[0] for seed in range(3) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 9


def phrases_in(padded):
    """The phrases of each photo, lists of units, without what fills them up."""
    lists = [[tuple(unit for unit in phrase if unit >= 0) for phrase in photo] for photo in padded.tolist()]
    return [[phrase for phrase in photo if phrase] for photo in lists]


def epoch(data, view=VIEW, **options):
    return list(photo_batches(data, TAGS, view, **{"batch_size": 4, "seed": 1, "epoch": 0} | options))


def test_the_batches_of_an_epoch_are_the_photos_in_its_order_with_their_units(photos):
    batches = epoch(photos)
    order = epoch_order(COUNT, batch_size=4, seed=1, epoch=0)
    assert numbers(batches) == order.flatten().tolist()
    for batch, indices in zip(batches, order, strict=True):
        units = [TAGS.units_of(photos.photos[index].tags) for index in indices]
        assert [[unit for unit in row.tolist() if unit >= 0] for row in batch.units] == units
        phrases = [TAGS.units_of_phrases(photos.photos[index].phrases) for index in indices]
        assert phrases_in(batch.phrases) == phrases
        assert batch.weights.tolist() == [1] * 4
        assert batch.unreadable == ()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_do_not_depend_on_the_workers_or_on_the_first_batch(noisy, workers):
    whole = epoch(noisy, batch_size=2)
    for first in (0, 1, 3, 4):
        assert_same_batches(epoch(noisy, batch_size=2, first=first, workers=workers), whole[first:])


def test_a_photo_looks_different_in_every_epoch_but_not_in_another_batch(noisy):
    def views(**options):
        order = epoch_order(7, batch_size=options["batch_size"], seed=1, epoch=options["epoch"]).flatten()
        inputs = torch.cat([batch.inputs for batch in epoch(noisy, **options)])
        return dict(zip(order.tolist(), inputs, strict=True))

    one, other, next_epoch = views(batch_size=1, epoch=0), views(batch_size=7, epoch=0), views(batch_size=7, epoch=1)
    for index in range(7):
        assert torch.equal(one[index], other[index])
        assert not torch.equal(one[index], next_epoch[index])


def test_two_processes_see_every_photo(photos):
    for first in (0, 1):
        parts = [epoch(photos, share=Share(rank, 2), first=first) for rank in range(2)]
        assert len(parts[0]) == len(parts[1]) == 3 - first
    assert set(numbers(epoch(photos, share=Share(0, 2))) + numbers(epoch(photos, share=Share(1, 2)))) == set(
        range(COUNT)
    )
    parts = [list(photo_batches_in_order(photos, TAGS, VIEW.whole, batch_size=4, share=Share(k, 2))) for k in range(2)]
    assert numbers(parts[0]) == list(range(0, COUNT, 2))
    assert numbers(parts[1]) == list(range(1, COUNT, 2))


def test_photos_in_order_come_once_and_the_same_way_each_time(photos, noisy):
    batches = list(photo_batches_in_order(photos, TAGS, VIEW.whole, batch_size=5, workers=1))
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
    assert numbers(batches) == list(range(COUNT))
    assert numbers(photo_batches_in_order(photos, TAGS, VIEW, batch_size=5, start=20)) == [20, 21, 22]
    assert not list(photo_batches_in_order(photos, TAGS, VIEW, batch_size=5, share=Share(2, 3), start=21))
    seeded = [list(photo_batches_in_order(noisy, TAGS, VIEW, batch_size=3, seed=(1, number))) for number in (0, 0, 1)]
    assert_same_batches(seeded[0], seeded[1])
    assert not torch.equal(seeded[0][0].inputs, seeded[2][0].inputs)


@pytest.mark.parametrize("workers", [0, 1])
def test_photos_that_cannot_be_read_are_grey_have_no_weight_and_are_reported(tmp_path, workers):
    for index in range(6):
        (tmp_path / f"{index}.png").write_bytes(plain_photo(index))
    (tmp_path / "1.png").write_bytes(plain_photo(1)[:45])
    (tmp_path / "2.png").write_bytes(b"")
    (tmp_path / "3.png").unlink()
    (tmp_path / "4.png").write_bytes(b"no photo")
    data = TaggedPhotos(tmp_path, [TaggedPhoto(f"{index}.png", ("dog",)) for index in range(6)], ())
    (batch,) = photo_batches_in_order(data, TAGS, VIEW, batch_size=6, workers=workers)
    check_broken(batch, [1, 2, 3, 4])
    assert [why.partition(": ")[2] for why in batch.unreadable][1:] == [
        "the file is empty",
        "No such file or directory",
        "not an image, or of an unknown format",
    ]
    assert batch.units[0].tolist() == [0]
    parts = batch.split(4)
    assert [len(part) for part in parts] == [2, 2, 1, 1]
    for column in ("inputs", "units", "phrases", "sources", "weights"):
        assert torch.equal(torch.cat([getattr(part, column) for part in parts]), getattr(batch, column)), column


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=5))
def test_lists_of_units_are_padded_by_minus_one(lists):
    units = pad_units(lists)
    assert units.shape == (len(lists), max(1, *map(len, lists)))
    assert [[unit for unit in row if unit >= 0] for row in units.tolist()] == lists


PHRASES = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple), max_size=4)


@given(st.lists(PHRASES, min_size=1, max_size=5))
def test_phrases_are_padded_by_minus_one(lists):
    padded = pad_phrases(lists)
    longest = max((len(phrase) for phrases in lists for phrase in phrases), default=1)
    assert padded.shape == (len(lists), max(1, *map(len, lists)), longest)
    assert phrases_in(padded) == lists


def test_a_squeezed_photo_is_read_at_its_own_aspect(tmp_path):
    half = np.zeros((20, 20, 3), np.uint8)
    half[:, 10:] = 250
    (tmp_path / "0.png").write_bytes(png(half))
    data = TaggedPhotos(tmp_path, [TaggedPhoto("0.png", ("dog",), size=(5, 10))], ())
    (batch,) = photo_batches_in_order(data, TAGS, VIEW.whole, batch_size=1)
    squeezed = replace(data, photos=[TaggedPhoto("0.png", ("dog",))])
    (plain,) = photo_batches_in_order(squeezed, TAGS, VIEW.whole, batch_size=1)
    expected = Image.fromarray(half).resize((10, 5), Image.Resampling.BILINEAR, reducing_gap=2)
    assert np.array_equal(batch.inputs[0, :, 2:7].permute(1, 2, 0).numpy(), np.asarray(expected))
    assert torch.equal(plain.inputs, batch.inputs)  # a stripe looks the same however high it is


def test_workers_leave_a_core_to_the_process_and_share_them_out(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [default_workers(world) for world in (1, 2, 8, 20)] == [7, 3, 0, 0]
    monkeypatch.delattr("os.sched_getaffinity")  # as on a Mac
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert default_workers() == 3


def test_a_batch_knows_its_length():
    columns = torch.zeros(3, 3, 8, 8), torch.zeros(3, 1), torch.zeros(3, 1, 1), torch.zeros(3), torch.ones(3)
    assert len(Batch(*columns, ())) == 3
