"""Kill `python -m grounding data=manifest` at random moments, continue it, and read the answers with other software.

    python benchmarks/archive_kills.py [--kills 50] [--rows 400] [--kinds fork worker command ctrl-c] [--disk FOLDER]

An archive is made on the spot: small photos, of whose rows a tenth are broken in one of five ways. It is grounded once
without disturbance, and then again and again while

* a fork of this process that has loaded the model, and so does nothing but read, ground, write and join, is killed
  (SIGKILL) at a random moment, and continued;
* the command is killed at a random moment, from its first import to its last rename, and continued;
* one of its processes is killed at a random moment, after which it goes on by itself;
* it is interrupted (SIGINT, Ctrl-C) at a random moment, and continued;
* its disk is full (with --disk, a folder on a small file system of its own), and continued when there is room again.

Whenever the answers are complete, json or pyarrow alone reads them: each row must be there once, in its place, with an
error if and only if it is broken, and equal to the answer of the undisturbed run. A row whose process is killed twice
has an error by design, since it may be to blame; such rows are counted as blamed.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table

from grounding.batch.run import Archive, ground_archive
from grounding.config import compose_grounder
from grounding.pipeline import Grounder

QUICK = (
    "attention=cam", "model.short_side=64", "proposals=edge_boxes", "proposals.edges=gradient", "proposals.count=50",
)  # fmt: skip
SETTINGS = compose_grounder(list(QUICK))
PHOTOS = 20
KINDS = ("fork", "worker", "command", "ctrl-c")
BLAME = "each process that read it was killed"  # the error of a row that may have killed them
BROKEN = ("missing file", "bomb", "wrong type", "empty caption", "duplicate id")


def make_archive(folder: Path, rows: int) -> Path:
    """Photos, and a manifest in which each tenth row is broken."""
    numbers = np.random.default_rng(0)
    for index in range(PHOTOS):
        blocks = numbers.integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(blocks).save(folder / f"{index}.jpg")
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")  # 50 kB that would be 1.2 GB
    lines = []
    for number in range(rows):
        row = {"image": f"{number % PHOTOS}.jpg", "captions": [f"A dog and {number} cats", "a red ball"], "id": number}
        if number % 10 == 9:
            row |= {
                "missing file": {"image": "nowhere.jpg"},
                "bomb": {"image": "bomb.png"},
                "wrong type": {"captions": [number]},
                "empty caption": {"captions": []},
                "duplicate id": {"id": number - 1},
            }[BROKEN[number // 10 % len(BROKEN)]]
        lines.append(json.dumps(row) + "\n")
    (folder / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder / "rows.jsonl"


def started(manifest: Path, output: Path) -> "subprocess.Popen[str]":
    """A run that has just been started."""
    command = [sys.executable, "-m", "grounding", "data=manifest", f"data.path={manifest}", f"output={output}", *QUICK]
    command += ["workers=2", "part_rows=5", f"hydra.run.dir={manifest.parent / 'runs'}"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


class Forked:
    """A run in a fork of this process, with the methods of a `subprocess.Popen` that are used here."""

    def __init__(self, manifest: Path, output: Path) -> None:
        self.returncode = None
        self._process = multiprocessing.get_context("fork").Process(target=ground, args=(manifest, output))
        self._process.start()

    def wait(self, timeout: float) -> None:
        """Wait for the end."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("ground", timeout)

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self._process.pid, number)

    def communicate(self) -> tuple[str, str]:
        """Wait for the end; what it has printed is not kept."""
        self._process.join()
        self.returncode = self._process.exitcode
        return "", ""


def ground(manifest: Path, output: Path) -> None:
    """Ground the archive without further processes."""
    for _ in ground_archive(Archive(str(manifest), output, part_rows=5, workers=0), SETTINGS, output.parent):
        pass


def finish(manifest: Path, output: Path) -> None:
    """Run until all is answered."""
    run = started(manifest, output)
    _, errors = run.communicate()
    if run.returncode:
        sys.exit(f"a run that nobody disturbed failed: {errors.strip()}")


def read(output: Path) -> list[dict[str, object]]:
    """The answers, without any code of the project."""
    if output.suffix == ".jsonl":
        return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    rows: list[dict[str, object]] = pyarrow.parquet.read_table(output).to_pylist()
    return rows


def compare(manifest: Path, output: Path, expected: list[dict[str, object]]) -> Counter[str]:
    """The numbers of rows, and of those that are lost, doubled, or not as they should be."""
    asked = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    answers = read(output)
    found = Counter(answer["id"] for answer in answers)
    wanted = Counter(row["id"] for row in asked)
    blamed = {number for number, answer in enumerate(answers) if BLAME in (answer["error"] or "")}
    wrong = sum(
        (answer["error"] is not None) != (number % 10 == 9) or answer != expected[number]
        for number, answer in enumerate(answers)
        if number < len(expected) and number not in blamed
    )
    left = [path.name for path in output.parent.iterdir() if path.name.startswith(f"{output.name}.parts")]
    return Counter(
        rows=len(answers),
        lost=(wanted - found).total(),
        doubled=(found - wanted).total(),
        wrong=wrong + len(left),
        blamed=len(blamed),
    )


def workers_of(run: "subprocess.Popen[str]") -> list[int]:
    """The processes of a run that read rows (Linux)."""
    try:
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        children += [
            child
            for task in Path(f"/proc/{run.pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
        return [int(child) for child in set(children) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    except OSError:
        return []  # it has just ended


def kill_runs(
    start: Callable[[Path, Path], Any],
    stop: signal.Signals,
    manifest: Path,
    expected: list[dict[str, object]],
    kills: int,
    longest: float,
) -> Counter[str]:
    """Stop runs at random moments until enough are stopped; then let the last one finish."""
    total: Counter[str] = Counter()
    while total["kills"] < kills:
        name = f"{start.__name__}{stop.name}{total['outputs']}{('.jsonl', '.parquet')[total['outputs'] % 2]}"
        output = manifest.parent / name
        while total["kills"] < kills and not output.exists():
            run = start(manifest, output)
            try:
                run.wait(random.uniform(0.0, longest))
            except subprocess.TimeoutExpired:
                run.send_signal(stop)
                total["kills"] += 1
            _, errors = run.communicate()
            if run.returncode not in (0, -stop, 130):
                sys.exit(f"exit code {run.returncode}: {errors.strip()}")
            total["with parts"] += any(output.with_name(f"{output.name}.parts").glob("0*"))
        finish(manifest, output)
        total += compare(manifest, output, expected) + Counter(outputs=1)
    return total


def kill_workers(manifest: Path, expected: list[dict[str, object]], kills: int) -> Counter[str]:
    """Kill processes of runs, which go on by themselves, until enough are killed."""
    total: Counter[str] = Counter()
    while total["kills"] < kills:
        output = manifest.parent / f"worker{total['outputs']}{('.jsonl', '.parquet')[total['outputs'] % 2]}"
        run = started(manifest, output)
        while run.poll() is None:
            time.sleep(random.uniform(1.0, 8.0))
            if total["kills"] < kills and (workers := workers_of(run)):
                os.kill(random.choice(workers), signal.SIGKILL)
                total["kills"] += 1
        _, errors = run.communicate()
        if run.returncode:
            print(f"the run ended, and is continued: {errors.strip()}", file=sys.stderr)
            total["with parts"] += 1
            finish(manifest, output)
        total += compare(manifest, output, expected) + Counter(outputs=1)
    return total


def fill_disk(disk: Path, manifest: Path, expected: list[dict[str, object]]) -> Counter[str]:
    """Ground with more and more room, until it is enough."""
    total: Counter[str] = Counter(outputs=1)
    ballast, output = disk / "ballast", disk / "answers.jsonl"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    for room in range(20_000, free, max(20_000, free // 12)):
        ballast.write_bytes(b"\0" * (os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize))
        os.truncate(ballast, max(0, ballast.stat().st_size - room))
        run = started(manifest, output)
        _, errors = run.communicate()
        ballast.unlink()
        if run.returncode == 0:
            break
        if run.returncode != 1 or "No space left" not in errors.strip().splitlines()[-1]:
            sys.exit(f"exit code {run.returncode}: {errors.strip()}")
        total["kills"] += 1
        total["with parts"] += any(output.with_name(f"{output.name}.parts").glob("0*"))
    finish(manifest, output)
    return total + compare(manifest, output, expected)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="kills of a fork")
    parser.add_argument("--few", type=int, default=10, metavar="N", help="kills of all other kinds, which take longer")
    parser.add_argument("--rows", type=int, default=400, metavar="N", help="rows of the archive")
    parser.add_argument("--disk", type=Path, metavar="FOLDER", help="an empty folder on a small file system")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS, help="what to do to the runs")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    torch.set_num_threads(1)  # for forks
    grounder = Grounder.from_settings(SETTINGS)
    Grounder.from_settings = staticmethod(lambda settings: grounder)  # type: ignore[method-assign]
    table = Table(box=box.SIMPLE)
    heads = ("disturbed by", "times", "with parts", "outputs", "rows", "lost", "doubled", "wrong", "blamed")
    for index, head in enumerate(heads):
        table.add_column(head, justify="right" if index else "left")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = make_archive(folder, arguments.rows)
        seconds = []
        for start, output in ((started, folder / "command.jsonl"), (Forked, folder / "forked.jsonl")):
            begin = time.monotonic()
            run = start(manifest, output)
            run.communicate()
            seconds.append(time.monotonic() - begin)
            print(f"undisturbed: {arguments.rows} rows in {seconds[-1]:.1f} s", file=sys.stderr)
        expected, kills, few = read(folder / "command.jsonl"), arguments.kills, arguments.few
        found = {
            "fork": lambda: kill_runs(Forked, signal.SIGKILL, manifest, expected, kills, seconds[1] / 2),
            "worker": lambda: kill_workers(manifest, expected, few),
            "command": lambda: kill_runs(started, signal.SIGKILL, manifest, expected, few, seconds[0]),
            "ctrl-c": lambda: kill_runs(started, signal.SIGINT, manifest, expected, few, seconds[0]),
        }
        found = {kind: found[kind] for kind in arguments.kinds}
        if arguments.disk is not None:
            found["full disk"] = lambda: fill_disk(arguments.disk, manifest, expected)
        for disturbance, disturb in found.items():
            counts = disturb()
            table.add_row(disturbance, *(str(counts[head]) for head in ("kills", *heads[2:])))
            print(disturbance, dict(counts), file=sys.stderr, flush=True)
    Console().print(table)


if __name__ == "__main__":
    main()
