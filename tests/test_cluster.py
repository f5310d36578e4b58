"""Archives on a cluster: what is asked of ids and answers, and runs of Ray whose processes are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pytest
from command_settings import QUICK, composed
from PIL import Image
from pyarrow import dataset, parquet

from grounding.batch import ground_batch
from grounding.batch.cluster import Cluster, GroundBatch, Place, count_errors, ground_on_cluster, read_ids
from grounding.batch.command import ground_data
from grounding.batch.parts import as_columns, schema
from grounding.batch.run import fingerprint
from grounding.config import compose_grounder
from grounding.quoting import quote_free_text

SETTINGS = compose_grounder(list(QUICK))
ROWS = 48
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason='needs pip install "phrase-grounding[cluster]"')


@pytest.fixture
def archive(tmp_path, examples):
    """A table of rows whose photos are small, some of them missing; their ids are in no order."""
    for name in ("chelsea", "coffee"):
        Image.fromarray(examples[name]).resize((120, 90)).save(tmp_path / f"{name}.jpg")
    images = ("chelsea.jpg", "coffee.jpg", "nowhere.jpg", "coffee.jpg")
    rows = [{"id": 97 * n % 101, "image": images[n % 4], "captions": [f"A cat and a cup {n}"]} for n in range(ROWS)]
    return table(tmp_path / "rows.parquet", rows)


def table(path, rows):
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"image": "a.jpg"}], "needs a column id of whole numbers .* found None"),
        ([{"id": "a"}], "needs a column id of whole numbers .* found string"),
        ([{"id": 3}, {"id": None}], "a row has no id"),
        ([{"id": 3}, {"id": 5}, {"id": 3}], "1 rows have the id of another, such as 3"),
    ],
)
def test_an_archive_without_ids_of_its_own_is_refused(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        read_ids(Place.of(str(table(tmp_path / "rows.parquet", rows))))


def test_places_that_cannot_be_read_are_one_line(tmp_path):
    (tmp_path / "rows.parquet").write_bytes(b"no table")
    for url in (str(tmp_path / "rows.parquet"), str(tmp_path / "nowhere"), "nosuch://bucket/rows.parquet"):
        with pytest.raises(ValueError, match=r"rows\.parquet|nowhere") as raised:
            Place.of(url).table()
        assert "\n" not in str(raised.value)


def expected_answers(grounder, archive):
    """The answers of the batch function without Ray, by id."""
    rows = [row | {"image": str(archive.parent / row["image"])} for row in parquet.read_table(archive).to_pylist()]
    answers = pa.Table.from_pylist(
        list(map(as_columns, ground_batch(grounder, rows))), schema=schema(has_text_ids=False)
    )
    return sorted(answers.to_pylist(), key=lambda answer: answer["id"])


def test_an_actor_gives_the_answers_of_the_batch_function(archive, quick_grounder, monkeypatch):
    monkeypatch.setattr("grounding.pipeline.Grounder.from_settings", lambda settings: quick_grounder)
    actor = GroundBatch(SETTINGS, fingerprint(SETTINGS, quick_grounder), str(archive.parent))
    rows = parquet.read_table(archive).slice(0, 3)
    parquet.write_table(rows, archive)
    answers = archive.with_name("answers.parquet")
    parquet.write_table(actor(rows), answers)
    found = sorted(parquet.read_table(answers).to_pylist(), key=lambda answer: answer["id"])
    assert found == expected_answers(quick_grounder, archive)
    assert count_errors(Place.of(str(answers))) == 1
    with pytest.raises(ValueError, match="other weights"):
        GroundBatch(SETTINGS, "another", str(archive.parent))


def test_answers_of_other_settings_or_archives_are_refused(archive, quick_grounder, monkeypatch):
    monkeypatch.setattr("grounding.pipeline.Grounder.from_settings", lambda settings: quick_grounder)
    monkeypatch.setattr("grounding.batch.cluster._ray", lambda: None)
    output = archive.parent / "out"
    made = {"fingerprint": fingerprint(SETTINGS, quick_grounder), "archive": str(archive), "rows": ROWS, "errors": 12}
    Place.of(f"{output}.made.json").write(json.dumps(made).encode())
    done = ground_on_cluster(str(archive), str(output), SETTINGS, Cluster())
    assert (done.rows, done.errors, done.answered) == (ROWS, 12, 0)
    other = table(archive.with_name("other.parquet"), [{"id": 0}])
    for path, settings in ((archive, replace(SETTINGS, count=3)), (other, SETTINGS)):
        with pytest.raises(ValueError, match="answers of another archive, model or setting"):
            ground_on_cluster(str(path), str(output), settings, Cluster())
    Path(f"{output}.made.json").unlink()
    table(output, [{"id": 0}])  # of unknown origin
    with pytest.raises(ValueError, match="answers of another archive, model or setting"):
        ground_on_cluster(str(archive), str(output), SETTINGS, Cluster())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runner=spark"], "choose runner=local or runner=ray"),
        (["runner=ray", "workers=2"], "workers= is a setting of runner=local alone"),
        (["runner=ray", "pictures=2"], "pictures= is a setting of runner=local alone"),
        (["runner=ray", "cluster.actors=0"], "actors must be at least 1"),
        (["runner=ray", "cluster.gpus=-1"], "gpus must be at least 0"),
        (["runner=ray"], r'pip install "phrase-grounding\[cluster\]"'),
    ],
)
def test_wrong_settings_are_one_line(archive, monkeypatch, words, message):
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    given = ["data=manifest", f"data.path={archive}", f"output={archive.parent / 'out'}", *words]
    with pytest.raises(ValueError, match=message) as raised:
        ground_data(composed(*quote_free_text(given)), "manifest", archive.parent)
    assert "\n" not in str(raised.value)


def command(archive, *words):
    """The command line of a run, its arguments beside those of the archive."""
    given = ["runner=ray", "data=manifest", f"data.path={archive}", f"output={archive.parent / 'out'}"]
    return [sys.executable, "-m", "grounding", *QUICK, *given, "cluster.actors=2", "part_rows=2", *words]


def descendants(number):
    """The numbers of the processes that a process started, and those that they started, with their command lines."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, {})[int(folder.name)] = (folder / "cmdline").read_bytes().decode()
        except OSError:  # it has ended
            continue
    found, waiting = {}, [number]
    while waiting:
        children = parents.get(waiting.pop(), {})
        found |= children
        waiting += children
    return found


def wait_for(condition, process, log):
    """Wait until a condition holds while a process runs."""
    while not condition():
        assert process.poll() is None, log.read_text(encoding="utf-8")[-3000:]
        time.sleep(0.1)


def kill(numbers):
    for number in numbers:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue


@needs_ray
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the processes of Ray in /proc")
def test_a_run_whose_processes_are_killed_has_every_answer_once(archive, quick_grounder):
    """An actor is killed, and the run goes on; then all its processes are, and the same command completes it."""
    answers, log = archive.parent / "out", archive.parent / "log"

    def files():
        return list(answers.glob("*.parquet"))

    with log.open("wb") as output:
        options = {"env": os.environ | {"OMP_NUM_THREADS": "1"}, "stdout": output, "stderr": output}
        run = subprocess.Popen(command(archive), cwd=archive.parent, **options)

        def actors():
            return {number for number, line in descendants(run.pid).items() if line.startswith("ray::MapWorker")}

        try:
            wait_for(lambda: len(files()) >= 2 and len(actors()) == 2, run, log)
            killed_actor, before = min(actors()), len(files())
            kill([killed_actor])
            wait_for(lambda: len(files()) >= before + 4, run, log)
            assert killed_actor not in actors()
            assert len(files()) < ROWS // 2, "all rows were answered before the processes were killed"
        finally:
            kill([run.pid, *descendants(run.pid)])
        assert run.wait() == -signal.SIGKILL
        killed = time.time()
        (checkpoint,) = archive.parent.glob("out.checkpoint-*")  # a file that was cut while it was written, and its ids
        parquet.write_table(pa.table({"id": [0, 97]}), checkpoint / "cut_000000.pending.parquet")
        (answers / "cut_000000-0.parquet").write_bytes(b"PAR1")
        subprocess.run(command(archive), cwd=archive.parent, check=True, **options)
    found = sorted(dataset.dataset(answers, format="parquet").to_table().to_pylist(), key=lambda answer: answer["id"])
    assert found == expected_answers(quick_grounder, archive)
    assert any(file.stat().st_mtime < killed for file in files())
