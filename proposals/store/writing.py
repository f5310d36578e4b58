"""Adding to a store of proposals, safe against being killed at any moment."""

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

LIBRARY = ("v110", "v110")  # of HDF5 since 1.10, which stores small things in little room
PHOTOS, BYTES, SECONDS = 64, 2**26, 5.0  # that a part holds at most; what a kill can cost

log = logging.getLogger("proposals")


@dataclass(frozen=True, eq=False)
class Entry:
    """The proposals of a photo, as plain arrays."""

    file: File
    size: tuple[int, int]  # (height, width)
    arrays: dict[str, NDArray[Any]] | None  # None: the store has them


class Writer:
    """Adds to a store, such that a kill at any moment costs the last seconds alone.

    Finished photos go to small files in ``PATH.parts``; `finish` joins them, with the store that is there, to a new one
    that takes its place at once.

    Args:
        path: the store, which may be there already.
        settings: of the proposals, plain values.

    Raises:
        ValueError: the store, or what a killed run left, has other settings; another run is writing to it.
        OSError: the folder cannot be written to.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.folder = path.with_name(f"{path.name}.parts")
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.stamps: set[str] = set()  # of the files that need no work
        self._pending: list[Entry] = []
        self._number = 0  # of the last part
        self._flushed = time.monotonic()
        self._failed: dict[str, str] = {}  # by earlier runs
        self._changed = ""
        self._before = Stored(path) if path.exists() else None
        if self._before is not None and len(self._before) == 0:  # photos that failed bind nobody to its settings
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
        """Keep a photo's proposals; a file holds them within seconds."""
        self._pending.append(entry)
        size = sum(array.nbytes for kept in self._pending for array in (kept.arrays or {}).values())
        if len(self._pending) >= PHOTOS or size >= BYTES or time.monotonic() - self._flushed >= SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is only in memory.

        Raises:
            OSError: the disk is full.
        """
        if self._pending:
            self._number += 1
            # In memory first: HDF5 ends badly on a full disk.
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
        """Make the store of all that was added, now or by runs that were killed.

        Args:
            failed: photos that could not be read, and why.

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
            number = getattr(error, "errno", None)  # HDF5 has it, and says much more
            reason = os.strerror(number) if number else one_line(error)
            raise OSError(f"{self.path} cannot be written: {reason}") from None
        finally:
            joined.unlink(missing_ok=True)
        self._tidy()

    def _resume(self) -> None:
        """Clear up after a run that was killed, and go on from what it finished."""
        for half_written in self.folder.glob("*.part"):
            half_written.unlink()
        for part in self._parts():
            self._number = int(part.stem)
            try:
                stored = Stored(part)
                stored.files()
            except ValueError as error:
                log.warning("warning: thrown away, and computed again: %s", error)
                part.unlink()
                continue
            self._accept(part, stored)

    def _tidy(self) -> None:
        for file in (*self._parts(), self.folder / "lock"):
            file.unlink(missing_ok=True)
        with suppress(OSError):  # it is gone, or holds what is not ours
            self.folder.rmdir()

    def _parts(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.h5") if path.stem.isdecimal())

    def _accept(self, path: Path, stored: Stored) -> None:
        """Count on what a file holds, if it was made as we would make it."""
        differences = _differences(stored.settings, self.settings)
        if differences:
            what = path if path == self.path else self.folder
            raise ValueError(f"{what} was made with {differences}; name another file with output=…, or delete this one")
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
    """What changes when a file is moved or written to, in hexadecimal; empty where there is no file."""
    try:
        status = os.stat(path)
        told = b"%s\0%d\0%d" % (os.fsencode(os.path.abspath(path)), status.st_size, status.st_mtime_ns)
    except (OSError, ValueError):
        return ""
    return blake2b(told, digest_size=16).hexdigest()


def arrays_of(regions: Regions) -> dict[str, NDArray[Any]]:
    """Regions, or segments, as the arrays that a store keeps.

    Raises:
        ValueError: there is NaN among them, or segments are not sets of their superpixels.
    """
    arrays = {name: getattr(regions, name).detach().cpu().float().numpy() for name in ("boxes", "scores")}
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("proposals hold NaN or infinity")
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
    """Add what a part holds and a store lacks, whose files (names by stamp) grow with it."""
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
    """A lock on a folder that ends with the process, or when what is returned is closed."""
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
    """The settings that differ, four at most, with both values."""
    old, new = _flat("proposals", there), _flat("proposals", here)
    named = [
        f"{name}={old.get(name, 'unset')} (now {new.get(name, 'unset')})"
        for name in sorted({*old, *new})
        if old.get(name, "unset") != new.get(name, "unset")
    ]
    return ", ".join(named[:4]) + (f" and {len(named) - 4} more" if len(named) > 4 else "")


def _flat(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    return {path: leaf for key, inner in value.items() for path, leaf in _flat(f"{name}.{key}", inner).items()}
