"""The difficult pairs of a photo and a name in the pointing game (paper, 6.1.1): by its two rules, or from a list."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from eval.regions.photos import LabelledPhotos, Size

LARGEST = 0.25  # share of the photo that a difficult name's objects cover less than


@dataclass(frozen=True)
class DifficultList:
    """The difficult names of each photo, as a list has them."""

    by_photo: Mapping[str, frozenset[str]]  # by the name of the photo's file without its folder and ending

    def names(self, photo: str) -> frozenset[str]:
        """The difficult names of a photo that the list has."""
        return self.by_photo[Path(photo).stem]


def difficult_names(regions: Mapping[str, Tensor], size: Size) -> frozenset[str]:
    """The names whose objects cover less than a quarter of a photo that has another name, too.

    The area of a name is that of its mask (H, W), or the sum of the areas of its boxes (N, 4), where they overlap, too.
    """
    if len(regions) < 2:
        return frozenset()
    return frozenset(name for name, region in regions.items() if _area(region) < LARGEST * size[0] * size[1])


def read_difficult(path: str, photos: LabelledPhotos) -> DifficultList:
    """Read a list of the difficult pairs of photos, in the form in which torchray has that of the paper's authors.

    Each line has the name of a photo and, for each category in the order of the data, 1 where the pair is difficult and
    0 elsewhere, with tabs between them.

    Raises:
        ValueError: there is no such file, a line has another form, the data's categories have no order, or a photo is
            not in the list.
    """
    file, categories = Path(path).expanduser(), photos.categories
    if not categories:
        raise ValueError(f"{file}: a list of difficult pairs needs data=voc, voc_animals or coco")
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read: {error}") from None
    found = {}
    for number, line in enumerate(lines, 1):
        photo, *flags = line.split("\t")
        if len(flags) != len(categories) or not {flag.strip() for flag in flags} <= {"0", "1"}:
            raise ValueError(f"{file}, line {number}: expected a photo and {len(categories)} times 0 or 1, with tabs")
        found[photo] = frozenset(name for name, flag in zip(categories, flags, strict=True) if flag.strip() == "1")
    if missing := [name for name in photos.names if Path(name).stem not in found]:
        raise ValueError(f"{file}: no line for {len(missing)} of {len(photos.names)} photos, such as {missing[0]}")
    return DifficultList(found)


def _area(region: Tensor) -> float:
    if region.dtype == torch.bool:
        return float(region.sum())
    x1, y1, x2, y2 = region.double().unbind(1)
    return float(((x2 - x1) * (y2 - y1)).sum())
