"""What the evaluation hands on. Boxes are float xyxy in pixels of the annotated photo, 0-based, x2 and y2 exclusive."""

from dataclasses import dataclass

from torch import Tensor

from grounding.records import Regions


@dataclass(frozen=True, eq=False)
class Instance:
    """A phrase of a caption that owns boxes: one thing to find."""

    photo: str  # its name, such as "1000092795"
    size: tuple[int, int]  # (height, width) of the photo in pixels
    sentence: int  # index among the photo's captions
    phrase: int  # index among the marked phrases of the caption
    text: str
    span: tuple[int, int]  # characters in the caption, end exclusive
    chain: str  # what it speaks of: phrases of a photo with the same chain share their boxes
    types: tuple[str, ...]  # one or more of `eval.flickr30k.TYPES`
    boxes: Tensor  # (G, 4), at least one
    label: str  # its words that count for mAP (Phrase); see `eval.labels`
    is_parsed: bool  # whether our parser finds this very phrase in the caption


@dataclass(frozen=True, eq=False)
class Prediction:
    """Where a method says that an instance is."""

    regions: Regions  # best first; may be empty
    mass: float = 1.0  # sum of the attention map that regions were scored on; 0 where nothing is attended
    point: tuple[float, float] | None = None  # (x, y) of the greatest attention, in pixels; None where there is no map
