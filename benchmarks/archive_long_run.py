"""Ground ten thousand small photos in one run: does it slow down, and does its memory or the number of its files grow?

    python benchmarks/archive_long_run.py [--photos 10000] [--workers 2] [--real FOLDER] [--plot docs/long_run.png]

Photos of 64×48 pixels, all different, are made on the spot, with a caption of three phrases each. With --real every
second one is a photo of that folder, which are repeated. The network is
SqueezeNet with random weights on 64 pixels, the attention c-MWP, the proposals EdgeBoxes over gradients: everything
that the default command does, but quickly. For every thousand photos the table shows photos/s and CPU seconds a photo
of all processes, the memory of the run without files that are mapped (anonymous pages), that of the processes that
read rows, and the open files. Other programs on the machine change photos/s, and CPU seconds less. Linux only.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table

SETTINGS = (
    "model=squeezenet1_1", "model.weights=null", "model.short_side=64", "attention=cmwp", "scoring.area_exponent=0.4",
    "proposals=edge_boxes", "proposals.edges=gradient", "proposals.count=50",
)  # fmt: skip
PART_ROWS = 100
THINGS = ("dog", "cat", "car", "bird", "horse", "boat", "bus", "chair", "table", "ball")


@dataclass(frozen=True)
class Sample:
    """The state of the run at a moment."""

    rows: int  # in finished parts
    seconds: float  # since the run began
    cpu: float  # seconds of all processes
    run_mb: float
    workers_mb: float  # of all processes that read rows
    files: int  # that are open, in all processes


def make_archive(folder: Path, photos: int, real: Path | None) -> Path:
    """Write the photos and a table of them."""
    numbers = np.random.default_rng(0)
    given = sorted(real.resolve().glob("*.jpg")) if real else []
    if real and not given:
        sys.exit(f"{real}: no photos *.jpg")
    lines = ["image,caption\n"]
    for index in range(photos):
        blocks = numbers.integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        path = folder / f"{index}.jpg"
        if given and index % 2:
            path = given[index // 2 % len(given)]
        else:
            Image.fromarray(blocks).save(path)
        first, second = THINGS[index % 10], THINGS[index // 10 % 10]
        lines.append(f"{path},A {first} beside a red {second} looks at {index} trees\n")
    (folder / "rows.csv").write_text("".join(lines), encoding="utf-8")
    return folder / "rows.csv"


def processes_of(run: int) -> list[int]:
    """A process and those that it has started."""
    found = [run]
    for task in Path(f"/proc/{run}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def sample(run: int, parts: Path, start: float) -> Sample:
    """Look at a run."""
    memory, cpu, files = [], 0.0, 0
    for process in processes_of(run):
        place = Path(f"/proc/{process}")
        lines = dict(line.split(":", 1) for line in (place / "smaps_rollup").read_text().splitlines()[1:])
        memory.append(int(lines["Anonymous"].split()[0]) / 1024)
        times = (place / "stat").read_text().rpartition(")")[2].split()
        cpu += (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
        files += len(list((place / "fd").iterdir()))
    rows = sum(int(part.name.split("-")[1]) for part in parts.glob("0*-*"))
    return Sample(rows, time.monotonic() - start, cpu, memory[0], sum(memory[1:]), files)


def watch(folder: Path, manifest: Path, workers: int) -> list[Sample]:
    """Run, and sample the run whenever a thousand photos are done."""
    output = folder / "answers.jsonl"
    command = [sys.executable, "-m", "grounding", "data=manifest", f"data.path={manifest}", f"output={output}"]
    command += [f"part_rows={PART_ROWS}", f"workers={workers}", f"hydra.run.dir={folder / 'run'}", *SETTINGS]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    samples: list[Sample] = []
    last = None
    start = time.monotonic()
    while run.poll() is None:
        time.sleep(2)
        try:
            now = sample(run.pid, folder / f"{output.name}.parts", start)
        except (OSError, KeyError, ValueError):
            continue  # a process has just ended
        if not now.rows:
            continue  # not yet, or joined already
        last = now
        if not samples or now.rows // 1000 > samples[-1].rows // 1000:
            samples.append(now)
            print(now, file=sys.stderr, flush=True)
    if run.returncode:
        sys.exit(str(run.communicate()[1]).strip())
    assert last is not None
    return [*samples, last] if last.rows > samples[-1].rows else samples


def plot(samples: list[Sample], path: Path) -> None:
    """A small picture of the rate and of the memory."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    rates = [(after.rows - before.rows) / (after.seconds - before.seconds) for before, after in pairwise(samples)]
    left.plot([after.rows for after in samples[1:]], rates, marker="o", markersize=3)
    left.set(xlabel="photos", ylabel="photos/s", ylim=(0, None))
    rows = [each.rows for each in samples]
    right.plot(rows, [each.run_mb for each in samples], marker="o", markersize=3, label="run")
    right.plot(rows, [each.workers_mb for each in samples], marker="o", markersize=3, label="processes that read")
    right.set(xlabel="photos", ylabel="MB", ylim=(0, None))
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=80)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=10_000, metavar="N")
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="photos *.jpg for every second row")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="where to draw the rate and the memory")
    arguments = parser.parse_args()
    table = Table(box=box.SIMPLE)
    for head in ("photos", "photos/s", "CPU s/photo", "run, MB", "workers, MB", "open files"):
        table.add_column(head, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        samples = watch(Path(folder), make_archive(Path(folder), arguments.photos, arguments.real), arguments.workers)
    for before, after in pairwise(samples):
        photos = after.rows - before.rows
        table.add_row(
            f"{after.rows:,}",
            f"{photos / (after.seconds - before.seconds):.1f}",
            f"{(after.cpu - before.cpu) / photos:.4f}",
            f"{after.run_mb:.0f}",
            f"{after.workers_mb:.0f}",
            str(after.files),
        )
    Console().print(table)
    if arguments.plot:
        plot(samples, arguments.plot)


if __name__ == "__main__":
    main()
