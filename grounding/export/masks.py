"""Masks as COCO writes them: lengths of runs down the columns, compressed to text."""

from typing import Any

import numpy as np
from pycocotools import mask as coco_masks
from torch import Tensor


def encode_mask(mask: Tensor) -> dict[str, Any]:
    """Encode a mask (H, W) bool as COCO's compressed run lengths, as values of JSON.

    >>> import torch
    >>> encode_mask(torch.tensor([[False, True], [False, True]]))
    {'size': [2, 2], 'counts': '22'}
    """
    encoded = coco_masks.encode(np.asfortranarray(mask.numpy(), np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}
