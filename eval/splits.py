"""Statistics of parts of Flickr30k Entities: how often each type of phrase occurs, and how often the centre is a hit.

The photos of a split that are available may be no random part of it, and scores depend on what photos show. The counts
for the photos of our results, the rest of their split and the test split are in ``splits.json``, which
``benchmarks/splits.py`` writes.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SAVED = Path(__file__).with_name("splits.json")
SMALL_ENTITY = 0.05  # share of the photo; preset ``pointing_entity`` drops entities whose first box covers no more

Box = list[float]  # x1, y1, x2, y2 in pixels


@dataclass(frozen=True, slots=True)
class SplitStatistics:
    """Counts over the photos of a split, or of a part of one."""

    name: str  # such as "part of val, 247 photos"
    photos: int
    phrases: int  # that have boxes
    types: dict[str, int]  # phrases of each of `eval.flickr30k.TYPES`; a phrase of two types counts for both
    phrases_at_centre: int  # phrases one of whose boxes contains the centre of the photo
    entities: int
    entities_at_centre: int  # entities whose union box contains the centre
    large_entities: int  # entities whose first box covers more than `SMALL_ENTITY` of the photo
    large_entities_at_centre: int

    def share(self, kind: str) -> float:
        """The share of phrases that are of this type, from 0 to 1."""
        return self.types[kind] / self.phrases


def count_split(name: str, photos: Iterable[str], entities: Path) -> SplitStatistics:
    """Count phrases and entities of these photos, by type and by whether they contain the photo's centre.

    Args:
        name: name of this set of photos.
        photos: names of the photos, such as "1000092795".
        entities: the folder of ``Annotations`` and ``Sentences``.

    Raises:
        ValueError: an annotation is missing or broken.
    """
    from eval.flickr30k import TYPES, read_annotations, read_sentences

    counts: Counter[str] = Counter()
    types: Counter[str] = Counter()
    for photo in photos:
        counts["photos"] += 1
        annotations = read_annotations(entities / "Annotations" / f"{photo}.xml")
        boxes: dict[str, list[Box]] = {chain: found.tolist() for chain, found in annotations.boxes.items()}
        sentences = read_sentences(entities / "Sentences" / f"{photo}.txt")
        phrases = [phrase for each in sentences for phrase in each.phrases if phrase.chain in boxes]
        types.update(kind for phrase in phrases for kind in phrase.types)
        counts.update(_count_photo([phrase.chain for phrase in phrases], boxes, annotations.size))
    numbers = {field: counts[field] for field in SplitStatistics.__slots__ if field not in ("name", "types")}
    return SplitStatistics(name=name, types={kind: types[kind] for kind in TYPES}, **numbers)


def _count_photo(chains: list[str], boxes: dict[str, list[Box]], size: tuple[int, int]) -> Counter[str]:
    """Count the phrases of a photo, given as their chains, and its entities, which are the different chains."""
    counts: Counter[str] = Counter()
    for chain in chains:
        counts["phrases"] += 1
        counts["phrases_at_centre"] += any(_holds_centre(box, size) for box in boxes[chain])
    for chain in set(chains):
        x1, y1, x2, y2 = boxes[chain][0]
        is_large = (x2 - x1) * (y2 - y1) > SMALL_ENTITY * size[0] * size[1]
        lefts, tops, rights, bottoms = zip(*boxes[chain], strict=True)
        is_hit = _holds_centre([min(lefts), min(tops), max(rights), max(bottoms)], size)
        counts["entities"] += 1
        counts["entities_at_centre"] += is_hit
        counts["large_entities"] += is_large
        counts["large_entities_at_centre"] += is_hit and is_large
    return counts


def _holds_centre(box: Box, size: tuple[int, int]) -> bool:
    """Whether a box contains the centre of a photo of this (height, width)."""
    x1, y1, x2, y2 = box
    return x1 <= size[1] / 2 < x2 and y1 <= size[0] / 2 < y2


@cache
def saved_statistics() -> dict[str, SplitStatistics]:
    """Return the statistics in ``splits.json``, by name."""
    return {row["name"]: SplitStatistics(**row) for row in json.loads(SAVED.read_text(encoding="utf-8"))}
