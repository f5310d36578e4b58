"""Read a ``.caffemodel``: Caffe's trained networks, as Protocol Buffers write them.

The file is one message, ``NetParameter`` of Caffe's ``caffe.proto``. Of it we read the layers, in the current form and
in the one before 2015 (``V1LayerParameter``), and of a layer its name and arrays ("blobs"). A message is a sequence of
fields, each with a number, a wire type and a value, and that is all that a reader needs to know. Memory is taken for
bytes that are there alone, whatever length or shape the file claims.
"""

import mmap
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5  # wire types
WIDTHS = {FIXED64: 8, FIXED32: 4}  # bytes
LAYER_FIELDS = {100: (1, 7), 2: (4, 6)}  # numbers of the fields: a layer of the network; its name, its arrays
OLD_DIMENSIONS = (1, 2, 3, 4)  # an array's fields: num, channels, height, width
DATA, SHAPE, DOUBLE_DATA = 5, 7, 8
MOST_DIMENSIONS = 32  # of an array, in Caffe itself


class Field(NamedTuple):
    """One field of a message."""

    number: int
    wire_type: int
    value: int  # of a varint
    content: memoryview  # of all others


def read_caffemodel(path: Path) -> dict[str, list[Tensor]]:
    """Read the arrays of all layers that have any, by the name of the layer.

    Returns:
        Tensors of float32 or float64 in Caffe's shapes: of a layer with weights these are its weights and biases.

    Raises:
        ValueError: the file cannot be read, is truncated, or holds no layers with arrays.
    """
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValueError:  # nothing to map
        raise ValueError(f"{path}: the file is empty") from None
    layers: dict[str, list[Tensor]] = {}
    try:
        for field in read_fields(content):
            if field.number in LAYER_FIELDS and field.wire_type == LENGTH_DELIMITED:
                name, arrays = _read_layer(field.content, *LAYER_FIELDS[field.number])
                if arrays:
                    layers[name] = arrays
    except ValueError as error:
        raise ValueError(f"{path}: truncated, or no .caffemodel: {error}") from None
    if not layers:
        raise ValueError(f"{path}: no layer in it has weights: is it a .caffemodel?")
    return layers


def read_fields(message: memoryview) -> Iterator[Field]:
    """The fields of a message, in order.

    Raises:
        ValueError: a field is cut off, or of a type that there is not.

    >>> [(field.number, field.value) for field in read_fields(memoryview(bytes([0x08, 0x96, 0x01])))]
    [(1, 150)]
    """
    position = 0
    while position < len(message):
        key, position = _read_varint(message, position)
        number, wire_type = key >> 3, key & 7
        value, size = 0, WIDTHS.get(wire_type, 0)
        if wire_type in (VARINT, LENGTH_DELIMITED):
            value, position = _read_varint(message, position)
            size = value if wire_type == LENGTH_DELIMITED else 0
        elif wire_type not in WIDTHS:
            raise ValueError(f"field {number} has the wire type {wire_type}, which is not used")
        if number == 0:
            raise ValueError("a field has the number 0")
        if size > len(message) - position:
            raise ValueError(f"field {number} needs {size} bytes, but {len(message) - position} are left")
        yield Field(number, wire_type, value, message[position : position + size])
        position += size


def _read_varint(message: memoryview, position: int) -> tuple[int, int]:
    """An integer of 7 bits a byte, the lowest first, all bytes but the last above 127; and the position after it."""
    value = 0
    for place, byte in enumerate(message[position : position + 10]):
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, position + place + 1
    raise ValueError("a number is cut off or has more than 10 bytes")


def _read_layer(message: memoryview, name_field: int, array_field: int) -> tuple[str, list[Tensor]]:
    name, arrays = "", []
    for field in read_fields(message):
        if field.number == name_field and field.wire_type == LENGTH_DELIMITED:
            name = bytes(field.content).decode(errors="replace")
        elif field.number == array_field and field.wire_type == LENGTH_DELIMITED:
            try:
                arrays.append(_read_array(field.content))
            except ValueError as error:
                raise ValueError(f"array {len(arrays) + 1} of layer {name!r}: {error}") from None
    return name, arrays


def _read_array(message: memoryview) -> Tensor:
    """An array (a ``BlobProto``); its shape is one list, or four numbers in older files."""
    singles, doubles = bytearray(), bytearray()
    old_shape = dict.fromkeys(OLD_DIMENSIONS, 0)
    shape: list[int] | None = None
    for field in read_fields(message):
        if field.number in OLD_DIMENSIONS and field.wire_type == VARINT:
            old_shape[field.number] = field.value
        elif field.number == SHAPE and field.wire_type == LENGTH_DELIMITED:
            shape = _read_shape(field.content)
        elif field.number == DATA and field.wire_type in (FIXED32, LENGTH_DELIMITED):  # one number, or many of them
            singles += field.content
        elif field.number == DOUBLE_DATA and field.wire_type in (FIXED64, LENGTH_DELIMITED):
            doubles += field.content
    values = _as_tensor(doubles, torch.float64) if doubles else _as_tensor(singles, torch.float32)
    sizes = list(old_shape.values()) if shape is None else shape
    if prod(sizes) != len(values) or max(sizes, default=0) > len(values):
        raise ValueError(f"its shape is {'×'.join(map(str, sizes))}, but it has {len(values)} numbers")
    return values.view(sizes)


def _read_shape(message: memoryview) -> list[int]:
    """The sizes of a ``BlobShape``, which may stand one by one or packed."""
    sizes: list[int] = []
    for field in read_fields(message):
        if field.number == 1 and field.wire_type == VARINT:
            sizes.append(field.value)
        elif field.number == 1 and field.wire_type == LENGTH_DELIMITED:
            position = 0
            while position < len(field.content) and len(sizes) <= MOST_DIMENSIONS:
                size, position = _read_varint(field.content, position)
                sizes.append(size)
    if len(sizes) > MOST_DIMENSIONS:
        raise ValueError(f"more than {MOST_DIMENSIONS} dimensions")
    return sizes


def _as_tensor(content: bytearray, kind: torch.dtype) -> Tensor:
    """A vector of the numbers, which are little-endian in the file."""
    if len(content) % kind.itemsize:
        raise ValueError(f"{len(content)} bytes are no whole number of floats of {kind.itemsize} bytes")
    return torch.frombuffer(content, dtype=kind) if content else torch.empty(0, dtype=kind)
