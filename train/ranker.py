"""Train MCG's ranking forest: ``python -m train task=ranker task.coco=FOLDER task.bsds=FOLDER``.

A regression forest learns from a candidate's sixteen features its best overlap with an object: with the outlines of
COCO's objects, and with the segments that people drew on BSDS500's photos. Boxes of Flickr30k take no part.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grounding.files import write_file
from grounding.images import load_image
from grounding.limits import check_limits
from proposals.bsds import find_photos, read_annotated
from proposals.coco import Photo, read_photos, true_masks
from proposals.edges import EdgeDetector, shrink
from proposals.mcg import LONGEST_SIDE, MCG_CANDIDATES, find_hierarchies, to_segments
from proposals.mcg.grouping import group
from proposals.mcg.ranking import forest_of, save_forest
from proposals.overlaps import mask_overlaps

_Job = tuple[str, int, str, int, str | None, int]  # kind, index, folder, samples, weights of edges, seed
LEAST_SEGMENT = 0.002  # of the photo's area; smaller segments of BSDS500 are no objects


def train_ranker(
    output: str,
    *,
    coco: str | None = None,
    bsds: str | None = None,
    samples: int = 300,
    trees: int = 50,
    least_leaf: int = 50,
    folds: int = 5,
    edges: str | None = None,
    seed: int = 0,
    workers: int | None = None,
) -> Path:
    """Train the ranker, and, for honest measurements on COCO, one for each fold without that fold's photos.

    Args:
        output: the file for the trees, safetensors; beside it, ``folds/fold_0.safetensors`` and so on.
        coco: the folder of ``images`` and ``instances.json``.
        bsds: the folder of BSDS500's ``images`` and ``groundTruth``; train and val are used.
        samples: candidates of each photo, spread evenly over overlaps, the best of every object among them.
        trees: of the forest.
        least_leaf: samples at least in a leaf.
        folds: into which photos of COCO fall, photo j into fold j mod folds; 0 for none.
        edges: weights of the edge network; the package's own by default.
        seed: of the samples and of the trees.
        workers: processes; as many as there are cores by default.

    Raises:
        ValueError: no data is named, or they are not there.
    """
    from sklearn.ensemble import RandomForestRegressor

    check_limits(
        "ranker",
        samples=(samples, 1, 1_000_000),
        trees=(trees, 1, 10_000),
        least_leaf=(least_leaf, 1, 1_000_000),
        folds=(folds, 0, 1000),
    )
    jobs: list[_Job] = []
    if coco:
        jobs += [("coco", index, coco, samples, edges, seed) for index in range(len(read_photos(Path(coco))))]
    photos_of_coco = len(jobs)
    if bsds:
        jobs += [("bsds", index, bsds, samples, edges, seed) for index in range(len(find_photos(bsds, "train", "val")))]
    if coco and folds > 0 and not 2 <= folds <= photos_of_coco:
        raise ValueError(f"folds must be 0, or from 2 to the number of COCO's photos ({photos_of_coco}), got {folds}")
    if not jobs:
        raise ValueError("no photos to train on: name task.coco=FOLDER, task.bsds=FOLDER or both")
    from rich.progress import track

    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        found = list(track(pool.map(_sample, jobs), "candidates", total=len(jobs)))
    if not any(len(y) for _, y in found):
        raise ValueError("nothing to learn from: no photo has both an object and a candidate")
    fold_of = np.array([index % folds if folds and kind == "coco" else -1 for kind, index, *_ in jobs])
    target = Path(output)
    about = {"photos": str(len(jobs)), "samples": str(sum(len(y) for _, y in found))}
    for fold in range(-1, folds if coco else 0):
        chosen = [pair for pair, own in zip(found, fold_of, strict=True) if fold < 0 or own != fold]
        forest = RandomForestRegressor(
            trees, min_samples_leaf=least_leaf, max_features=0.4, random_state=seed, n_jobs=workers or -1
        )
        forest.fit(np.concatenate([x for x, _ in chosen]), np.concatenate([y for _, y in chosen]))
        path = target if fold < 0 else target.parent / "folds" / f"fold_{fold}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, save_forest(forest_of(forest), **about))
    return target


def _sample(job: _Job) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features and overlaps of some candidates of one photo."""
    kind, index, folder, samples, edges, seed = job
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    path, masks = _coco_objects(folder, index) if kind == "coco" else _bsds_objects(folder, index)
    partition, hierarchies = find_hierarchies(shrink(load_image(path), LONGEST_SIDE), _detector(edges))
    groups = group(partition, hierarchies, MCG_CANDIDATES)
    if len(groups) == 0 or len(masks) == 0:
        return np.zeros((0, 16), np.float32), np.zeros(0, np.float32)
    height, width = masks.shape[1:]
    segments = to_segments(groups, np.zeros(len(groups)), partition.superpixels, (height, width))
    overlaps = mask_overlaps(segments, masks)
    best = overlaps.max(0)
    random = np.random.default_rng((seed, index))
    # As many from each tenth of overlap, where there are so many; the best of each object always.
    tenth = (best * 10).astype(int)
    rarity = 1 / np.bincount(tenth, minlength=11)[tenth]
    drawn = random.choice(len(best), min(samples, len(best)), replace=False, p=rarity / rarity.sum())
    chosen = np.union1d(drawn, overlaps.argmax(1))
    return groups.features[chosen], best[chosen].astype(np.float32)


@cache
def _detector(weights: str | None) -> EdgeDetector:
    return EdgeDetector(weights)


@cache
def _coco_photos(folder: str) -> list[Photo]:
    return read_photos(Path(folder))


def _coco_objects(folder: str, index: int) -> tuple[Path, Tensor]:
    photo = _coco_photos(folder)[index]
    return photo.path, true_masks(photo)


def _bsds_objects(folder: str, index: int) -> tuple[Path, Tensor]:
    path = find_photos(folder, "train", "val")[index]
    people = read_annotated(path).segments
    masks = [person == label for person in people for label in np.unique(person)]
    large = [mask for mask in masks if mask.mean() >= LEAST_SEGMENT]
    return path, torch.from_numpy(np.stack(large))
