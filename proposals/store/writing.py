"""Writing a store, safely: a run that is killed at any moment loses the last seconds alone."""

import errno
import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from grounding.files import write_file
from grounding.messages import one_line, printable
from grounding.records import Regions, Segments
from proposals.store.reading import DAMAGE, FORMAT, File, Stored, changes_since, check_outlines, package_versions

LIBRARY = ("v110", "v110")  # the format of HDF5 1.10, in which small datasets take little room
PHOTOS, BYTES, SECONDS = 64, 2**26, 5.0  # of a part at most; a killed run loses no more than that

log = logging.getLogger("proposals")


@dataclass(frozen=True, eq=False)
class Entry:
    """The proposals of a photo, as plain arrays."""

    file: File
    size: tuple[int, int]  # (height, width)
    arrays: dict[str, NDArray[Any]] | None  # None where the store has them already


class Writer:
    """Adds photos to a store.

    Finished photos go to small part files in ``PATH.parts``. `finish` joins the existing store and the parts in a new
    file, which then replaces the store.

    Args:
        path: the store, which may exist already.
        settings: settings of the method, plain values.

    Raises:
        ValueError: the store, or a part that a killed run left, has other settings; another run is writing to it.
        OSError: the folder cannot be written to.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.folder = path.with_name(f"{path.name}.parts")
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.stamps: set[str] = set()  # of the files whose proposals are stored
        self._pending: list[Entry] = []
        self._number = 0  # of the newest part
        self._flushed = time.monotonic()
        self._failed: dict[str, str] = {}  # errors of earlier runs, by the file's name
        self._changed = ""  # the last warning about versions
        self._before = Stored(path) if path.exists() else None
        if (
            self._before is not None and len(self._before) == 0
        ):  # a store of failures alone may be made anew with any settings
            self._before = None
            path.unlink()
        if self._before is not None:
            self._accept(path, self._before)
            self._failed = self._before.failed()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.folder)
        try:
            self._resume()
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.flush()
        finally:
            if not self._parts():
                self._tidy()
            os.close(self._lock)

    def add(self, entry: Entry) -> None:
        """Add a photo's proposals; within seconds they are on disk."""
        self._pending.append(entry)
        size = sum(array.nbytes for kept in self._pending for array in (kept.arrays or {}).values())
        if len(self._pending) >= PHOTOS or size >= BYTES or time.monotonic() - self._flushed >= SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the photos that are only in memory to a part.

        Raises:
            OSError: the disk is full.
        """
        if self._pending:
            self._number += 1
            # In memory first: HDF5 leaves a broken file, and may crash, where the disk is full.
            with h5py.File("part", "w", driver="core", backing_store=False, libver=LIBRARY) as file:
                _begin(file, self.settings, package_versions())
                for entry in self._pending:
                    _add(file, entry)
                file.flush()
                content = file.id.get_file_image()
            write_file(self.folder / f"{self._number:06}.h5", content)
            self._pending = []
        self._flushed = time.monotonic()

    def finish(self, failed: Mapping[str, str]) -> None:
        """Write the store: all that it held, and all that was added, also by earlier runs that were killed.

        Args:
            failed: error of each photo that could not be read, by its name.

        Raises:
            OSError: the disk is full; the parts are kept.
        """
        self.flush()
        parts = self._parts()
        if self._before is not None and not parts and failed.items() <= self._failed.items():
            return
        needed = sum(file.stat().st_size for file in (self.path, *parts) if file.exists())
        if shutil.disk_usage(self.folder).free < needed:
            raise OSError(
                errno.ENOSPC, f"{self.path} cannot be written: the disk has no room for {needed / 1e6:.0f} MB"
            )
        joined = self.folder / "joined.part"
        try:
            if self.path.exists():
                shutil.copyfile(self.path, joined)
            with h5py.File(joined, "a", libver=LIBRARY) as file:
                if "photos" not in file:
                    _begin(file, self.settings, package_versions())
                files = {} if self._before is None else {one.stamp: one.name for one in self._before.files()}
                for part in parts:
                    _join(file, Stored(part), files)
                read = set(files.values())
                earlier = {name: error for name, error in self._failed.items() if name not in read}
                file["failed"].resize(0, 0)
                _append(file["failed"], (earlier | dict(failed)).items())
            with joined.open("rb") as written:
                os.fsync(written.fileno())
            os.replace(joined, self.path)
        except DAMAGE as error:
            number = getattr(error, "errno", None)  # h5py's own text has several lines
            reason = os.strerror(number) if number else one_line(error)
            raise OSError(f"{self.path} cannot be written: {reason}") from None
        finally:
            joined.unlink(missing_ok=True)
        self._tidy()

    def _resume(self) -> None:
        """Clear up after a run that was killed, and continue from the parts that it finished."""
        for half_written in self.folder.glob("*.part"):
            half_written.unlink()
        for part in self._parts():
            self._number = int(part.stem)
            try:
                stored = Stored(part)
                stored.files()
            except ValueError as error:
                log.warning("warning: a damaged part is deleted, and its photos are computed again: %s", error)
                part.unlink()
                continue
            self._accept(part, stored)

    def _tidy(self) -> None:
        for file in (*self._parts(), self.folder / "lock"):
            file.unlink(missing_ok=True)
        with suppress(OSError):  # it is gone, or holds other files
            self.folder.rmdir()

    def _parts(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.h5") if path.stem.isdecimal())

    def _accept(self, path: Path, stored: Stored) -> None:
        """Count the photos of a store or part as done, if it was made with the same settings."""
        differences = _differences(stored.settings, self.settings)
        if differences:
            place = path if path == self.path else self.folder
            raise ValueError(
                f"{place} was made with {differences}; name another file with output=…, or delete this one"
            )
        changed = changes_since(stored.versions)
        if changed != self._changed:  # once, not for each part
            log.warning("warning: %s%s", path, changed)
            self._changed = changed
        keys = stored.keys()
        self.stamps |= {
            file.stamp
            for file in stored.files()
            if file.key in keys or (self._before is not None and file.key in self._before)
        }


def stamp_of(path: str | Path) -> str:
    """A hash of a file's path, size and time of change, in hexadecimal; empty where there is no file."""
    try:
        status = os.stat(path)
        told = b"%s\0%d\0%d" % (os.fsencode(os.path.abspath(path)), status.st_size, status.st_mtime_ns)
    except (OSError, ValueError):
        return ""
    return blake2b(told, digest_size=16).hexdigest()


def arrays_of(regions: Regions) -> dict[str, NDArray[Any]]:
    """Regions, or segments, as the arrays of a store.

    Raises:
        ValueError: a number is NaN or infinite, or segments are not sets of their superpixels.
    """
    arrays = {name: getattr(regions, name).detach().cpu().float().numpy() for name in ("boxes", "scores")}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("boxes or scores of the proposals are NaN or infinite")
    if isinstance(regions, Segments):
        tensors = (regions.superpixels, *regions.members)
        outlines = [tensor.detach().cpu().numpy().astype(np.int64) for tensor in tensors]
        check_outlines(len(regions), *outlines)
        for name, array in zip(("superpixels", "offsets", "indices"), outlines, strict=True):
            arrays[name] = array.astype(np.min_scalar_type(array.max(initial=0)))
    return arrays


def _begin(file: h5py.File, settings: Mapping[str, Any], versions: Mapping[str, str]) -> None:
    file.attrs["format"] = np.bytes_(FORMAT)
    file.attrs["settings"] = _json(settings)
    file.attrs["versions"] = _json(versions)
    file.attrs["created"] = np.bytes_(datetime.now(UTC).isoformat(timespec="seconds"))
    file.create_group("photos")
    for table in ("index", "failed"):
        file.create_dataset(table, (0,), np.uint8, maxshape=(None,), chunks=(2**14,), compression="gzip")


def _add(file: h5py.File, entry: Entry) -> None:
    if entry.arrays is not None and entry.file.key not in file["photos"]:
        group = file["photos"].create_group(entry.file.key)
        group.attrs["name"] = np.bytes_(printable(entry.file.name).encode())
        group.attrs["size"] = entry.size
        for name, array in entry.arrays.items():
            is_packed = name in ("superpixels", "indices") and array.size > 0
            packing = {"chunks": array.shape, "compression": "gzip", "shuffle": True} if is_packed else {}
            group.create_dataset(name, data=array, **packing)
    _append(file["index"], [entry.file])


def _join(file: h5py.File, part: Stored, files: dict[str, str]) -> None:
    """Add the photos of a part that a store lacks, and note their files.

    Args:
        file: the store, open for writing.
        part: the part.
        files: names of the store's files by their stamps; those of the part are added.
    """
    part.copy(file["photos"])
    new = [one for one in part.files() if one.stamp not in files and one.key in file["photos"]]
    files |= {one.stamp: one.name for one in new}
    _append(file["index"], new)
    versions = json.loads(bytes(file.attrs["versions"]))
    for package, there in part.versions.items():
        if there not in versions.get(package, "").split(", "):
            versions[package] = ", ".join(filter(None, (versions.get(package), there)))
    file.attrs["versions"] = _json(versions)


def _append(table: h5py.Dataset, rows: Iterable[Sequence[str]]) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    table.resize(len(table) + len(lines), 0)
    table[len(table) - len(lines) :] = np.frombuffer(lines, np.uint8)


def _json(values: Mapping[str, Any]) -> np.bytes_:
    return np.bytes_(json.dumps(values).encode())


def _locked(folder: Path) -> int:
    """Lock a folder, until the process ends or the descriptor that is returned is closed.

    Raises:
        ValueError: another process has locked it.
    """
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ValueError(f"another run is writing to {folder}; wait for it, or name another output=…") from None
    except OSError:  # some network file systems have no locks
        pass
    return lock


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """A text with the settings that differ and matter, four at most, with both values; empty where none does."""
    old, new = _comparable(there), _comparable(here)
    named = [
        f"{name}={old.get(name, 'unset')} (now {new.get(name, 'unset')})"
        for name in sorted({*old, *new})
        if old.get(name, "unset") != new.get(name, "unset")
    ]
    return ", ".join(named[:4]) + (f" and {len(named) - 4} more" if len(named) > 4 else "")


def _comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that change proposals, by their names on the command line.

    A device changes them by rounding alone; and stores of earlier versions hold ``spectral``, a step that is no more,
    which was off where it was 0.
    """
    flat = _flat("proposals", settings)
    return {
        name: value
        for name, value in flat.items()
        if name != "proposals.device" and (name, value) != ("proposals.spectral", 0)
    }


def _flat(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    return {path: leaf for key, inner in value.items() for path, leaf in _flat(f"{name}.{key}", inner).items()}
