"""Train MCG's ranking forest: ``python -m train task=ranker task.coco=FOLDER task.bsds=FOLDER``.

From a candidate's sixteen features, a regression forest predicts its best overlap with an object: with the outlines of
COCO's objects, and with the segments that people drew on BSDS500's photos. Boxes of Flickr30k are not used.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grounding.coco import CocoPhoto, object_masks, read_photos
from grounding.files import write_file
from grounding.images import load_image
from grounding.limits import check_limits
from proposals.edges import EdgeDetector, shrink
from proposals.mcg import LONGEST_SIDE, MCG_CANDIDATES, find_hierarchies, to_segments
from proposals.mcg.grouping import group
from proposals.mcg.ranking import Forest, forest_of, save_forest
from proposals.overlaps import mask_overlaps
from train.bsds import find_photos, read_annotated

MIN_SEGMENT_AREA = 0.002  # share of the photo; smaller segments of BSDS500 are no objects
FEATURE_COUNT = 16  # of a candidate


@dataclass(frozen=True)
class _Job:
    """The job of another process: to draw samples of one photo."""

    dataset: str  # coco or bsds
    folder: str
    index: int  # of the photo in the data set
    samples: int
    edges: str | None  # weights of the edge network
    seed: int


@dataclass(frozen=True, eq=False)
class _Samples:
    """Some candidates of one photo."""

    features: NDArray[np.float32]  # (N, FEATURE_COUNT)
    overlaps: NDArray[np.float32]  # (N,), the best with an object


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
    """Train the ranker and, to measure on COCO without bias, one for each fold on all but that fold's photos.

    Args:
        output: the file for the trees, safetensors; beside it, ``folds/fold_0.safetensors`` and so on.
        coco: the folder of ``images`` and ``instances.json``.
        bsds: the folder of BSDS500's ``images`` and ``groundTruth``; train and val are used.
        samples: candidates of each photo, spread evenly over overlaps, with the best one of every object.
        trees: number of trees in the forest.
        least_leaf: lowest number of samples in a leaf.
        folds: number of folds; COCO's photo j is in fold j mod folds; 0: none.
        edges: weights of the edge network; by default the packaged ones.
        seed: determines the samples and the trees.
        workers: number of processes; by default one for each core.

    Raises:
        ValueError: no data is named, it is not there, or a setting is out of range.
        OSError: the disk is full.
    """
    check_limits(
        "ranker",
        samples=(samples, 1, 1_000_000),
        trees=(trees, 1, 10_000),
        least_leaf=(least_leaf, 1, 1_000_000),
        folds=(folds, 0, 1000),
    )
    coco_photos = len(_coco_photos(coco)) if coco else 0
    bsds_photos = len(find_photos(bsds, "train", "val")) if bsds else 0
    if coco and folds > 0 and not 2 <= folds <= coco_photos:
        raise ValueError(f"folds must be 0, or from 2 to the number of COCO's photos ({coco_photos}), got {folds}")
    jobs = [_Job("coco", coco or "", index, samples, edges, seed) for index in range(coco_photos)]
    jobs += [_Job("bsds", bsds or "", index, samples, edges, seed) for index in range(bsds_photos)]
    sampled = _sample_all(jobs, workers)
    about = {"photos": str(len(jobs)), "samples": str(sum(len(one.overlaps) for one in sampled))}
    target = Path(output)
    parts = {target: sampled}
    for fold in range(folds if coco else 0):
        others = [
            one for job, one in zip(jobs, sampled, strict=True) if job.dataset == "bsds" or job.index % folds != fold
        ]
        parts[target.parent / "folds" / f"fold_{fold}.safetensors"] = others
    for path, part in parts.items():
        forest = _fit(part, trees=trees, least_leaf=least_leaf, seed=seed, workers=workers)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, save_forest(forest, **about))
    return target


def _sample_all(jobs: Sequence[_Job], workers: int | None) -> list[_Samples]:
    """The samples of all photos, drawn in several processes.

    Raises:
        ValueError: there is no photo, or nothing to learn from.
    """
    if not jobs:
        raise ValueError("no photos to train on: name task.coco=FOLDER, task.bsds=FOLDER or both")
    from rich.progress import track

    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        sampled = list(track(pool.map(_sample, jobs), "candidates", total=len(jobs)))
    if not any(len(one.overlaps) for one in sampled):
        raise ValueError("nothing to learn from: no photo has both an object and a candidate")
    return sampled


def _fit(sampled: Sequence[_Samples], *, trees: int, least_leaf: int, seed: int, workers: int | None) -> Forest:
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(
        trees, min_samples_leaf=least_leaf, max_features=0.4, random_state=seed, n_jobs=workers or -1
    )
    forest.fit(np.concatenate([one.features for one in sampled]), np.concatenate([one.overlaps for one in sampled]))
    return forest_of(forest)


def _sample(job: _Job) -> _Samples:
    """Draw candidates of one photo."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    path, masks = (
        _coco_objects(job.folder, job.index) if job.dataset == "coco" else _bsds_objects(job.folder, job.index)
    )
    partition, hierarchies = find_hierarchies(shrink(load_image(path), LONGEST_SIDE), _detector(job.edges))
    groups = group(partition, hierarchies, MCG_CANDIDATES)
    if len(groups) == 0 or len(masks) == 0:
        return _Samples(np.zeros((0, FEATURE_COUNT), np.float32), np.zeros(0, np.float32))
    height, width = masks.shape[1:]
    segments = to_segments(groups, np.zeros(len(groups)), partition.superpixels, (height, width))
    overlaps = mask_overlaps(segments, masks)
    best = overlaps.max(0)
    random = np.random.default_rng((job.seed, job.index))
    # As many from each tenth of overlap, as far as there are so many, and always the best one of each object.
    tenth = (best * 10).astype(int)
    rarity = 1 / np.bincount(tenth, minlength=11)[tenth]
    drawn = random.choice(len(best), min(job.samples, len(best)), replace=False, p=rarity / rarity.sum())
    chosen = np.union1d(drawn, overlaps.argmax(1))
    return _Samples(groups.features[chosen], best[chosen].astype(np.float32))


@cache
def _detector(weights: str | None) -> EdgeDetector:
    return EdgeDetector(weights)


@cache
def _coco_photos(folder: str) -> list[CocoPhoto]:
    return read_photos(Path(folder) / "instances.json", Path(folder) / "images")[0]


def _coco_objects(folder: str, index: int) -> tuple[Path, Tensor]:
    """The path of a photo and the masks of its objects, (K, H, W)."""
    photo = _coco_photos(folder)[index]
    return photo.path, object_masks(photo)


def _bsds_objects(folder: str, index: int) -> tuple[Path, Tensor]:
    """The path of a photo and the masks of its larger segments, (K, H, W)."""
    path = find_photos(folder, "train", "val")[index]
    people = read_annotated(path).segments
    masks = [person == label for person in people for label in np.unique(person)]
    large = [mask for mask in masks if mask.mean() >= MIN_SEGMENT_AREA]
    return path, torch.from_numpy(np.stack(large))
