"""Reading .caffemodel files, which the tests write themselves."""

import numpy as np
import pytest
import torch
from caffe_files import BYTES, array_message, caffemodel, field, layer_message, varint
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.caffe.caffemodel import read_caffemodel

LAYERS = {
    "conv1/7x7_s2": [np.arange(24.0).reshape(2, 3, 2, 2), np.array([0.5, -1.0])],
    "fc8": [np.linspace(-1, 1, 10).reshape(5, 2), np.zeros(5)],
}
FORMS = [
    {"old": old, "packed": packed, "double": double}
    for old in (False, True)
    for packed in (True, False)
    for double in (False, True)
]


def written(tmp_path, content):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    return path


def read_or_refused(path):
    """The layers of a file, or the message of the error."""
    try:
        return read_caffemodel(path)
    except ValueError as error:
        return str(error)


def assert_read(layers, expected):
    assert list(layers) == list(expected)  # in order, and none without arrays
    for name, arrays in expected.items():
        for ours, theirs in zip(layers[name], arrays, strict=True):
            torch.testing.assert_close(ours.double().flatten(), torch.as_tensor(theirs).flatten(), atol=0, rtol=1e-6)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form_is_read(tmp_path, form):
    layers = read_caffemodel(written(tmp_path, caffemodel(LAYERS, **form)))
    assert_read(layers, LAYERS)
    kind = torch.float64 if form["double"] else torch.float32
    assert {array.dtype for arrays in layers.values() for array in arrays} == {kind}
    shapes = [tuple(array.shape) for arrays in layers.values() for array in arrays]
    if form["old"]:
        assert shapes == [(2, 3, 2, 2), (1, 1, 1, 2), (1, 1, 5, 2), (1, 1, 1, 5)]
    else:
        assert shapes == [(2, 3, 2, 2), (2,), (5, 2), (5,)]


arrays = st.lists(st.integers(1, 4), max_size=4).flatmap(
    lambda shape: st.integers(0, 2**16).map(lambda seed: np.random.default_rng(seed).standard_normal(shape))
)
networks = st.dictionaries(st.text(max_size=8), st.lists(arrays, min_size=1, max_size=3), min_size=1, max_size=4)


@settings(max_examples=50)
@given(networks, st.sampled_from(FORMS))
def test_any_layers_come_back(tmp_path_factory, network, form):
    network.pop("data", None)  # the helper's own layer, which has no arrays
    if network:
        path = written(tmp_path_factory.mktemp("net"), caffemodel(network, **form))
        assert_read(read_caffemodel(path), network)


def test_a_library_of_protocol_buffers_reads_our_files_alike():
    """The helper writes what it is meant to: protobuf's own parser finds the fields of Caffe's schema in it."""
    protobuf = pytest.importorskip("google.protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    assert protobuf
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="blob.proto", syntax="proto2")
    shape = file.message_type.add(name="Shape")
    shape.field.add(name="dim", number=1, type=kinds.TYPE_INT64, label=kinds.LABEL_REPEATED)
    blob = file.message_type.add(name="Blob")
    blob.field.add(name="data", number=5, type=kinds.TYPE_FLOAT, label=kinds.LABEL_REPEATED)
    blob.field.add(name="shape", number=7, type=kinds.TYPE_MESSAGE, type_name=".Shape", label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    parse = message_factory.GetMessageClass(pool.FindMessageTypeByName("Blob")).FromString
    for packed in (True, False):
        parsed = parse(array_message([[1.0, 2.5, -3.0]], packed=packed))
        assert (list(parsed.shape.dim), list(parsed.data)) == ([1, 3], [1.0, 2.5, -3.0])


@settings(max_examples=300)
@given(st.sampled_from(FORMS), st.data())
def test_a_broken_file_is_read_or_refused_in_one_line(tmp_path_factory, form, data):
    """Whichever bytes are changed, and wherever the file ends. Nothing comes of it that is larger than the file."""
    content = bytearray(caffemodel(LAYERS, **form))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = written(tmp_path_factory.getbasetemp(), content[: data.draw(st.integers(0, len(content)))])
    found = read_or_refused(path)
    if isinstance(found, str):
        assert found.startswith(str(path))
        assert "\n" not in found
    else:
        assert sum(array.nbytes for arrays in found.values() for array in arrays) <= len(content)


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = written(tmp_path_factory.getbasetemp(), content)
    found = read_or_refused(path)
    assert isinstance(found, dict) or found.startswith(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html>", "truncated, or no .caffemodel: field 7 has the wire type 4"),
        (b'name: "VGG_CNN_S"', "truncated, or no .caffemodel: field 13 has the wire type 6"),
        (b"\x00\x00", "a field has the number 0"),
        (b"\xff" * 30, "a number is cut off or has more than 10 bytes"),
        (b"\x80", "a number is cut off or has more than 10 bytes"),
        (caffemodel(LAYERS)[:-20], "field 100 needs [0-9]+ bytes, but [0-9]+ are left"),
        (varint(100 << 3 | BYTES) + varint(2**62) + b"x", f"field 100 needs {2**62} bytes, but 1 are left"),
        (caffemodel({}), "no layer in it has weights"),
        (array_message(np.ones((3, 4))), "no layer in it has weights"),  # a mean image
        (field(100, field(1, b"fc") + field(7, field(5, bytes(7)))), "array 1 of layer 'fc': 7 bytes are no whole"),
        (
            field(100, field(1, b"fc") + field(7, field(5, bytes(8)) + field(7, field(1, 3)))),
            "array 1 of layer 'fc': its shape is 3, but it has 2 numbers",
        ),
        (
            field(100, field(1, b"fc") + field(7, field(7, field(1, 0) + field(1, 2**63)))),
            "array 1 of layer 'fc': its shape is 0×9223372036854775808, but it has 0 numbers",
        ),
        (field(100, field(1, b"fc") + field(7, field(7, field(1, b"\x01" * 99)))), "more than 32 dimensions"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as error:
        read_caffemodel(written(tmp_path, content))
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none\.caffemodel: No such file"):
        read_caffemodel(tmp_path / "none.caffemodel")
    with pytest.raises(ValueError, match="Is a directory"):
        read_caffemodel(tmp_path)


def test_of_layers_in_both_forms_all_are_read(tmp_path):
    old, new = layer_message("a", [[1.0]], old=True), layer_message("b", [[2.0]])
    assert list(read_caffemodel(written(tmp_path, field(2, old) + field(100, new)))) == ["a", "b"]
