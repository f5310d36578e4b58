"""The result of an evaluation: what was measured, on what, and how; read, checked and saved here alone.

Shares are from 0 to 1, and None where there was nothing to count. A result that breaks its own rules cannot be made.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from eval.protocols import BoxProtocol, PointingProtocol
from eval.saving import Form

FORMAT: Final = 2
RECALLS = ("at_1", "at_5", "at_10", "bound")  # the fields of `Recall`
ERRORS = ("wrong_instance", "too_small", "too_large", "elsewhere")  # the fields of `FirstBoxErrors`

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
AreaExponent = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]

CHECKED = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True, config=CHECKED)
class Measured:
    """A share with its 95 % interval over photos."""

    share: Share | None
    interval: tuple[Share, Share] | None = None  # None where it was not computed


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Recall:
    """The shares of phrases with a correct box among the first 1, 5 and 10, and among all boxes."""

    at_1: Measured
    at_5: Measured
    at_10: Measured
    bound: Measured


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class FirstBoxErrors:
    """The shares of phrases whose first box makes each error, see `eval.errors`; with R@1, they sum to 1."""

    wrong_instance: Measured
    too_small: Measured
    too_large: Measured
    elsewhere: Measured


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class MeanPrecision:
    """Mean average precision (mAP), over types of things and over labels of phrases."""

    group: Share | None
    phrase: Share | None


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TypeScores:
    """The scores of phrases of one type."""

    instances: Count
    recall: Recall
    precision: Share | None  # average precision with calibrated scores
    raw_precision: Share | None  # average precision with the scores as they are


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Subset:
    """The scores of some phrases together."""

    instances: Count
    photos: Count
    recall: Recall
    recall_at_1_iou_75: Measured  # first boxes that are correct at an IoU of .75
    mean_iou: Measured  # of the first box; 0 for a phrase without boxes
    types: dict[str, TypeScores]  # by each of `eval.flickr30k.TYPES`
    type_mean_recall_5: Share | None  # over the types that occur
    precision: MeanPrecision  # with calibrated scores, see `Manifest.calibration`
    raw_precision: MeanPrecision  # with scores S_R / A_R^γ as they are, as in the paper
    labels: Count  # over which mAP (Phrase) is the mean
    errors: FirstBoxErrors | None = None  # None in results that were saved before errors were told apart


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class BoxScores:
    """The scores of ranked boxes by one protocol."""

    kind: Literal["boxes"] = "boxes"
    protocol: BoxProtocol
    all: Subset
    small: Subset  # phrases whose boxes cover less of the photo than the protocol's ``small``
    large: Subset


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TypeAccuracy:
    """Pointing accuracy for the phrases or entities of one type."""

    instances: Count
    accuracy: Share | None


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class PointingScores:
    """Pointing accuracy by one protocol: how often a point lies in the box of its phrase or entity."""

    kind: Literal["pointing"] = "pointing"
    protocol: PointingProtocol
    instances: Count  # phrases or entities that are large enough to count
    photos: Count
    accuracy: Measured
    centre: Share | None  # accuracy of the photo's centre on the same instances
    types: dict[str, TypeAccuracy]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Gamma:
    """The area exponent γ of the score S_R / A_R^γ."""

    value: AreaExponent
    chosen_on: str  # such as "247 photos" or "the command line"
    grid: tuple[AreaExponent, ...] = ()  # among which it was chosen; empty where it was given


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TriedGamma:
    """Recall with one of the γ that were tried, by the preset that chooses among them."""

    value: AreaExponent
    at_1: Share
    at_5: Share
    at_10: Share


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Composition:
    """Properties of a set of photos that make its phrases easier or harder to find."""

    animals: Share  # phrases of type animals
    centre_in_box: Share  # phrases of which the photo's centre lies in one of their boxes


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class MeasuredPhotos:
    """The photos that a result was measured on."""

    name: str  # of the data, such as "flickr30k"
    split: str | None  # such as "val" or "part of val"; None where they are of no one split
    flickr8k: Share | None  # of the photos, those in Flickr8k; known for photos of val alone, and None elsewhere
    photos: Count
    captions: Count
    phrases: Count  # that own a box
    digest: str  # of the photos' names
    composition: Composition


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Provenance:
    """The command, code and packages that made a result."""

    command: str
    commit: str | None  # of the code, with a + where files differ from it
    date: str  # such as 2026-11-25
    versions: dict[str, str]  # of packages
    identity: str  # digest of all settings, weights and photos that the scores depend on


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Manifest(Provenance):
    """Where a result comes from, and how to get it again."""

    data: MeasuredPhotos
    model: str | None = None  # these three: None for boxes that another system predicted
    attention: str | None = None  # option of ``attention=``
    proposals: str | None = None  # such as "mcg" or "edge_boxes_200"
    predictions: str | None = None  # name of the file or folder of another system's boxes
    settings: dict[str, Any]  # of attention, model and proposals, and of scoring
    gamma: Gamma | None  # None where nothing is scored by attention
    calibration: str  # of the scores that precision is measured with
    supervision: str  # a sentence: what chose the settings, and whether with the boxes of these photos


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Coverage:
    """The number of phrases with a word that the model knows."""

    phrases: Count
    known: Count


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Reached:
    """The winning probability that reached the attention's layer, over phrases, each the mean over its words."""

    phrases: Count
    mean: Share
    least: Share
    greatest: Share


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Timing:
    """Seconds that each part took, over the photos that were not finished by an earlier run."""

    photos: Count  # that had no finished predictions
    attended: Count  # those of them that had no finished maps, either
    attention: Seconds
    proposals: Seconds
    scoring: Seconds

    @property
    def total(self) -> float:
        return self.attention + self.proposals + self.scoring


PresetScores = Annotated[BoxScores | PointingScores, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Result:
    """All that ``python -m eval`` measured of one method on some photos."""

    format: Literal[2] = FORMAT
    name: Annotated[str, Field(min_length=1)]
    manifest: Manifest
    presets: Annotated[dict[str, PresetScores], Field(min_length=1)]
    gammas: tuple[TriedGamma, ...] = ()  # in rising order; empty where γ was not chosen here
    coverage: Coverage | None = None  # these three: None where no model was asked
    reached: Reached | None = None  # None, too, where the attention does not measure it
    timing: Timing | None = None

    @property
    def is_ours(self) -> bool:
        """Whether a method of ours made the boxes; those of a file are another system's until it says otherwise."""
        return self.manifest.predictions is None

    @property
    def boxes(self) -> dict[str, BoxScores]:
        """The presets that judge boxes."""
        return {name: scores for name, scores in self.presets.items() if isinstance(scores, BoxScores)}

    @property
    def pointing(self) -> dict[str, PointingScores]:
        """The presets that judge points."""
        return {name: scores for name, scores in self.presets.items() if isinstance(scores, PointingScores)}


_KINDS = frozenset({(2, "boxes"), (2, "pointing")})  # which pydantic adds to the path of a field of a preset
_FORM = Form(TypeAdapter(Result), FORMAT, "python -m eval", _KINDS)


def to_dict(result: Result) -> dict[str, Any]:
    """A result as plain values, ready for JSON."""
    return _FORM.to_dict(result)


def from_dict(values: Any) -> Result:
    """The result that `to_dict` made plain; raises as `eval.saving.Form.from_dict` does."""
    return _FORM.from_dict(values)


def read_result(path: Path) -> Result:
    """The result that a file holds; raises as `eval.saving.Form.read` does."""
    return _FORM.read(path)


def read_results(folder: str | Path) -> list[Result]:
    """The results that ``python -m eval`` saved in a folder; raises as `eval.saving.Form.read_folder` does."""
    return _FORM.read_folder(folder)


def save_result(result: Result, folder: Path) -> Path:
    """Write a result to a folder, named for its method, split and identity; an earlier one of the same gives way.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    manifest = result.manifest
    return _FORM.save(result, folder, result.name, manifest.data.split or "", manifest.identity[:6])
