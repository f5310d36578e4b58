"""Time of the default command, ``python -m grounding``: its first run after installation, later ones, and their parts.

    python benchmarks/default_command.py [--runs 3]

The first run compiles the loops of the proposals (numba) and may build matplotlib's font cache; here both caches are
new, empty folders. Wall clock and CPU seconds of whole processes, and the parts of one run within a process, in order.
Quote figures of a machine that has nothing else to do.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

PARTS = """
import time
start = time.perf_counter()
def report(name):
    global start
    now = time.perf_counter()
    print(f"{name}\t{now - start:.2f}", flush=True)
    start = now
import hydra
from grounding.config import compose_grounder
settings = compose_grounder([])
report("Hydra and settings")
from grounding.pipeline import Grounder
from grounding.draw import draw_grounding
report("imports of torch and others")
grounder = Grounder.from_settings(settings)
report("model, proposals' weights")
from grounding.phrases import noun_phrases
noun_phrases("A cup of coffee")
report("spaCy and its pipeline")
from grounding.examples import example_photos
photos = example_photos()
results = grounder.ground_each(list(photos), list(photos.values()))
first = next(results)
report("proposals and attention, four photos")
rest = list(results)
report("ranking of regions")
from grounding.images import load_image
for path, grounding in zip(photos, [first, *rest]):
    draw_grounding(load_image(path), grounding)
report("pictures")
"""


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float, str]:
    """Run a command; its wall clock and CPU seconds, and its output."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(f"{' '.join(command[:3])} failed: {run.stderr.strip()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, used, run.stdout


def table(*heads: str) -> Table:
    """An empty table, text on the left and numbers on the right."""
    found = Table(box=box.SIMPLE)
    for index, head in enumerate(heads):
        found.add_column(head, justify="right" if index else "left")
    return found


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs after the first one")
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error(f"--runs must be 1 or more, got {arguments.runs}")
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        caches = {"NUMBA_CACHE_DIR": f"{folder}/numba", "MPLCONFIGDIR": f"{folder}/matplotlib"}
        whole = table("run", "seconds", "CPU seconds")
        for number in range(1 + arguments.runs):
            command = [sys.executable, "-m", "grounding", f"hydra.run.dir={Path(folder) / f'run{number}'}"]
            seconds, used, _ = timed(command, caches)
            whole.add_row("first" if number == 0 else f"later, {number}", f"{seconds:.1f}", f"{used:.1f}")
        console.print(whole)
        cold = {"NUMBA_CACHE_DIR": f"{folder}/cold_numba", "MPLCONFIGDIR": f"{folder}/cold_matplotlib"}
        lines = [timed([sys.executable, "-c", PARTS], each)[2].splitlines() for each in (cold, caches)]
        parts = table("part", "first, seconds", "later, seconds")
        for first, later in zip(*lines, strict=True):
            name, seconds = first.split("\t")
            parts.add_row(name, seconds, later.split("\t")[1])
        console.print(parts)


if __name__ == "__main__":
    main()
