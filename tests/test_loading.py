import io
import itertools
import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
import train.loading
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from train.loading import (
    Batch,
    Share,
    View,
    _mirrored,
    batches_in_order,
    batches_of_photos,
    batches_of_shards,
    order_of_epoch,
    padded,
    show,
    usual_workers,
)

from train.data import Tagged, TaggedPhotos, TaggedShards
from train.vocabulary import TagVocabulary

TAGS = TagVocabulary(("dog", "cat", "red"), (3, 2, 1), {"dog": "dog", "cat": "cat", "red": "red"})
VIEW = View((12, 16), 10)
COUNT = 23


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def plain_photo(index):
    """A photo of one colour, which tells its number through every view."""
    return png(np.full((10 + index % 5, 14, 3), 10 * index, np.uint8))


def numbers(batches):
    """Which photos of one colour are in batches."""
    return [index for batch in batches for index in (batch.inputs[:, 0, 0, 0] // 10).tolist()]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    tagged = []
    for index in range(COUNT):
        (folder / f"{index}.png").write_bytes(plain_photo(index))
        tagged.append(Tagged(f"{index}.png", (TAGS.words[index % 3], "unknown", "red")[: 1 + index % 3]))
    return TaggedPhotos(folder, tagged, ())


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Photos in which every view looks different."""
    folder = tmp_path_factory.mktemp("noisy")
    random = np.random.default_rng(0)
    for index in range(7):
        (folder / f"{index}.png").write_bytes(png(random.integers(0, 256, (20, 30, 3), np.uint8)))
    return TaggedPhotos(folder, [Tagged(f"{index}.png", ("dog",)) for index in range(7)], ())


def write_shards(folder, sizes, content=plain_photo):
    urls, index = [], 0
    for number, size in enumerate(sizes):
        urls.append(str(folder / f"{number}.tar"))
        with tarfile.open(urls[-1], "w") as archive:
            for _ in range(size):
                tags = json.dumps({"tags": [TAGS.words[index % 3]]}).encode()
                for name, data in ((f"{index}.png", content(index)), (f"{index}.json", tags)):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
                index += 1
    return TaggedShards(tuple(urls), None)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Four shards of six photos each."""
    return write_shards(tmp_path_factory.mktemp("shards"), [6, 6, 6, 6])


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.units, other.units)
        assert torch.equal(one.weights, other.weights)
        assert one.unreadable == other.unreadable


# What the network sees of a photo.


@given(st.integers(1, 300), st.integers(1, 300))
def test_padding_is_the_mirror_image_as_numpy_has_it(length, side):
    side = max(length, side)
    before = (side - length) // 2
    expected = np.pad(np.arange(length), (before, side - length - before), "symmetric")
    assert _mirrored(length, side).tolist() == expected.tolist()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_a_view_is_a_window_of_the_photo_resized_and_padded(height, width, seed):
    random = np.random.default_rng(seed)
    photo = Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
    seen = show(photo, VIEW, np.random.default_rng(seed))
    assert seen.shape == (3, 10, 10)
    assert seen.dtype == np.uint8
    assert any(np.array_equal(seen, window) for window in windows(photo))


def windows(photo):
    """All that a view may show of a photo, written as it is said."""
    for side in range(VIEW.resize[0], VIEW.resize[1] + 1):
        scale = side / max(photo.size)
        size = [max(1, round(length * scale)) for length in photo.size]
        pixels = np.asarray(photo.resize(size, Image.Resampling.BILINEAR, reducing_gap=2))
        missing = [side - length for length in pixels.shape[:2]]
        square = np.pad(pixels, (*[(n // 2, n - n // 2) for n in missing], (0, 0)), "symmetric").transpose(2, 0, 1)
        for top in range(side - VIEW.crop + 1):
            for left in range(side - VIEW.crop + 1):
                window = square[:, top : top + VIEW.crop, left : left + VIEW.crop]
                yield from (window, window[:, :, ::-1])


@pytest.mark.parametrize("size", [(200, 1), (1, 200), (1, 1)])
def test_a_photo_may_be_as_thin_as_a_line(size):
    line = Image.fromarray(np.tile(np.arange(size[0], dtype=np.uint8)[None, :, None], (size[1], 1, 3)))
    seen = show(line, VIEW.whole, None)
    assert seen.shape == (3, 10, 10)
    assert (seen == seen[:, :1]).all() or (seen == seen[:, :, :1]).all()


def test_validation_sees_the_whole_photo_in_the_middle_and_as_it_is():
    pixels = np.zeros((6, 10, 3), np.uint8)
    pixels[..., 0] = np.arange(10) * 20
    pixels[..., 1] = np.arange(6)[:, None] * 40
    seen = show(Image.fromarray(pixels), VIEW.whole, None)
    assert np.array_equal(seen[:, 2:8].transpose(1, 2, 0), pixels)
    assert np.array_equal(seen[1, :, 0], [40, 0, 0, 40, 80, 120, 160, 200, 200, 160])
    between = show(Image.fromarray(pixels), View((14, 16), 10), None)  # without chance the smallest side, its middle
    assert np.array_equal(between, show(Image.fromarray(pixels), View((14, 14), 10), None))


def test_half_of_the_views_are_mirrored_and_all_windows_and_sides_occur():
    pixels = np.broadcast_to(np.arange(16, dtype=np.uint8)[None, :, None] * 10, (16, 16, 3))
    photo = Image.fromarray(np.ascontiguousarray(pixels))
    random = np.random.default_rng(0)
    flipped, firsts = 0, set()
    for _ in range(400):
        row = show(photo, View((16, 16), 10), random)[0, 0].astype(int)
        flipped += row[0] > row[-1]
        firsts.add(row.min() // 10)
    assert 160 < flipped < 240  # four deviations
    assert firsts == set(range(7))
    widths = {len(np.unique(show(photo, View((10, 12), 10), random)[0, 0])) for _ in range(50)}
    assert widths == {10}
    contrasts = {int(show(photo, View((10, 12), 10), random)[0, 0].max()) for _ in range(50)}
    assert len(contrasts) > 2


def test_a_squeezed_copy_comes_back_to_its_aspect():
    ellipse = np.zeros((40, 40, 3), np.uint8)
    ellipse[10:30, 15:25] = 255  # of a photo of 40×80 pixels, in which it is a square
    seen = show(Image.fromarray(ellipse), View((80, 80), 80), None, size=(40, 80))[0] > 127
    middle = seen[20:60]
    assert middle.any(1).sum() == 20
    assert middle.any(0).sum() == 20
    assert np.array_equal(seen[:20], middle[:20][::-1])


@pytest.mark.parametrize(
    ("resize", "crop"), [((12, 10), 10), ((9, 12), 10), ((10, 5000), 10), ((10, 10), 7), ((-1, 10), -1)]
)
def test_a_view_out_of_range_is_refused(resize, crop):
    with pytest.raises(ValueError, match=r"training\.resize must be two sides from training\.crop"):
        View(resize, crop)


# The order.


@given(
    st.integers(1, 60),
    st.integers(1, 7),
    st.integers(1, 4),
    st.integers(0, 2**31),
    st.integers(0, 5),
    st.integers(0, 9),
)
def test_an_epoch_has_every_photo_once_and_the_first_again_to_fill_up(count, batch, world, seed, epoch, first):
    shares = [order_of_epoch(count, batch=batch, seed=seed, epoch=epoch, share=Share(k, world)) for k in range(world)]
    assert len({order.shape for order in shares}) == 1
    together = np.stack(shares, 1).reshape(-1)
    assert sorted(together[:count]) == list(range(count))
    assert len(together) - count < batch * world
    again = np.resize(together[:count], len(together))
    assert np.array_equal(together, again)


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [order_of_epoch(50, batch=50, seed=seed, epoch=epoch)[0] for seed in range(3) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 9


def epoch(data, view=VIEW, **options):
    return list(batches_of_photos(data, TAGS, view, **{"batch": 4, "seed": 1, "epoch": 0} | options))


def test_the_batches_of_an_epoch_are_the_photos_in_its_order_with_their_units(photos):
    batches = epoch(photos)
    order = order_of_epoch(COUNT, batch=4, seed=1, epoch=0)
    assert numbers(batches) == order.flatten().tolist()
    for batch, indices in zip(batches, order, strict=True):
        units = [TAGS.units_of(photos.photos[index].tags) for index in indices]
        assert [[unit for unit in row.tolist() if unit >= 0] for row in batch.units] == units
        assert batch.weights.tolist() == [1] * 4
        assert batch.unreadable == ()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_the_same_whoever_makes_them_and_wherever_they_start(noisy, workers):
    whole = epoch(noisy, batch=2)
    for first in (0, 1, 3, 4):
        assert_same(epoch(noisy, batch=2, first=first, workers=workers), whole[first:])


def test_a_photo_looks_different_in_every_epoch_but_not_in_another_batch(noisy):
    def views(**options):
        order = order_of_epoch(7, batch=options["batch"], seed=1, epoch=options["epoch"]).flatten()
        inputs = torch.cat([batch.inputs for batch in epoch(noisy, **options)])
        return dict(zip(order.tolist(), inputs, strict=True))

    one, other, next_epoch = views(batch=1, epoch=0), views(batch=7, epoch=0), views(batch=7, epoch=1)
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
    parts = [list(batches_in_order(photos, TAGS, VIEW.whole, batch=4, share=Share(k, 2))) for k in range(2)]
    assert numbers(parts[0]) == list(range(0, COUNT, 2))
    assert numbers(parts[1]) == list(range(1, COUNT, 2))


def test_photos_in_order_come_once_and_the_same_way_each_time(photos, noisy):
    batches = list(batches_in_order(photos, TAGS, VIEW.whole, batch=5, workers=1))
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
    assert numbers(batches) == list(range(COUNT))
    assert numbers(batches_in_order(photos, TAGS, VIEW, batch=5, start=20)) == [20, 21, 22]
    assert not list(batches_in_order(photos, TAGS, VIEW, batch=5, share=Share(2, 3), start=21))
    seeded = [list(batches_in_order(noisy, TAGS, VIEW, batch=3, seed=(1, number))) for number in (0, 0, 1)]
    assert_same(seeded[0], seeded[1])
    assert not torch.equal(seeded[0][0].inputs, seeded[2][0].inputs)


# Shards.


def shard_epoch(data, **options):
    return list(batches_of_shards(data, TAGS, VIEW, **{"batch": 3, "seed": 1, "count": 8} | options))


@pytest.mark.parametrize("workers", [0, 1, 2, 9])
def test_a_resumed_epoch_of_shards_goes_on_as_the_unbroken_one(shards, workers, monkeypatch):
    monkeypatch.setattr(train.loading, "SHUFFLED", 4)
    if workers == 9:
        shards = replace(shards, urls=shards.urls[:2])  # there are two workers then
    whole = shard_epoch(shards, count=11, workers=workers)
    assert len(whole) == 11
    for first in (1, 2, 5, 10, 11) if workers < 2 else (3,):
        assert_same(shard_epoch(shards, count=11, workers=workers, first=first), whole[first:])


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (1, 2), (2, 0), (2, 1)])
def test_processes_and_workers_together_see_every_photo_of_the_shards_once(shards, world, workers):
    for number in range(2):
        options = {"epoch": number, "count": 8 // world, "workers": workers}
        seen = [numbers(shard_epoch(shards, share=Share(rank, world), **options)) for rank in range(world)]
        assert sorted(itertools.chain(*seen)) == list(range(24))


def test_every_epoch_of_shards_has_its_own_order_and_begins_anew_only_after_every_photo(shards):
    orders = [numbers(shard_epoch(shards, epoch=number, count=16)) for number in range(2)]
    for order in orders:
        assert sorted(order[:24]) == sorted(order[24:]) == list(range(24))
        assert order[:24] != order[24:]
    assert orders[0] != orders[1]
    assert orders[0][:24] != sorted(orders[0][:24])


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(1, 8), st.integers(1, 100), st.integers(0, 99))
def test_shuffling_loses_nothing_and_holds_no_more_than_it_may(sizes, most, bytes_held, seed):
    pulled = 0

    def photos():
        nonlocal pulled
        for number, size in enumerate(sizes):
            pulled += 1
            yield Tagged(str(number), ()), b"x" * size

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.loading, "SHUFFLED", most)
        patch.setattr(train.loading, "HELD", bytes_held)
        given_out = []
        for photo, content in train.loading._shuffled(photos(), np.random.default_rng(seed)):
            assert len(content) == sizes[int(photo.name)]
            given_out.append(int(photo.name))
            assert pulled - len(given_out) < most
            waiting = set(range(pulled)) - set(given_out)
            assert sum(sizes[number] for number in waiting) <= bytes_held + max(sizes)
    assert sorted(given_out) == list(range(len(sizes)))


def test_for_validation_shards_are_read_once_in_order(shards):
    batches = list(batches_of_shards(shards, TAGS, VIEW.whole, batch=5, seed=None))
    assert numbers(batches) == list(range(24))
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 4]
    seen = [
        numbers(batches_of_shards(shards, TAGS, VIEW.whole, batch=5, seed=None, share=Share(rank, 3), workers=2))
        for rank in range(3)
    ]
    assert sorted(itertools.chain(*seen)) == list(range(24))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_shard_gets_one_line_whoever_reads_it(tmp_path, workers):
    good = write_shards(tmp_path, [6])
    content = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(content[:2000])
    with pytest.raises(ValueError, match=r"^[^\n]*0\.tar: cannot be read to its end: [^\n]*$"):
        shard_epoch(good, workers=workers)


def test_shards_that_cannot_be_shared_out_or_are_empty_are_refused(shards, tmp_path):
    with pytest.raises(ValueError, match="5 processes need as many shards at least, and there are 4"):
        shard_epoch(shards, share=Share(0, 5))
    with pytest.raises(ValueError, match=r"0\.tar, .*1\.tar: no photo in it|1\.tar, .*0\.tar: no photo in it"):
        shard_epoch(write_shards(tmp_path, [0, 0]))


# What cannot be read.


def check_broken(batch, names):
    """The photos with these numbers are grey, weigh nothing and are told of, each in a line."""
    assert [name for name, weight in enumerate(batch.weights.tolist()) if weight == 0] == names
    for number in names:
        assert (batch.inputs[number] == 127).all()
        assert (batch.units[number] == -1).all()
    assert len(batch.unreadable) == len(names)
    for number, why in zip(names, batch.unreadable, strict=True):
        assert why.startswith(f"{number}.png: ")
        assert "\n" not in why


@pytest.mark.parametrize("workers", [0, 1])
def test_photos_that_cannot_be_read_are_grey_weigh_nothing_and_are_told_of(tmp_path, workers):
    for index in range(6):
        (tmp_path / f"{index}.png").write_bytes(plain_photo(index))
    (tmp_path / "1.png").write_bytes(plain_photo(1)[:45])
    (tmp_path / "2.png").write_bytes(b"")
    (tmp_path / "3.png").unlink()
    (tmp_path / "4.png").write_bytes(b"no photo")
    data = TaggedPhotos(tmp_path, [Tagged(f"{index}.png", ("dog",)) for index in range(6)], ())
    (batch,) = batches_in_order(data, TAGS, VIEW, batch=6, workers=workers)
    check_broken(batch, [1, 2, 3, 4])
    assert [why.partition(": ")[2] for why in batch.unreadable][1:] == [
        "the file is empty",
        "No such file or directory",
        "not an image, or of an unknown format",
    ]
    assert batch.units[0].tolist() == [0]
    parts = batch.split(4)
    assert [len(part) for part in parts] == [2, 2, 1, 1]
    assert torch.equal(torch.cat([part.weights for part in parts]), batch.weights)


def test_photos_of_shards_that_cannot_be_read_are_told_of_too(tmp_path):
    data = write_shards(tmp_path, [4], lambda index: plain_photo(index) if index % 2 else b"junk")
    with tarfile.open(tmp_path / "0.tar", "a") as archive:
        member = tarfile.TarInfo("4.png")  # without tags
        archive.addfile(member)
    (batch,) = batches_of_shards(data, TAGS, VIEW, batch=8, seed=None)
    check_broken(batch, [0, 2, 4])
    assert batch.unreadable[2] == "4.png: no 4.json beside it"


# Odds and ends.


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=5))
def test_lists_of_units_are_padded_by_minus_one(lists):
    units = padded(lists)
    assert units.shape == (len(lists), max(1, *map(len, lists)))
    assert [[unit for unit in row if unit >= 0] for row in units.tolist()] == lists


def test_a_squeezed_photo_is_read_at_its_own_aspect(tmp_path):
    half = np.zeros((20, 20, 3), np.uint8)
    half[:, 10:] = 250
    (tmp_path / "0.png").write_bytes(png(half))
    data = TaggedPhotos(tmp_path, [Tagged("0.png", ("dog",), size=(5, 10))], ())
    (batch,) = batches_in_order(data, TAGS, VIEW.whole, batch=1)
    squeezed = replace(data, photos=[Tagged("0.png", ("dog",))])
    (plain,) = batches_in_order(squeezed, TAGS, VIEW.whole, batch=1)
    expected = Image.fromarray(half).resize((10, 5), Image.Resampling.BILINEAR, reducing_gap=2)
    assert np.array_equal(batch.inputs[0, :, 2:7].permute(1, 2, 0).numpy(), np.asarray(expected))
    assert torch.equal(plain.inputs, batch.inputs)  # a stripe looks the same however high it is


def test_workers_leave_a_core_to_the_process_and_share_them_out(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [usual_workers(world) for world in (1, 2, 8, 20)] == [7, 3, 0, 0]
    monkeypatch.delattr("os.sched_getaffinity")  # as on a Mac
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert usual_workers() == 3


def test_a_batch_knows_its_length():
    assert len(Batch(torch.zeros(3, 3, 8, 8), torch.zeros(3, 1), torch.zeros(3), torch.ones(3), ())) == 3
