"""Reading a store: the proposals of many photos in one HDF5 file.

A photo is found by its pixels: a path, an array and a tensor of it are the same, and a moved file is still known.

    /                   format, settings, versions (both JSON), created
    /photos/KEY         name, size (height, width)
        boxes, scores   (N, 4) and (N,) float32, best first
        superpixels, offsets, indices    as in `Segments`, where the method knows outlines; unsigned integers
    /index              a line of JSON [name, key, stamp] for each file; several files may show the same photo
    /failed             a line of JSON [name, error] for each photo that could not be read

Texts are plain bytes: with HDF5's own strings of variable length, a damaged file can hang its reader.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grounding.images import ImageSource, load_image
from grounding.messages import one_line, printable
from grounding.records import Regions, Segments

FORMAT = b"phrase-grounding proposals 1"
PACKAGES = ("phrase-grounding", "numpy", "torch", "opencv-contrib-python-headless", "higra", "pillow", "h5py")
DAMAGE = (OSError, RuntimeError, KeyError, TypeError)  # errors that h5py raises when a file is damaged
LARGEST = 2**30  # bytes of an array; a damaged file may claim more than any photo can have


class File(NamedTuple):
    """A photo's file whose proposals are stored; several files may show the same photo."""

    name: str  # the path that was given to the run that added it
    key: str  # hash of its pixels, see `key_of`
    stamp: str  # hash of its path, size and time of change, see `proposals.store.writing.stamp_of`


class Stored:
    """Looks up the proposals that ``python -m proposals`` has stored. Can be sent to other processes.

    Args:
        path: the store's file.
        count: number of regions of each photo at most, the best first; None for all.

    Raises:
        ValueError: there is no such file, it is no store, of another format or cut short, or count is not positive.
    """

    def __init__(self, path: str | Path, *, count: int | None = None) -> None:
        if count is not None and (not isinstance(count, int) or count < 1):
            raise ValueError(f"Stored: count must be at least 1, or null, got {count!r}")
        self.path = Path(path).expanduser()
        self.count = count
        self._opened: tuple[int, h5py.File] | None = None  # and the process that opened it
        self._photos()

    def __call__(self, image: ImageSource) -> Regions:
        """The proposals of a photo, best first, as `Segments` where there are outlines.

        Raises:
            ValueError: the image cannot be read, the store does not hold it, or its proposals are damaged.
        """
        loaded = load_image(image)
        photo = printable(image) if isinstance(image, str | Path) else "a photo of {1}×{2} pixels".format(*loaded.shape)
        key = key_of(loaded)
        if key not in self:
            raise ValueError(
                f"{photo} is not among the {len(self)} photos of {self.path}; `python -m proposals image=PHOTO "
                f"output={self.path}` with the settings of that file adds it{changes_since(self.versions)}"
            )
        try:
            return _regions(_group(self._photos(), key), self.count)
        except ValueError as error:
            raise ValueError(f"{self.path}: the proposals of {photo} cannot be read: {error}") from None

    def __contains__(self, key: str) -> bool:
        """Whether the store has proposals of the photo with this key (see `key_of`)."""
        return _has(self._photos(), key)

    def __len__(self) -> int:
        """The number of different photos."""
        return len(self._photos())

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the method that made the proposals, as in ``conf/proposals``."""
        return _values(self._file(), "settings")

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the packages that computed the proposals."""
        return _values(self._file(), "versions")

    def files(self) -> list[File]:
        """The files whose proposals are stored, in the order in which they were added."""
        return [File(*row) for row in _rows(self._file(), "index", len(File._fields))]

    def keys(self) -> set[str]:
        """The keys of all photos (see `key_of`)."""
        try:
            return set(self._photos())
        except DAMAGE as error:
            raise ValueError(f"{self.path}: damaged: {one_line(error)}") from None

    def failed(self) -> dict[str, str]:
        """The error of each file that could not be read, by the file's name."""
        return {row[0]: row[1] for row in _rows(self._file(), "failed", 2)}

    def copy(self, photos: h5py.Group) -> None:
        """Copy the photos that another store lacks into its group of photos."""
        for key in self._photos():
            if key not in photos:
                photos.copy(_group(self._photos(), key), photos, key)

    def _file(self) -> h5py.File:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), _open(self.path))
        return self._opened[1]

    def _photos(self) -> h5py.Group:
        return _group(self._file(), "photos")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


def key_of(image: Tensor) -> str:
    """The key of a photo (3, H, W) in [0, 1]: a hash of its size and pixels, in hexadecimal.

    >>> key_of(torch.zeros(3, 2, 4)) == key_of(torch.zeros(3, 4, 2))
    False
    """
    pixels = (image * 255).round().byte().contiguous().cpu().numpy()
    return blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=16).hexdigest()


def check_outlines(count: int, superpixels: NDArray[Any], offsets: NDArray[Any], indices: NDArray[Any]) -> None:
    """Raise a `ValueError` unless segments are sets of their superpixels (see `Segments`)."""
    if superpixels.ndim != 2 or superpixels.size == 0 or superpixels.min() < 0:
        raise ValueError(f"expected superpixels (h, w) from 0, got {superpixels.shape}")
    if offsets.shape != (count + 1,) or offsets[0] != 0 or (np.diff(offsets) < 0).any() or indices.ndim != 1:
        raise ValueError(f"{count} segments need {count + 1} offsets, from 0 and never falling")
    if offsets[-1] != len(indices) or (len(indices) and not 0 <= indices.min() <= indices.max() <= superpixels.max()):
        raise ValueError("segments have members that are not among the superpixels")


def _regions(group: h5py.Group, count: int | None) -> Regions:
    boxes, scores = (_array(group, name, "f", count).astype(np.float32) for name in ("boxes", "scores"))
    if not np.isfinite(boxes).all() or not np.isfinite(scores).all():
        raise ValueError("boxes or scores are NaN or infinite")
    ranked = torch.from_numpy(boxes), torch.from_numpy(scores)
    if not _has(group, "superpixels"):
        return Regions(*ranked)
    superpixels = _array(group, "superpixels", "u").astype(np.int32)
    offsets = _array(group, "offsets", "u", len(scores) + 1).astype(np.int64)
    indices = _array(group, "indices", "u", int(offsets[-1]) if len(offsets) else 0).astype(np.int64)
    check_outlines(len(scores), superpixels, offsets, indices)
    return Segments(*ranked, torch.from_numpy(superpixels), (torch.from_numpy(offsets), torch.from_numpy(indices)))


def _open(path: Path) -> h5py.File:
    try:
        if not path.is_file():
            raise ValueError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
        file = h5py.File(path, "r")
        found = file.attrs.get("format")
    except DAMAGE as error:
        raise ValueError(f"{path}: no store of proposals, or cut short: {one_line(error)}") from None
    if not isinstance(found, bytes) or found != FORMAT:
        raise ValueError(f"{path}: no store of proposals of this version ({FORMAT.decode()})")
    return file


def _group(parent: h5py.Group, name: str) -> h5py.Group:
    return _own(parent, name, h5py.Group)


def _array(group: h5py.Group, name: str, kinds: str, stop: int | None = None) -> NDArray[Any]:
    """The first entries of a dataset. Its type and size are checked before anything is read."""
    data = _own(group, name, h5py.Dataset)
    if data.external or data.is_virtual or data.dtype.kind not in kinds or data.nbytes > LARGEST or data.ndim == 0:
        raise ValueError(f"{group.file.filename}: {data.name} has another type or size than in a store")
    try:
        return np.asarray(data[:stop])
    except DAMAGE as error:
        raise ValueError(f"{group.file.filename}: {data.name} is damaged: {one_line(error)}") from None


def _own(parent: h5py.Group, name: str, kind: type) -> Any:
    """A member of a group itself, never one that a link leads to, which may lie in another file."""
    try:
        member = parent[name] if _has(parent, name) else None
    except DAMAGE:
        member = None
    if not isinstance(member, kind):
        raise ValueError(f"{parent.file.filename}: {parent.name} has no {name}, or it is damaged")
    return member


def _has(parent: h5py.Group, name: str) -> bool:
    """Whether a group has a member itself; links are not followed."""
    links = parent.id.links
    try:
        return bool(links.exists(name.encode()) and links.get_info(name.encode()).type == h5py.h5l.TYPE_HARD)
    except DAMAGE:
        return False


def _rows(file: h5py.File, name: str, columns: int) -> list[list[str]]:
    """The rows of a table of texts."""
    try:
        rows = [json.loads(line) for line in _array(file, name, "u").tobytes().splitlines()]
    except (ValueError, RecursionError):
        rows = [None]
    if not all(isinstance(row, list) and len(row) == columns and all(isinstance(t, str) for t in row) for row in rows):
        raise ValueError(f"{file.filename}: {name} is damaged")
    return rows


def _values(file: h5py.File, name: str) -> dict[str, Any]:
    try:
        values = json.loads(bytes(file.attrs[name]))
    except (*DAMAGE, ValueError):
        values = None
    if not isinstance(values, dict):
        raise ValueError(f"{file.filename}: no store of proposals: its {name} are missing or damaged")
    return values


@cache
def package_versions() -> dict[str, str]:
    """Versions of the installed packages that proposals depend on."""
    found = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def changes_since(made_with: Mapping[str, str]) -> str:
    """A text on the packages whose versions differ from those that made a file; empty where none does."""
    here = package_versions()
    other = [name for name, old in made_with.items() if name in here and here[name] not in str(old).split(", ")]
    return "".join(f"; made with {name} {made_with[name]}, here is {here[name]}" for name in other)
