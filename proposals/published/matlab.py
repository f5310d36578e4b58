"""MATLAB files, v5 and v7.3, as plain values."""

import math
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

# Of v5: types of elements that are numbers, two other types, and classes of arrays.
NUMBERS = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
TEXTS = {4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le"}  # encodings; Latin-1 for all others
ARRAY, COMPRESSED = 14, 15
CELL, STRUCT, CHAR, NUMERIC = 1, 2, 4, range(6, 16)


def read_matlab(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file, v5 or v7.3: arrays, texts, lists for cells (columns first), dicts for structs.

    Raises:
        ValueError: it is no MATLAB file, or damaged.
    """
    import h5py

    try:
        variables: dict[str, Any]
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                variables = _from_hdf5(file)
        else:
            content = path.read_bytes()
            if content[126:128] != b"IM":  # the end of the header of v5, and the order of bytes
                raise ValueError("its first bytes are of neither version (save files of older versions again with -v7)")
            variables = {name: value for name, value in _arrays(_elements(memoryview(content)[128:])) if name}
    except Exception as error:  # a damaged file can raise any error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"cannot be read as a MATLAB file, v5 or v7.3: {reason}") from None
    return variables


def _text(rows: list[str]) -> Any:
    """The text of a char array, or the list of texts of several rows.

    MATLAB pads rows with spaces, and cuts characters beyond 16 bits in two.
    """
    texts = [row.rstrip().encode("utf-16", "surrogatepass").decode("utf-16") for row in rows]
    return texts[0] if len(texts) == 1 else texts


def _elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type and content of each element of a v5 file, or of an array in it."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        start, after = at + 8, at + 8 + size + (-size % 8 if kind != COMPRESSED else 0)
        if kind > 0xFFFF:  # type and size share the first half of eight bytes, the content is in the second
            kind, size, start, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        if start + size > len(data):
            raise ValueError("it ends too early")
        content, at = data[start : start + size], after
        if kind == COMPRESSED:
            yield from _elements(memoryview(zlib.decompress(content)))
        else:
            yield kind, content


def _arrays(elements: Iterable[tuple[int, memoryview]]) -> Iterator[tuple[str, Any]]:
    """Name and value of each array among the elements of a v5 file."""
    for kind, content in elements:
        if kind != ARRAY:
            raise ValueError(f"it has an element of type {kind} where an array should be")
        yield _from_v5(content)


def _from_v5(data: memoryview) -> tuple[str, Any]:
    """Name and value of an array in a v5 file; None for kinds that hold no proposals, such as objects and functions.

    `scipy.io.loadmat` is not used: some damaged files crash it, and the whole process with it.
    """
    parts = list(_elements(data))
    if not parts:
        return "", np.zeros((0, 0))
    kind = parts[0][1][0]
    if kind not in (CELL, STRUCT, CHAR, *NUMERIC):
        return "", None
    shape, name, values = struct.unpack(f"<{len(parts[1][1]) // 4}i", parts[1][1]), str(parts[2][1], "ascii"), parts[3:]
    if kind == CELL:
        cells = [value for _, value in _arrays(values)]
        if len(cells) != math.prod(shape):
            raise ValueError(f"{name} has {len(cells)} cells, but its shape is {shape}")
        return name, cells
    if kind == STRUCT:
        width, fields = int.from_bytes(values[0][1], "little"), bytes(values[1][1])
        names = [fields[i : i + width].partition(b"\0")[0].decode() for i in range(0, len(fields), width)]
        is_array = len(names) != len(values) - 2
        return name, None if is_array else dict(zip(names, (v for _, v in _arrays(values[2:])), strict=True))
    if len(values) != 1:  # complex
        return name, None
    ((code, content),) = values
    if kind == CHAR:
        text = str(content, TEXTS.get(code, "latin-1"), "replace")
        rows = ["".join(row) for row in np.array([*text]).reshape(shape, order="F")] if shape[0] > 1 else [text]
        return name, _text(rows)
    return name, np.frombuffer(content, NUMBERS[code]).reshape(shape, order="F")


def _from_hdf5(node: Any) -> Any:
    """The value of a group or dataset in a v7.3 file; links to other files are not followed."""
    import h5py

    if isinstance(node, h5py.Group):
        names = [name for name in node if name[0] != "#" and name != "masks"]  # huge; MCG's labels suffice
        return {n: _from_hdf5(node[n]) for n in names if isinstance(node.get(n, getlink=True), h5py.HardLink)}
    kind = node.attrs.get("MATLAB_class", b"")
    if node.attrs.get("MATLAB_empty", 0):  # its data are the shape
        return [] if kind == b"cell" else "" if kind == b"char" else np.zeros((0, 0))
    if h5py.check_ref_dtype(node.dtype) is h5py.Reference:
        return [_from_hdf5(node.file[reference]) for reference in node[()].ravel()]
    if kind == b"char":
        return _text(["".join(map(chr, row)) for row in node[()].T])
    return node[()].T  # MATLAB writes columns first
