"""Photos and batches that the tests of `train.batches` and `train.shards` share."""

import io
import json
import tarfile

import numpy as np
import torch
from PIL import Image

from train.data import TaggedShards
from train.views import View
from train.vocabulary import TagVocabulary

TAGS = TagVocabulary(("dog", "cat", "red"), (3, 2, 1), {"dog": "dog", "cat": "cat", "red": "red"})
VIEW = View((12, 16), 10)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def plain_photo(index):
    """A photo of one colour, which tells its number through every view."""
    return png(np.full((10 + index % 5, 14, 3), 10 * index, np.uint8))


def numbers(batches):
    """The numbers of the photos in some batches, all of them photos of one colour."""
    return [index for batch in batches for index in (batch.inputs[:, 0, 0, 0] // 10).tolist()]


def write_shards(folder, sizes, content=plain_photo):
    urls, index = [], 0
    for number, size in enumerate(sizes):
        urls.append(str(folder / f"{number}.tar"))
        with tarfile.open(urls[-1], "w") as archive:
            for _ in range(size):
                tags = json.dumps({"tags": [TAGS.words[index % 3]]}).encode()
                for name, data in ((f"{index}.png", content(index)), (f"{index}.json", tags)):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
                index += 1
    return TaggedShards(tuple(urls), None)


def assert_same_batches(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.units, other.units)
        assert torch.equal(one.phrases, other.phrases)
        assert torch.equal(one.weights, other.weights)
        assert one.unreadable == other.unreadable


def check_broken(batch, names):
    """The photos with these numbers are grey, weigh nothing and are told of, each in a line."""
    assert [name for name, weight in enumerate(batch.weights.tolist()) if weight == 0] == names
    for number in names:
        assert (batch.inputs[number] == 127).all()
        assert (batch.units[number] == -1).all()
    assert len(batch.unreadable) == len(names)
    for number, why in zip(names, batch.unreadable, strict=True):
        assert why.startswith(f"{number}.png: ")
        assert "\n" not in why
