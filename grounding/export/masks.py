"""Masks as COCO writes them: lengths of runs down the columns, compressed to text."""

from typing import Any

import numpy as np
from torch import Tensor


def encode_mask(mask: Tensor) -> dict[str, Any]:
    """Encode a mask (H, W) bool as COCO's compressed run lengths, which `pycocotools.mask.decode` reads.

    >>> import torch
    >>> encode_mask(torch.tensor([[False, True], [False, True]]))
    {'size': [2, 2], 'counts': '22'}
    """
    return {"size": list(mask.shape), "counts": _compressed(run_lengths(mask))}


def run_lengths(mask: Tensor) -> list[int]:
    """The lengths of the runs outside and inside a mask in turn, down its columns; the first may be 0.

    >>> import torch
    >>> run_lengths(torch.tensor([[True, True], [True, False]]))
    [0, 3, 1]
    """
    pixels = np.concatenate([[False], mask.numpy().T.ravel()])  # the first run is outside
    starts = np.flatnonzero(pixels[1:] != pixels[:-1])
    lengths: list[int] = np.diff(starts, prepend=0, append=mask.numel()).tolist()
    return lengths


def _compressed(lengths: list[int]) -> str:
    """Run lengths as text.

    From the fourth on, each is written as the difference from the one two before it. A number is a little-endian
    sequence of groups of five bits in two's complement; each is a character, 48 and the bits, plus 32 where more
    follow.
    """
    text = []
    for index, length in enumerate(lengths):
        rest = length - lengths[index - 2] if index > 2 else length
        has_more = True
        while has_more:
            bits, rest = rest & 31, rest >> 5
            has_more = rest != (-1 if bits & 16 else 0)
            text.append(chr(48 + bits + 32 * has_more))
    return "".join(text)
