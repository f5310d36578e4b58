"""Records of the evaluation. Boxes are float xyxy in pixels of the annotated photo, 0-based, x2 and y2 exclusive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from eval.result import Timing
from grounding.records import Regions


@dataclass(frozen=True, eq=False)
class Instance:
    """A phrase of a caption that has boxes, which a method has to find."""

    photo: str  # its name, such as "1000092795"
    size: tuple[int, int]  # (height, width) of the photo in pixels
    sentence: int  # index among the photo's captions
    phrase: int  # index among the marked phrases of the caption
    text: str
    span: tuple[int, int]  # characters in the caption, end exclusive
    chain: str  # identifies the entity: phrases of a photo with the same chain share their boxes
    types: tuple[str, ...]  # one or more of `eval.flickr30k.TYPES`
    boxes: Tensor  # (G, 4), at least one
    label: str  # the words that count for mAP (Phrase); see `eval.labels`
    is_parsed: bool  # whether our parser finds this very phrase in the caption


@dataclass(frozen=True, eq=False)
class Entity:
    """A thing in a photo, and the instances that refer to it."""

    instance: Instance  # the first of them, with the types of all
    members: tuple[int, ...]  # their indices, ascending


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer of a method for an instance: ranked regions, and the point of the greatest attention."""

    regions: Regions  # best first; may be empty
    mass: float = 1.0  # sum of the attention map that regions were scored on; 0 where there was no attention
    point: tuple[float, float] | None = None  # (x, y) of the greatest attention, in pixels; None where there is no map
    is_known: bool | None = None  # whether the model knows a word of the phrase; None where no model was asked
    reached: float | None = None  # share of the winning probability that reached the layer; None where not measured


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions for a sequence of instances, in their order."""

    by_gamma: Mapping[float | None, Sequence[Prediction]]  # by area exponent γ; None: scores of another system
    entities: Sequence[Prediction] | None = None  # points alone, in the order of `group_entities`; None without maps
    timing: Timing | None = None

    def has_attention(self, gamma: float | None) -> bool:
        """Whether attention took part: boxes of a file, and proposals in their own order, have neither γ nor points."""
        return self.entities is not None and any(prediction.mass for prediction in self.by_gamma[gamma])


def group_entities(instances: Sequence[Instance]) -> tuple[Entity, ...]:
    """Group instances into entities, those of the same chain in a photo, in order of appearance.

    In the WWbL family an entity has one score, by the mean of the maps of its members; with ``unit=entity``,
    `score_pointing` takes the ``instance`` of each entity and a prediction from that mean.
    """
    members: dict[tuple[str, str], list[int]] = {}
    for index, instance in enumerate(instances):
        members.setdefault((instance.photo, instance.chain), []).append(index)
    return tuple(_entity(instances, indices) for indices in members.values())


def _entity(instances: Sequence[Instance], indices: Sequence[int]) -> Entity:
    types = dict.fromkeys(name for index in indices for name in instances[index].types)
    return Entity(replace(instances[indices[0]], types=tuple(types)), tuple(indices))
