"""Stores: they return what was added to them, after interruptions and with damaged files, too."""

import json
import multiprocessing
import pickle
from contextlib import suppress

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from grounding.records import Regions, Segments
from proposals.store.reading import File, Stored, key_of
from proposals.store.writing import Entry, Writer, arrays_of, stamp_of

SETTINGS = {"_target_": "proposals.EdgeBoxes", "count": 500, "edges": {"sigma": 1.5}}


def photo(seed, height=7, width=9):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


@st.composite
def proposals(draw):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    count = draw(st.integers(0, 6))
    boxes = torch.rand(count, 4, generator=generator) * 300
    scores = torch.rand(count, generator=generator).sort(descending=True).values
    if draw(st.booleans()):
        return Regions(boxes, scores)
    highest = draw(st.sampled_from([0, 3, 255, 256, 70_000]))
    superpixels = torch.randint(0, highest + 1, (draw(st.integers(1, 5)), draw(st.integers(1, 5))), generator=generator)
    sizes = torch.randint(0, 4, (count,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), sizes.cumsum(0)])
    indices = superpixels.flatten()[torch.randint(0, superpixels.numel(), (int(offsets[-1]),), generator=generator)]
    return Segments(boxes, scores, superpixels.int(), (offsets, indices))


def entry(seed, regions=None, name=None):
    regions = Regions(torch.full((2, 4), float(seed)), torch.ones(2)) if regions is None else regions
    return Entry(File(name or f"{seed}.png", key_of(photo(seed)), f"{seed:032}"), (7, 9), arrays_of(regions))


def store(path, *entries, values=SETTINGS, failed=None):
    with Writer(path, values) as writer:
        for one in entries:
            writer.add(one)
        writer.finish(failed or {})
    return path


def equal(left, right):
    assert type(left) is type(right)
    assert torch.equal(left.boxes, right.boxes)
    assert torch.equal(left.scores, right.scores)
    if isinstance(left, Segments):
        assert torch.equal(left.superpixels.long(), right.superpixels.long())
        assert all(torch.equal(a.long(), b.long()) for a, b in zip(left.members, right.members, strict=True))
    return True


@settings(max_examples=30)
@given(st.lists(proposals(), max_size=4), st.integers(0, 7))
def test_what_goes_in_comes_out(tmp_path_factory, several, count):
    entries = [entry(seed, regions) for seed, regions in enumerate(several)]
    path = store(tmp_path_factory.mktemp("law") / "s.h5", *entries)
    stored = Stored(path, count=count or None)
    assert len(stored) == len(several)
    for seed, regions in enumerate(several):
        assert equal(stored(photo(seed)), regions[: count or None])


def test_a_photo_is_found_whatever_it_comes_as(tmp_path):
    pixels = (photo(1).permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "moved.png")
    stored = Stored(store(tmp_path / "s.h5", entry(1)))
    for source in (pixels, Image.fromarray(pixels), tmp_path / "moved.png", str(tmp_path / "moved.png"), photo(1)):
        assert equal(stored(source), stored(photo(1)))
    turned = np.ascontiguousarray(pixels.reshape(9, 7, 3))  # the same bytes, another photo
    with pytest.raises(ValueError, match=r"a photo of 9×7 pixels is not among the 1 photos of .*s\.h5; `python -m"):
        stored(turned)


def test_a_store_says_what_it_holds(tmp_path):
    path = store(tmp_path / "s.h5", entry(1), entry(2, name="caf\udce9\0.png"), failed={"x.png": "x.png: too large"})
    stored = Stored(path)
    assert [file.name for file in stored.files()] == ["1.png", "caf\udce9\0.png"]
    assert stored.failed() == {"x.png": "x.png: too large"}
    assert stored.settings == SETTINGS
    assert stored.versions["numpy"] == np.__version__
    with h5py.File(path) as file:
        group = file["photos"][key_of(photo(1))]
        assert (group.attrs["name"], tuple(group.attrs["size"])) == (b"1.png", (7, 9))


def test_photos_that_look_the_same_share_an_entry(tmp_path):
    path = store(tmp_path / "s.h5", entry(1), Entry(File("twin.png", key_of(photo(1)), "t" * 32), (7, 9), None))
    store(path, Entry(File("third.png", key_of(photo(1)), "u" * 32), (7, 9), None))
    assert len(Stored(path)) == 1
    assert [file.name for file in Stored(path).files()] == ["1.png", "twin.png", "third.png"]


def test_a_store_grows_and_keeps_what_it_had(tmp_path):
    path = store(tmp_path / "s.h5", entry(1), failed={"2.png": "2.png: empty", "3.png": "3.png: empty"})
    store(path, entry(2))
    stored = Stored(path)
    assert equal(stored(photo(1)), Regions(torch.full((2, 4), 1.0), torch.ones(2)))
    assert equal(stored(photo(2)), Regions(torch.full((2, 4), 2.0), torch.ones(2)))
    assert set(stored.failed()) == {"3.png"}  # 2.png has been read since
    before = path.read_bytes()
    store(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_finished_before_an_error_is_kept(tmp_path):
    with suppress(ZeroDivisionError), Writer(tmp_path / "s.h5", SETTINGS) as writer:
        writer.add(entry(1))
        raise ZeroDivisionError
    with Writer(tmp_path / "s.h5", SETTINGS) as writer:
        assert writer.stamps == {f"{1:032}"}
        writer.finish({})
    assert len(Stored(tmp_path / "s.h5")) == 1


@pytest.mark.parametrize("where", ["store", "parts"])
def test_other_settings_are_refused_by_name_and_value(tmp_path, where):
    path = tmp_path / "s.h5"
    with Writer(path, SETTINGS) as writer:
        writer.add(entry(1))
        if where == "store":
            writer.finish({})
    other = {**SETTINGS, "edges": {"sigma": 2.0}}
    message = r"proposals\.edges\.sigma=1\.5 \(now 2\.0\); name another file with output=…, or delete"
    for _ in range(2):  # the lock is not kept, either
        with pytest.raises(ValueError, match=message) as caught:
            Writer(path, other)
        assert "count" not in str(caught.value)
        assert ("s.h5.parts" in str(caught.value)) == (where == "parts")


def test_settings_that_change_no_proposals_may_differ(tmp_path):
    """A device, and the step of earlier versions where it was off."""
    path = store(tmp_path / "s.h5", entry(1), values={**SETTINGS, "device": "cpu", "spectral": 0.0})
    assert equal(Stored(path)(photo(1)), Regions(torch.full((2, 4), 1.0), torch.ones(2)))
    store(path, entry(2), values={**SETTINGS, "device": "auto"})
    assert len(Stored(path)) == 2
    path = store(tmp_path / "other.h5", entry(1), values={**SETTINGS, "spectral": 0.5})
    with pytest.raises(ValueError, match=r"proposals\.spectral=0\.5 \(now unset\)"):
        store(path, entry(2))


def test_other_versions_are_a_warning_and_are_noted(tmp_path, monkeypatch, caplog):
    path = store(tmp_path / "s.h5", entry(1))
    for module in ("reading", "writing"):
        monkeypatch.setattr(f"proposals.store.{module}.package_versions", lambda: {"numpy": "99.0"})
    store(path, entry(2))
    assert f"made with numpy {np.__version__}, here is 99.0" in caplog.text
    assert Stored(path).versions["numpy"] == f"{np.__version__}, 99.0"


def test_two_runs_do_not_write_to_one_store(tmp_path):
    with Writer(tmp_path / "s.h5", SETTINGS), pytest.raises(ValueError, match="another run is writing"):
        Writer(tmp_path / "s.h5", SETTINGS)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda _: b"", lambda _: b"no HDF5 file"])
def test_a_damaged_part_is_computed_again(tmp_path, caplog, damage):
    path = tmp_path / "s.h5"
    with Writer(path, SETTINGS) as writer:
        writer.add(entry(1))
        writer.flush()
        writer.add(entry(2))
    part = tmp_path / "s.h5.parts" / "000001.h5"
    part.write_bytes(damage(part.read_bytes()))
    (part.parent / "tmp.part").write_bytes(b"left by a kill")
    with Writer(path, SETTINGS) as writer:
        assert writer.stamps == {f"{2:032}"}
        writer.finish({})
    assert "000001.h5: no store of proposals, or cut short" in caplog.text
    assert equal(Stored(path)(photo(2)), Regions(torch.full((2, 4), 2.0), torch.ones(2)))
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_costs_nothing_that_is_finished(tmp_path, monkeypatch):
    path = store(tmp_path / "s.h5", entry(1))
    before = path.read_bytes()
    written = []

    def fail_after_the_part(descriptor):
        if written:
            raise OSError(28, "No space left on device")
        written.append(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", fail_after_the_part)
        with pytest.raises(OSError, match=r"s\.h5 cannot be written: No space left"):
            store(path, entry(2))
    assert path.read_bytes() == before
    assert {file.name for file in (tmp_path / "s.h5.parts").iterdir()} == {"000001.h5", "lock"}
    store(path)
    assert len(Stored(path)) == 2


@pytest.mark.parametrize("value", [torch.nan, 1e300])
def test_numbers_that_are_not_finite_are_not_stored(value):
    with pytest.raises(ValueError, match="boxes or scores of the proposals are NaN or infinite"):
        arrays_of(Regions(torch.full((1, 4), value, dtype=torch.double), torch.ones(1)))


@pytest.mark.parametrize("members", [([0, 1], [9]), ([0, 2], [0]), ([1, 1], [0]), ([0], []), ([0, 1], [-1])])
def test_segments_that_are_no_sets_of_superpixels_are_not_stored(members):
    superpixels = torch.tensor([[0, 1], [2, 2]])
    with pytest.raises(ValueError, match=r"offsets|superpixels"):
        arrays_of(Segments(torch.zeros(1, 4), torch.ones(1), superpixels, tuple(map(torch.tensor, members))))


def test_what_is_no_store_is_refused(tmp_path):
    path = store(tmp_path / "s.h5", entry(1))
    cut = tmp_path / "cut.h5"
    cut.write_bytes(path.read_bytes()[:-100])
    (tmp_path / "text.h5").write_text("text")
    h5py.File(tmp_path / "other.h5", "w").close()
    cases = {"nowhere.h5": "no such file", ".": "not a file", "cut.h5": "cut short", "text.h5": "no store of proposals",
             "other.h5": "no store of proposals of this version"}  # fmt: skip
    for name, message in cases.items():
        with pytest.raises(ValueError, match=message):
            Stored(tmp_path / name)
        if name not in ("nowhere.h5", "."):
            with pytest.raises(ValueError, match=message):
                Writer(tmp_path / name, SETTINGS)
    with pytest.raises(ValueError, match="count must be at least 1"):
        Stored(path, count=0)


def spoil_nan(group, secret):
    group["scores"][0] = np.nan


def spoil_shape(group, secret):
    del group["boxes"]
    group["boxes"] = np.zeros((2, 3), np.float32)


def spoil_type(group, secret):
    del group["boxes"]
    group.create_dataset("boxes", data=["text"] * 2, dtype=h5py.string_dtype())


def spoil_size(group, secret):
    del group["scores"]
    group.create_dataset("scores", (2**40,), "f4", chunks=(2**10,))


def spoil_link(group, secret):
    del group["scores"]
    group["scores"] = h5py.ExternalLink(secret, "scores")


def spoil_soft_link(group, secret):
    del group["scores"]
    group["scores"] = h5py.SoftLink("/elsewhere")


def spoil_storage(group, secret):
    del group["scores"]
    group.create_dataset("scores", (2,), "f4", external=[(secret, 0, 8)])


def spoil_view(group, secret):
    del group["scores"]
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource(secret, "scores", (2,))
    group.create_virtual_dataset("scores", layout)


@pytest.mark.parametrize(
    "spoil",
    [spoil_nan, spoil_shape, spoil_type, spoil_size, spoil_link, spoil_soft_link, spoil_storage, spoil_view],
)
def test_a_hostile_store_is_an_error_of_one_line_and_reads_no_other_file(tmp_path, spoil):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["scores"] = np.ones(2, np.float32)
    path = store(tmp_path / "s.h5", entry(1))
    with h5py.File(path, "a") as file:
        spoil(file["photos"][key_of(photo(1))], str(secret))
    with pytest.raises(ValueError, match=r"s\.h5: the proposals of a photo of 7×9 pixels cannot be read") as caught:
        Stored(path)(photo(1))
    assert "\n" not in str(caught.value)


def test_a_photo_behind_a_link_is_not_there(tmp_path):
    path, other = store(tmp_path / "s.h5", entry(1)), store(tmp_path / "other.h5", entry(2))
    with h5py.File(path, "a") as file:
        file["photos"][key_of(photo(2))] = h5py.ExternalLink(str(other), f"photos/{key_of(photo(2))}")
        file.attrs["settings"] = np.bytes_(json.dumps([1]))
    with pytest.raises(ValueError, match="is not among"):
        Stored(path)(photo(2))
    with pytest.raises(ValueError, match="its settings are missing or damaged"):
        Stored(path).settings  # noqa: B018


def boxes_of(stored, seed, answers):
    answers.put(stored(photo(seed)).boxes.tolist())


def test_a_store_goes_to_other_processes(tmp_path):
    stored = Stored(store(tmp_path / "s.h5", entry(1)))
    expected = stored(photo(1))
    assert equal(pickle.loads(pickle.dumps(stored))(photo(1)), expected)
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    process = fork.Process(target=boxes_of, args=(stored, 1, answers))
    process.start()
    assert answers.get(timeout=20) == expected.boxes.tolist()
    process.join()


def test_a_stamp_changes_when_a_file_does(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    first = stamp_of(tmp_path / "a")
    assert first == stamp_of(str(tmp_path / "a"))
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "b").write_bytes(b"1")
    assert len({first, stamp_of(tmp_path / "a"), stamp_of(tmp_path / "b"), ""}) == 4
    assert stamp_of(tmp_path / "nowhere") == stamp_of("a\0b") == ""
