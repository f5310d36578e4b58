"""Archives that are broken, changed, odd or in use: what is read of them, and what is refused."""

import io
import json
import os
import tarfile

import pyarrow as pa
import pytest
from command_settings import QUICK
from PIL import Image
from pyarrow import parquet

from grounding.batch.parts import Output
from grounding.batch.reading import count_rows, fingerprints, read_rows
from grounding.batch.run import Archive, describe, ground_archive, unanswered
from grounding.config import compose_grounder

SETTINGS = compose_grounder(list(QUICK))
MADE = {"archive": "rows.jsonl"}


@pytest.fixture
def run(tmp_path, quick_grounder, monkeypatch):
    """Ground some rows of one photo with the quick grounder; the answers."""
    monkeypatch.setattr("grounding.pipeline.Grounder.from_settings", lambda settings: quick_grounder)
    Image.new("RGB", (80, 60), "red").save(tmp_path / "red.png")

    def ground(rows, output):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps({"image": "red.png", "phrases": ["cat"], **row}) + "\n" for row in rows))
        for _ in ground_archive(Archive(str(path), output, part_rows=2, workers=0), SETTINGS, tmp_path):
            pass
        if output.suffix == ".parquet":
            return parquet.read_table(output).to_pylist()
        return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]

    return ground


def shard(path, keys, length=None):
    """A tar file with a photo and a caption for each key, of which a number of bytes is kept."""
    with tarfile.open(path, "w") as file:
        for key in keys:
            for name, content in ((f"{key}.jpg", b"photo" * 1000), (f"{key}.txt", b"A cat")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    if length is not None:
        os.truncate(path, length)


def answer(number, error=None):
    return {"id": number, "image": "a.jpg", "size": None, "captions": None, "phrases": None, "error": error}


def test_a_shard_that_breaks_off_has_its_rows_before_that_and_one_error_and_the_next_shard_follows(tmp_path):
    shard(tmp_path / "0.tar", ["a", "b", "c"], length=16_000)  # within the photo of c
    shard(tmp_path / "1.tar", ["d"])
    rows = list(read_rows(f"{tmp_path}/{{0,1}}.tar"))
    assert [row.get("id") for row in rows] == ["a", "b", None, "d"]
    assert "0.tar: cannot be read to its end" in rows[2]["error"]
    assert [row["caption"] for row in rows if "error" not in row] == ["A cat"] * 3


def test_a_shard_of_the_network_that_breaks_off_ends_the_run(tmp_path):
    import fsspec

    shard(tmp_path / "0.tar", ["a", "b"], length=8_000)
    with fsspec.open("memory://archives/0.tar", "wb") as file:
        file.write((tmp_path / "0.tar").read_bytes())
    rows = read_rows("memory://archives/0.tar")
    assert next(rows)["id"] == "a"
    with pytest.raises(ValueError, match="cannot be read to its end"):
        next(rows)


def test_bad_lines_of_a_csv_file_are_errors_and_the_others_go_on(tmp_path):
    path = tmp_path / "rows.csv"
    long = b"x" * 200_000
    path.write_bytes(b'image,caption\na.jpg,"' + long + b"\nb.jpg,A caf\xe9\nc.jpg\nd.jpg,A cat,more,cells\n")
    bad, latin, short, wide = read_rows(str(path))
    assert "after line 1: cannot be read: field larger than field limit" in bad["error"]
    assert latin == {"image": f"{tmp_path}/b.jpg", "caption": "A caf\udce9"}  # which has an error when it is parsed
    assert short == {"image": f"{tmp_path}/c.jpg"}
    assert wide == {"image": f"{tmp_path}/d.jpg", "caption": "A cat"}


def test_only_the_columns_that_are_known_count(tmp_path):
    path = tmp_path / "rows.parquet"
    row = {"image": "a.jpg", "caption": "A cat", "error": "of another program", "more": 1}
    parquet.write_table(pa.Table.from_pylist([row]), path)
    assert list(read_rows(str(path))) == [{"image": f"{tmp_path}/a.jpg", "caption": "A cat"}]
    assert count_rows(str(path)) == 1
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n\n")
    assert list(read_rows(str(tmp_path / "rows.jsonl"))) == [{"image": f"{tmp_path}/a.jpg", "caption": "A cat"}]
    assert count_rows(str(tmp_path / "rows.jsonl")) == 1


@pytest.mark.parametrize("name", ["rows.parquet", "nowhere.csv", "nowhere.parquet", "nowhere.tar"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(ValueError, match=name):
        list(read_rows(str(tmp_path / name)))


def test_an_archive_has_changed_if_and_only_if_its_content_has(tmp_path):
    import fsspec

    path = tmp_path / "rows.csv"
    path.write_text("image,caption\na.jpg,A cat\n")
    before = fingerprints(str(path))
    os.utime(path, (1, 1))
    assert fingerprints(str(path)) == before
    path.write_text("image,caption\na.jpg,A dog\n")
    assert fingerprints(str(path)) != before
    url = "memory://archives/rows.csv"
    for content in (b"image,caption\n", b"image,caption,id\n"):
        with fsspec.open(url, "wb") as file:
            file.write(content)
        assert fingerprints(url) == fingerprints(url) != before
        before = fingerprints(url)


def test_ids_of_all_kinds_fit_into_one_column(tmp_path, run):
    ids = [7, "7", "a", None, 2**70, "\udce9", True]
    rows = run([{"id": identity} for identity in ids], tmp_path / "out.parquet")
    assert [row["id"] for row in rows] == ["7", "7", "a", "3", "4", "5", "6"]
    assert [row["error"] is None for row in rows] == [True, False, True, True, False, False, False]
    assert "row 1 has the id of row 0, '7'" in rows[1]["error"]
    assert all("id is a whole number of 64 bits or a text" in row["error"] for row in rows[4:])


def test_rows_without_ids_need_no_memory_for_them():
    numbered = list(unanswered([{"image": "a.jpg"}] * 3, {1}, 1))
    assert numbered == [(0, {"image": "a.jpg", "id": 0}), (2, {"image": "a.jpg", "id": 2})]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_an_archive_without_rows_has_an_output_without_rows(tmp_path, run, form):
    assert run([], tmp_path / "new" / "folder" / f"out.{form}") == []


def test_an_archive_that_changes_while_it_is_read_is_not_joined(tmp_path, run):
    run([{}], tmp_path / "before.jsonl")
    path, output = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    progress = ground_archive(Archive(str(path), output, part_rows=1, workers=0), SETTINGS, tmp_path)
    next(progress)
    path.write_text(path.read_text() * 2)
    with pytest.raises(ValueError, match="was changed while it was read"):
        list(progress)
    assert not output.exists()


def test_two_runs_do_not_write_the_same_answers(tmp_path):
    output = Output(tmp_path / "out.jsonl", MADE)
    with output.opened() as is_finished:
        assert not is_finished
        with pytest.raises(OSError, match="another run is writing these answers"), output.opened():
            pass
    with output.opened() as is_finished:
        output.write(0, [answer(0)])
        output.join()
    with output.opened() as is_finished:
        assert is_finished
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "out.jsonl.made.json"]


def test_what_is_different_is_named(tmp_path):
    with Output(tmp_path / "out.jsonl", {"overlap": 0.7, "count": 10}).opened():
        pass
    with pytest.raises(ValueError, match=r"another archive, model or setting \(overlap\)"):
        Output(tmp_path / "out.jsonl", {"overlap": 0.5, "count": 10}).opened().__enter__()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    folder = tmp_path / "out.jsonl.parts"
    folder.mkdir()
    (folder / "letters.txt").write_text("Dear …")
    with pytest.raises(ValueError, match="a folder with other files"):
        Output(tmp_path / "out.jsonl", MADE).opened().__enter__()
    assert (folder / "letters.txt").exists()


def test_answers_do_not_go_to_urls():
    from pathlib import Path

    with pytest.raises(ValueError, match="answers go to a file of this machine"):
        Output(Path("s3://bucket/out.parquet"), MADE)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_disk_that_is_full_when_parts_are_joined_keeps_them(tmp_path, monkeypatch, form):
    output = Output(tmp_path / f"out.{form}", MADE)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with output.opened():
        for index in range(3):
            output.write(index, [answer(index, "an error"[: 8 * (index == 1)] or None)])
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", full)
            with pytest.raises(OSError, match=r"No space left .*; its parts are kept"):
                output.join()
        assert not output.path.exists()
        assert [(part.index, part.rows, part.errors) for part in output.finished()] == [(0, 1, 0), (1, 1, 1), (2, 1, 0)]
        output.join()
    assert (output.told()["rows"], output.told()["errors"]) == (3, 1)


def test_stored_proposals_that_have_changed_are_other_settings(tmp_path, quick_grounder):
    from dataclasses import replace

    settings = replace(SETTINGS, proposals={"path": str(tmp_path / "stored.h5")})
    found = []
    for content in (None, b"some", b"others"):
        if content:
            (tmp_path / "stored.h5").write_bytes(content)
        found.append(describe(settings, quick_grounder)["stored_proposals"])
    assert len(set(found)) == 3
