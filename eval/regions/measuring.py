"""Point at the named regions of photos, draw a box around each, and rank their proposals, with one method."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from eval.cache import load_tensors, save_tensors
from eval.judging import Judged, judge_all
from eval.predicting import attend_phrases, known_words, parse_phrase
from eval.protocols import BoxProtocol
from eval.records import Instance, Prediction
from eval.regions.difficult import DifficultList, difficult_names
from eval.regions.dominant import overlaps_by_alpha
from eval.regions.photos import LabelledPhotos, Size
from eval.words import is_hit
from grounding.digests import digest
from grounding.images import load_image, stretch
from grounding.inputs import propose_regions
from grounding.kinds import kind_of
from grounding.peaks import peak
from grounding.pipeline import Grounder
from grounding.records import Regions
from grounding.scoring import Scoring, rank_regions

ANY_BOX = BoxProtocol(truth="any", iou="inclusive", suppression=None, parsed_only=False, per_type=False, small=0.25)


@dataclass(frozen=True, eq=False, kw_only=True)
class Rules:
    """How methods are asked and judged.

    Args:
        tolerance: pixels around a region within which a point still hits it (see `is_hit`).
        difficult: the difficult pairs of a photo and a name as a list has them; None: by the paper's two rules.
        square: whether photos are squeezed to squares for the network (paper, 6.2).
        has_alphas: whether boxes are drawn around the attention above each α times its mean.

    Raises:
        ValueError: the tolerance is not a number of pixels.
    """

    tolerance: float = 0
    difficult: DifficultList | None = None
    square: bool = False
    has_alphas: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < float("inf"):
            raise ValueError(f"pointing.tolerance must be a number of pixels, at least 0, got {self.tolerance}")


@dataclass(frozen=True, eq=False, kw_only=True)
class Answer:
    """The answer of a method for a name in a photo."""

    photo: str
    name: str
    is_known: bool  # whether the model knows a word of the name
    is_hit: bool  # whether the greatest attention lies in the name's region; never without attention
    is_centre_hit: bool  # whether the photo's centre does
    is_difficult: bool = False  # whether the name is one of the difficult ones of the photo
    overlaps: tuple[float, ...] = ()  # IoU of the box for each of `ALPHAS`; empty where none were drawn
    judged: Judged | None = None  # the ranked boxes; None where regions are masks, or nothing is proposed


PLAIN = Rules()


def propose_nothing(image: Tensor) -> Regions:
    """No regions, for a grounder that is asked to point alone."""
    return Regions(torch.zeros(0, 4), torch.zeros(0))


def measure(
    grounder: Grounder, photos: LabelledPhotos, *, with_boxes: bool, rules: Rules = PLAIN, kept: Path
) -> Iterator[list[Answer]]:
    """The answers for all names of each photo, one photo after the other; a finished photo is only read from disk.

    Args:
        grounder: the classifier with its attention, the proposals and the scoring.
        photos: photos with named regions.
        with_boxes: whether to rank proposals, too; the regions must be boxes.
        rules: how the method is asked and judged.
        kept: the folder of finished photos, for this grounder alone.

    Raises:
        ValueError: a photo or its regions cannot be read, or there are no proposals for it.
        OSError: a finished photo cannot be saved.
    """
    vocabulary = grounder.attention.vocabulary
    for file, photo in zip(photos.names, photos.photos, strict=True):
        image = load_image(photo.path)
        size = (image.shape[1], image.shape[2])
        regions = photo.read_regions(size)
        asked = digest(image, [*regions.items()], rules.tolerance, rules.square, rules.has_alphas, with_boxes)
        path = kept / f"{Path(file).stem}-{asked}.safetensors"
        found = load_tensors(path)
        if found is None:
            found = _ask(grounder, image, regions, with_boxes=with_boxes, rules=rules)
            save_tensors(path, found)
        difficult = difficult_names(regions, size) if rules.difficult is None else rules.difficult.names(file)
        judged: dict[str, Judged] = {}
        if with_boxes:
            instances = _instances(file, size, regions)
            judged = dict(zip(regions, judge_all(instances, _unpack(found, len(regions)), ANY_BOX), strict=True))
        yield [
            Answer(
                photo=file,
                name=name,
                is_known=bool(known_words(name, vocabulary)),
                is_hit=bool(found["hits"][index]),
                is_centre_hit=is_hit((size[0] / 2, size[1] / 2), region, tolerance=rules.tolerance),
                is_difficult=name in difficult,
                overlaps=tuple(found["overlaps"][index].tolist()),
                judged=judged.get(name),
            )
            for index, (name, region) in enumerate(regions.items())
        ]


def _ask(
    grounder: Grounder, image: Tensor, regions: Mapping[str, Tensor], *, with_boxes: bool, rules: Rules
) -> dict[str, Tensor]:
    """What the method answers for the names of a photo: hits, overlaps for each α, and ranked boxes."""
    size = (image.shape[1], image.shape[2])
    shown = stretch(image, (min(size), min(size))) if rules.square else image
    maps = dict(zip(regions, attend_phrases(grounder.attention, shown, list(regions)), strict=True))
    hits = [_points_at(maps[name], region, size, rules.tolerance) for name, region in regions.items()]
    overlaps = [
        overlaps_by_alpha(maps[name], region, size) if rules.has_alphas else () for name, region in regions.items()
    ]
    found = {"hits": torch.tensor(hits), "overlaps": torch.tensor(overlaps, dtype=torch.float64)}
    if with_boxes:
        proposals = propose_regions(image, grounder.propose)
        for index, name in enumerate(regions):
            ranked = _rank(name, maps[name], proposals, size, grounder.scoring)
            found |= {f"boxes_{index}": ranked.regions.boxes, f"scores_{index}": ranked.regions.scores}
            found[f"mass_{index}"] = torch.tensor(ranked.mass, dtype=torch.float64)
    return found


def _unpack(found: Mapping[str, Tensor], names: int) -> list[Prediction]:
    """The ranked boxes that `_ask` found for each name of a photo."""
    return [
        Prediction(Regions(found[f"boxes_{index}"], found[f"scores_{index}"]), float(found[f"mass_{index}"]))
        for index in range(names)
    ]


def _points_at(attention: Tensor | None, region: Tensor, size: Size, tolerance: float) -> bool:
    """Whether there is attention, and its greatest value lies in the region; NaN points nowhere."""
    if attention is None or not attention.any() or attention.isnan().any():
        return False
    return is_hit(peak(attention, size), region, tolerance=tolerance)


def _rank(name: str, attention: Tensor | None, proposals: Regions, size: Size, scoring: Scoring) -> Prediction:
    """The proposals as attention ranks them for a name; in their own order where there is none."""
    gamma = scoring.area_exponents.for_phrase(kind_of(parse_phrase(name)), proposals)
    (ranking,) = rank_regions(attention, proposals, size, area_exponents=[gamma], overlap=scoring.overlap)
    return Prediction(ranking.regions, ranking.mass)


def _instances(file: str, size: Size, regions: Mapping[str, Tensor]) -> list[Instance]:
    """The names of a photo's boxes as phrases, all of one type, so that each can be taken for any other."""
    return [
        Instance(
            photo=file,
            size=size,
            sentence=0,
            phrase=index,
            text=name,
            span=(0, len(name)),
            chain=name,
            types=("other",),
            boxes=boxes,
            label=name,
            is_parsed=True,
        )
        for index, (name, boxes) in enumerate(regions.items())
    ]
