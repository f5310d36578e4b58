import itertools
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from batch_photos import TAGS, VIEW, assert_same_batches, check_broken, numbers, plain_photo, write_shards
from hypothesis import given
from hypothesis import strategies as st

import train.shards
from train.data import TaggedPhoto
from train.distributed import Share
from train.shards import shard_batches


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Four shards of six photos each."""
    return write_shards(tmp_path_factory.mktemp("shards"), [6, 6, 6, 6])


def shard_epoch(data, **options):
    return list(shard_batches(data, TAGS, VIEW, **{"batch_size": 3, "seed": 1, "count": 8} | options))


@pytest.mark.parametrize("workers", [0, 1, 2, 9])
def test_a_resumed_epoch_of_shards_goes_on_as_the_unbroken_one(shards, workers, monkeypatch):
    monkeypatch.setattr(train.shards, "SHUFFLE_BUFFER", 4)
    if workers == 9:
        shards = replace(shards, urls=shards.urls[:2])  # there are two workers then
    whole = shard_epoch(shards, count=11, workers=workers)
    assert len(whole) == 11
    for first in (1, 2, 5, 10, 11) if workers < 2 else (3,):
        assert_same_batches(shard_epoch(shards, count=11, workers=workers, first=first), whole[first:])


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
            yield TaggedPhoto(str(number), ()), b"x" * size

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.shards, "SHUFFLE_BUFFER", most)
        patch.setattr(train.shards, "SHUFFLE_BYTES", bytes_held)
        given_out = []
        for photo, content in train.shards.shuffled(photos(), np.random.default_rng(seed)):
            assert len(content) == sizes[int(photo.name)]
            given_out.append(int(photo.name))
            assert pulled - len(given_out) < most
            waiting = set(range(pulled)) - set(given_out)
            assert sum(sizes[number] for number in waiting) <= bytes_held + max(sizes)
    assert sorted(given_out) == list(range(len(sizes)))


def test_for_validation_shards_are_read_once_in_order(shards):
    batches = list(shard_batches(shards, TAGS, VIEW.whole, batch_size=5, seed=None))
    assert numbers(batches) == list(range(24))
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 4]
    seen = [
        numbers(shard_batches(shards, TAGS, VIEW.whole, batch_size=5, seed=None, share=Share(rank, 3), workers=2))
        for rank in range(3)
    ]
    assert sorted(itertools.chain(*seen)) == list(range(24))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_shard_gets_a_one_line_error_with_and_without_workers(tmp_path, workers):
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


def test_photos_of_shards_that_cannot_be_read_are_reported(tmp_path):
    data = write_shards(tmp_path, [4], lambda index: plain_photo(index) if index % 2 else b"junk")
    with tarfile.open(tmp_path / "0.tar", "a") as archive:
        member = tarfile.TarInfo("4.png")  # without tags
        archive.addfile(member)
    (batch,) = shard_batches(data, TAGS, VIEW, batch_size=8, seed=None)
    check_broken(batch, [0, 2, 4])
    assert batch.unreadable[2] == "4.png: no 4.json beside it"
