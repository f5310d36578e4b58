"""Recall and speed of proposals: recall of boxes and of masks on photos of COCO.

    python benchmarks/proposal_recall.py COCO_FOLDER [--methods mcg edge_boxes ...] [--counts 10 100 500] [--photos N]

COCO_FOLDER holds ``images`` and ``instances.json``; groups of objects (``iscrowd``) are left out. Methods:

mcg, mcg_fast, scg, edge_boxes    ours, with room for 10,000 proposals
edge_boxes_gradient      EdgeBoxes over plain gradients in place of learned edges
selective_search         OpenCV's, its fast mode, ranked by OpenCV as its authors rank: by depth, times chance
felzenszwalb             scikit-image's segments at five scales, coarse scales first and then large segments

Boxes of segments that overlap a better one's by .95 are left out, as MCG's authors do. A method without outlines is
measured on masks with its boxes. MCG and SCG rank by what was learned from photos of this kind: with ``--rankers
FOLDER``, photo j is ranked by fold_i.safetensors, i = j mod the number of folds, which must have been trained without
the photos of that fold.

Seconds are CPU seconds of one core, from the path of the photo to its proposals; other work on the machine lengthens
them all the same, so compare those of one run. The published figures are of MCG's authors, on the 40,504 photos of
COCO's validation set of 2014.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from eval.proposals import average_recall, best_overlaps, recall
from grounding.coco import CocoPhoto, object_boxes, object_masks, read_photos
from grounding.images import load_image, to_pixels
from grounding.records import Regions, Segments
from grounding.scoring import unsuppressed
from proposals.overlaps import box_overlaps, mask_overlaps

Method = Callable[[Path], Regions]

MANY = 10_000
IOUS = (0.5, 0.7, 0.85)
SCALES = (800, 400, 200, 100, 50)  # of Felzenszwalb's segmentation
PUBLISHED = {  # Pont-Tuset et al. 2017: method, proposals, recall at each IoU
    "box": (
        ("mcg", 100, (0.435, 0.269, 0.141)),
        ("mcg", 500, (0.595, 0.387, 0.214)),
        ("mcg", None, (0.791, 0.592, 0.357)),
        ("edge_boxes", None, (0.776, 0.599, 0.171)),
    ),
    "mask": (("mcg", 500, (0.506, 0.277, 0.100)),),
}


@dataclass(frozen=True, eq=False)
class Result:
    """The overlaps of one method's proposals with the objects of one photo."""

    box: np.ndarray[Any, Any]  # (K, C), the best overlap of each object among the first so many proposals
    mask: np.ndarray[Any, Any]  # (K, C)
    number: int  # of proposals
    seconds: float


def mcg(ranker: Path | None) -> Method:
    """MCG, with its own ranker or with another."""
    from proposals import MCG

    return MCG(count=MANY, ranker=ranker, device="cpu")


def mcg_fast(ranker: Path | None) -> Method:
    """MCG with a smaller fine scale, as in ``conf/proposals/mcg_fast.yaml``."""
    from proposals import MCG

    return MCG(count=MANY, scales=(1.5, 1.0, 0.5), ranker=ranker, device="cpu")


def scg(ranker: Path | None) -> Method:
    """SCG, with its own ranker or with another."""
    from proposals import SCG

    return SCG(count=MANY, ranker=ranker, device="cpu")


def edge_boxes(_: Path | None) -> Method:
    """EdgeBoxes with its own edges."""
    from proposals import EdgeBoxes

    return EdgeBoxes(count=MANY, device="cpu")


def edge_boxes_gradient(_: Path | None) -> Method:
    """EdgeBoxes over plain gradients."""
    from proposals import EdgeBoxes

    return EdgeBoxes(count=MANY, edges="gradient")


def selective_search(_: Path | None) -> Method:
    """OpenCV's selective search."""

    def propose(path: Path) -> Regions:
        search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(pixels_of(path)[..., ::-1].copy())
        search.switchToSelectiveSearchFast()
        boxes = torch.from_numpy(search.process()[:MANY].astype(np.float32)).reshape(-1, 4)  # x, y, width, height
        boxes[:, 2:] += boxes[:, :2]
        return Regions(boxes, torch.linspace(1, 0, len(boxes)))

    return propose


def felzenszwalb(_: Path | None) -> Method:
    """The regions of scikit-image's graph-based segmentation, as sets of what its scales have in common."""
    from skimage.segmentation import felzenszwalb

    def propose(path: Path) -> Regions:
        pixels = pixels_of(path)
        return all_regions([felzenszwalb(pixels, scale=scale, sigma=0.8, min_size=50) for scale in SCALES])

    return propose


def pixels_of(path: Path) -> np.ndarray[Any, Any]:
    """A photo, (H, W, 3) uint8, RGB."""
    return to_pixels(load_image(path))


def all_regions(partitions: list[np.ndarray[Any, Any]]) -> Segments:
    """The regions of several partitions (H, W) of a photo, in turn, large before small."""
    superpixels = np.zeros(partitions[0].shape, np.int64)
    for labels in partitions:
        superpixels = np.unique(superpixels * (labels.max() + 1) + labels, return_inverse=True)[1].reshape(labels.shape)
    boxes, members = [], []
    for labels in partitions:
        for region in np.bincount(labels.ravel()).argsort(kind="stable")[::-1]:
            inside = labels == region
            y, x = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
            boxes.append([x[0], y[0], x[-1] + 1, y[-1] + 1])
            members.append(np.unique(superpixels[inside]))
    offsets = np.cumsum([0, *map(len, members)])
    return Segments(
        torch.tensor(np.array(boxes), dtype=torch.float32),
        torch.linspace(1, 0, len(boxes)),
        torch.from_numpy(superpixels),
        (torch.from_numpy(offsets), torch.from_numpy(np.concatenate(members))),
    )


METHODS = {
    make.__name__: make
    for make in (mcg, mcg_fast, scg, edge_boxes, edge_boxes_gradient, selective_search, felzenszwalb)
}


@cache
def load(name: str, ranker: Path | None) -> Method:
    """A method, loaded once a process, which keeps to one core; ready, so that a first photo is no slower."""
    import numba
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    numba.set_num_threads(1)
    threadpool_limits(1)
    return METHODS[name](ranker)


def measure(job: tuple[str, Path | None, CocoPhoto, tuple[int | None, ...], Path]) -> Result:
    """Measure a method on a photo, after a first photo to warm up."""
    name, ranker, photo, counts, first = job
    warm_up(name, ranker, first)
    start = time.process_time()
    regions = load(name, ranker)(photo.path)
    seconds = time.process_time() - start
    boxes = Regions(regions.boxes, regions.scores)
    if isinstance(regions, Segments):  # different outlines may have one box
        boxes = boxes[unsuppressed(boxes, overlap=0.95)]
    return Result(
        best_overlaps(box_overlaps(boxes, object_boxes(photo)), counts),
        best_overlaps(mask_overlaps(regions, object_masks(photo)), counts),
        len(regions),
        seconds,
    )


@cache
def warm_up(name: str, ranker: Path | None, photo: Path) -> None:
    """Let a method compile and load what it needs."""
    load(name, ranker)(photo)


def summary(
    results: list[Result], counts: tuple[int | None, ...], kind: str
) -> Iterator[tuple[int | None, Any, float]]:
    """Recall at each IoU and average recall over all objects, for each number of proposals."""
    best = np.concatenate([getattr(result, kind) for result in results])
    for column, count in enumerate(counts):
        yield count, recall(best[:, column], IOUS), average_recall(best[:, column])


def print_table(console: Console, kind: str, found: dict[str, list[Result]], counts: tuple[int | None, ...]) -> None:
    """Recall of boxes or of masks, one line for each method and number of proposals."""
    objects = sum(len(result.box) for result in next(iter(found.values())))
    table = Table(box=box.SIMPLE, title=f"Recall of {kind}es" if kind == "box" else f"Recall of {kind}s")
    table.title = f"{table.title}, {objects} objects"
    for head in ("method", "proposals", *(f"at {iou}" for iou in IOUS), "average"):
        table.add_column(head, justify="left" if head == "method" else "right")
    for method, results in found.items():
        mean = statistics.mean(result.number for result in results)
        for count, at, average in summary(results, counts, kind):
            table.add_row(
                method, str(count or f"all ({mean:.0f})"), *(f"{value:.3f}" for value in at), f"{average:.3f}"
            )
        table.add_section()
    for method, count, at in PUBLISHED[kind]:
        table.add_row(f"{method} (published)", str(count or "all"), *(f"{value:.3f}" for value in at), "")
    console.print(table)


def print_speed(console: Console, found: dict[str, list[Result]]) -> None:
    """Seconds a photo, one line for each method."""
    table = Table("method", box=box.SIMPLE, title="Seconds a photo on one core")
    for head in ("median", "mean", "longest"):
        table.add_column(head, justify="right")
    for method, results in found.items():
        seconds = [result.seconds for result in results]
        each = (statistics.median(seconds), statistics.mean(seconds), max(seconds))
        table.add_row(method, *(f"{value:.2f}" for value in each))
    console.print(table)


def to_dict(photos: list[CocoPhoto], found: dict[str, list[Result]], counts: tuple[int | None, ...]) -> dict[str, Any]:
    """The results of each photo with their summaries, ready for JSON; ``null`` stands for all proposals."""
    return {
        "photos": [photo.path.name for photo in photos],
        "counts": counts,
        "ious": IOUS,
        "methods": {
            method: {
                **{
                    kind: [
                        {"count": count, "recall": at.tolist(), "average_recall": average}
                        for count, at, average in summary(results, counts, kind)
                    ]
                    for kind in ("box", "mask")
                },
                "numbers": [result.number for result in results],
                "seconds": [round(result.seconds, 4) for result in results],
                "best_box_overlaps": [result.box.round(4).tolist() for result in results],
                "best_mask_overlaps": [result.mask.round(4).tolist() for result in results],
            }
            for method, results in found.items()
        },
    }


def main() -> None:
    """Measure, print the tables and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="COCO_FOLDER", type=Path)
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS), metavar="METHOD")
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 100, 500], help="of proposals, beside all")
    parser.add_argument("--photos", type=int, metavar="N", help="stop after so many")
    parser.add_argument("--rankers", type=Path, metavar="FOLDER", help="with fold_0.safetensors, fold_1.safetensors, …")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the results as JSON")
    arguments = parser.parse_args()

    try:
        photos, _ = read_photos(arguments.folder / "instances.json", arguments.folder / "images")
    except ValueError as error:
        parser.error(str(error))
    photos = photos[: arguments.photos]
    rankers = [arguments.rankers / f"fold_{i}.safetensors" for i in range(arguments.folds)] if arguments.rankers else []
    if missing := [str(ranker) for ranker in rankers if not ranker.is_file()]:
        parser.error(f"no such file: {', '.join(missing)}")
    counts = (*arguments.counts, None)
    found: dict[str, list[Result]] = {}
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
        for method in arguments.methods:
            is_ranked = rankers and method in ("mcg", "mcg_fast", "scg")
            jobs = [
                (method, rankers[index % len(rankers)] if is_ranked else None, photo, counts, photos[0].path)
                for index, photo in enumerate(photos)
            ]
            found[method] = list(track(pool.map(measure, jobs), f"{method:20}", total=len(jobs)))

    console = Console(width=100)
    print_table(console, "box", found, counts)
    print_table(console, "mask", found, counts)
    print_speed(console, found)
    if arguments.output:
        arguments.output.write_text(json.dumps(to_dict(photos, found, counts), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
