"""Proposing regions in many photos at once, in several processes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grounding.config import build_part
from grounding.images import load_image, stretch
from grounding.messages import describe_failure
from grounding.processes import in_processes
from proposals.store.reading import File, Stored, key_of
from proposals.store.writing import Entry, arrays_of, stamp_of


@dataclass(frozen=True)
class Failure:
    """A photo without proposals."""

    name: str
    error: str  # one line


@dataclass(frozen=True)
class Work:
    """The part of the work that is the same for all photos. It is sent to every process."""

    settings: dict[str, Any]  # of the method, plain values
    folder: Path  # to which the names of photos are relative
    store: Path | None  # with the proposals of earlier runs
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # as in `grounding.photos.Photos`


class Worker:
    """Proposes regions in one photo after the other."""

    def __init__(self, work: Work) -> None:
        self.propose = build_part(work.settings)
        self.folder = work.folder
        self.sizes = work.sizes
        self.stored = None if work.store is None else Stored(work.store)

    def __call__(self, name: str) -> Entry | Failure:
        """The proposals of a photo; any error is a failure of this photo alone."""
        path, size = self.folder / name, self.sizes.get(name)
        try:
            stamp = stretched_stamp(path, size)  # first: a file that changes from now on is read again by the next run
            image = loaded = load_image(path)
            if size is not None:
                image = stretch(loaded, size)
            key = key_of(image)
            is_known = self.stored is not None and key in self.stored
            arrays = None if is_known else arrays_of(self.propose(path if image is loaded else image))
            return Entry(File(name, key, stamp), (image.shape[1], image.shape[2]), arrays)
        except Exception as error:  # also those of libraries
            return Failure(name, describe_failure(path, error))


def stretched_stamp(path: Path, size: tuple[int, int] | None) -> str:
    """The stamp of a photo's file (`stamp_of`), with the size, if any, to which the photo is stretched."""
    stamp = stamp_of(path)
    return stamp if size is None or not stamp else f"{stamp}-{size[0]}x{size[1]}"


def propose_each(names: Sequence[str], work: Work, *, processes: int) -> Iterator[Entry | Failure | None]:
    """Propose regions in photos; results come in the order in which they are finished.

    Args:
        names: names of the photos.
        work: settings and folders that all photos share.
        processes: number of processes; with fewer than two, this one does the work.

    Yields:
        The proposals of a photo, or its failure; None whenever nothing has been finished for some seconds.

    Raises:
        ValueError: the settings are wrong.
        ChildProcessError: a process died.
    """
    worker = Worker(work)  # also with processes: wrong settings are no failure of a photo or a process
    if processes < 2:
        yield from map(worker, names)
        return
    try:
        yield from in_processes(_start, work, names, processes=processes)
    except ChildProcessError as error:
        raise ChildProcessError(
            f"{error}; finished photos are kept, and the same command with fewer workers=… continues from there"
        ) from None


def _start(work: Work) -> Worker:
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return Worker(work)
