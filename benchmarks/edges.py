"""Edges against people: the boundary benchmark of BSDS500, and the time that a photo takes.

    python benchmarks/edges.py BSDS500_FOLDER [--edges learned|gradient] [--scales 0.5 1 2] [--weights FILE]

BSDS500_FOLDER holds ``images`` and ``groundTruth``. Seconds are those of the detector with its non-maximum suppression
on one core, reading the file and comparing with people apart; with more processes than idle cores, they mean nothing.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from eval.boundaries import Counts, average_precision, boundary_counts, ods, ois, total
from proposals.edges import thin
from train.bsds import SPLITS, find_photos, read_annotated

PUBLISHED = {  # on the 200 test photos: ODS, OIS, AP
    "people": (0.80, None, None),  # Arbeláez et al. 2011
    "structured forest, as MCG used it": (0.75, None, None),  # Dollár and Zitnick 2015
}


@cache
def detector(name: str, scales: tuple[float, ...], weights: str | None) -> Callable[[Any], Any]:
    """A function from a photo (H, W, 3), uint8 RGB, to its edges; loaded once a process, which keeps to one core."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if name == "gradient":
        from proposals.edges import gradient_edges

        return gradient_edges
    from proposals.edges import EdgeDetector

    loaded = EdgeDetector(weights, scales=scales, device="cpu")
    loaded(np.zeros((321, 481, 3), np.uint8))  # the first call is slower
    return loaded


def measure(job: tuple[Path, int, tuple[str, tuple[float, ...], str | None]]) -> tuple[Counts, float]:
    """The counts of one photo at so many thresholds, and the detector's seconds."""
    photo, thresholds, settings = job
    detect = detector(*settings)
    annotated = read_annotated(photo)
    pixels = np.array(Image.open(photo).convert("RGB"))
    start = time.perf_counter()
    strength = thin(detect(pixels))
    seconds = time.perf_counter() - start
    return boundary_counts(strength, annotated.boundaries, np.arange(1, thresholds + 1) / (thresholds + 1)), seconds


def plot(counts: Counts, path: str) -> None:
    """Draw precision over recall, with lines of equal F."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 5))
    recall = np.linspace(0.01, 1, 200)
    for f in np.arange(1, 10) / 10:
        precision = f * recall / np.where(2 * recall > f, 2 * recall - f, np.nan)
        axes.plot(recall[precision <= 1], precision[precision <= 1], color="0.85", linewidth=0.7)
    is_found = counts.found > 0
    axes.plot(counts.recall[is_found], counts.precision[is_found])
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    figure.savefig(path, dpi=150, bbox_inches="tight")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="BSDS500_FOLDER")
    parser.add_argument("--edges", choices=("learned", "gradient"), default="learned")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0], help="of the photo, for learned edges")
    parser.add_argument("--weights", metavar="FILE", help="of learned edges, in place of those of the package")
    parser.add_argument("--split", choices=tuple(SPLITS), default="test")
    parser.add_argument("--photos", type=int, metavar="N", help="stop after so many")
    parser.add_argument("--thresholds", type=int, default=99)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--plot", metavar="FILE", help="write the precision-recall curve, by matplotlib")
    arguments = parser.parse_args()

    try:
        photos = find_photos(arguments.folder, arguments.split)[: arguments.photos]
    except ValueError as error:
        parser.error(str(error))
    settings = (arguments.edges, tuple(arguments.scales), arguments.weights)
    jobs = [(photo, arguments.thresholds, settings) for photo in photos]
    # Spawned, since a forked copy of torch's threads can hang.
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
        results = list(track(pool.map(measure, jobs), "Comparing", total=len(jobs)))
    counts = [each for each, _ in results]
    best = ods(counts)

    table = Table(box=box.SIMPLE, title=f"BSDS500 {arguments.split}, {len(photos)} photos")
    for head in ("edges", "ODS", "OIS", "AP", "threshold", "precision", "recall", "seconds"):
        table.add_column(head, justify="left" if head == "edges" else "right")
    scales = "" if arguments.edges == "gradient" else f" at {', '.join(map('{:g}'.format, arguments.scales))}"
    numbers = (best.f, ois(counts).f, average_precision(counts), best.threshold, best.precision, best.recall)
    seconds = statistics.median(seconds for _, seconds in results)
    table.add_row(arguments.edges + scales, *(f"{number:.3f}" for number in numbers), f"{seconds:.3f}")
    for name, scores in PUBLISHED.items():
        table.add_row(f"{name} (published)", *("" if score is None else f"{score:.3g}" for score in scores))
    Console(width=120).print(table)
    if arguments.plot:
        plot(total(counts), arguments.plot)


if __name__ == "__main__":
    main()
