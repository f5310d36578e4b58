"""Write ``.caffemodel`` files: Protocol Buffers by hand, in each of the forms that Caffe has written."""

import struct

import numpy as np

NETWORK_NAME, OLD_LAYERS, LAYERS = 1, 2, 100  # fields of a network
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types


def varint(value):
    """An integer of 7 bits a byte."""
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def field(number, content):
    """A field of bytes, or of an integer."""
    if isinstance(content, int):
        return varint(number << 3 | VARINT) + varint(content)
    return varint(number << 3 | BYTES) + varint(len(content)) + content


def array_message(array, *, old_shape=False, packed=True, double=False):
    """An array (BlobProto) of a shape of at most four sizes, if it is in the old form."""
    array = np.asarray(array, "<f8" if double else "<f4")
    sizes = (1,) * (4 - array.ndim) + array.shape
    if old_shape:
        shape = b"".join(field(number, size) for number, size in enumerate(sizes, start=1))
    elif packed:
        shape = field(7, field(1, b"".join(map(varint, array.shape))))
    else:
        shape = field(7, b"".join(field(1, size) for size in array.shape))
    number = 8 if double else 5
    if packed:
        return shape + field(number, array.tobytes())
    wire_type, form = (FIXED64, "<d") if double else (FIXED32, "<f")
    return shape + b"".join(varint(number << 3 | wire_type) + struct.pack(form, value) for value in array.flat)


def layer_message(name, arrays, *, old=False, **options):
    """A layer of the current form, or of the one before."""
    name_field, type_field, array_field = (4, 5, 6) if old else (1, 2, 7)
    kind = 4 if old else b"Convolution"
    parts = [field(array_field, array_message(array, old_shape=old, **options)) for array in arrays]
    return field(name_field, name.encode()) + field(type_field, kind) + b"".join(parts)


def caffemodel(layers, *, old=False, **options):
    """The content of a file with the arrays of layers by name, among layers and settings without any."""
    number = OLD_LAYERS if old else LAYERS
    messages = [layer_message(name, arrays, old=old, **options) for name, arrays in {"data": [], **layers}.items()]
    return field(NETWORK_NAME, b"net") + b"".join(field(number, message) for message in messages) + field(5, 1)
