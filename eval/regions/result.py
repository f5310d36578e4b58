"""The result of a measurement on named regions; read, checked and saved here alone.

Shares are from 0 to 1. A *pair* is a photo with one of the names of its regions.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from eval.result import CHECKED, Count, FirstBoxErrors, Measured, Provenance, Recall, Share
from eval.saving import Form

FORMAT: Final = 1
ALPHAS: Final = tuple(step / 2 for step in range(21))  # from which α of `DominantObjects` is chosen


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class RegionData:
    """The photos and regions that a result was measured on."""

    name: str  # such as "ADE20K"
    photos: Count  # with a region
    pairs: Count
    digest: str  # of the pairs


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class RegionManifest(Provenance):
    """Where a result comes from, and how to get it again."""

    data: RegionData
    model: str
    attention: str  # option of ``attention=``
    proposals: str | None  # such as "mcg"; None where no boxes were scored
    settings: dict[str, Any]  # of attention, model and proposals, and of scoring
    table: str | None = None  # of the paper, or figure, that the experiment repeats, such as "table1"


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class NameScores:
    """Pointing for the pairs of one name."""

    pairs: Count
    accuracy: Share
    is_known: bool  # whether the model knows a word of the name


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class RegionPointing:
    """How often the greatest attention lies in the region of the name, and how often the photo's centre does."""

    accuracy: Measured  # over pairs
    name_mean: Measured  # mean of the names' accuracies
    centre: Share  # over pairs
    centre_name_mean: Share
    names: Annotated[dict[str, NameScores], Field(min_length=1)]  # in alphabetical order
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0  # pixels around a region that hit it, too

    @property
    def pairs(self) -> int:
        """The number of pairs."""
        return sum(scores.pairs for scores in self.names.values())

    @property
    def unknown(self) -> tuple[str, ...]:
        """The names without a word that the model knows, which count as missed."""
        return tuple(name for name, scores in self.names.items() if not scores.is_known)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class RegionBoxes:
    """The scores of ranked boxes, each judged by the best of the boxes of its name."""

    recall: Recall
    recall_at_1_iou_75: Measured
    mean_iou: Measured  # of the first box
    errors: FirstBoxErrors


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class DominantObjects:
    """How often the box around the attention above α times its mean has an IoU below .5 with the objects of a name."""

    alpha: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
    chosen_on: Count | None  # number of other photos on which α was chosen; None where it was given
    error: Measured  # over pairs
    errors: dict[str, Share]  # for each of `ALPHAS`, on the measured pairs


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class RegionResult:
    """All that ``python -m eval.regions`` measured of one method on photos with named regions."""

    format: Literal[1] = FORMAT
    name: Annotated[str, Field(min_length=1)]  # of the method without its proposals, such as "c-MWP"
    manifest: RegionManifest
    pointing: RegionPointing
    difficult: RegionPointing | None = None  # the same for difficult pairs alone; None where there are none
    boxes: RegionBoxes | None = None  # None where regions are masks, or nothing was proposed
    dominant: DominantObjects | None = None  # None where no box was drawn around attention

    @property
    def table(self) -> str | None:
        """The paper's table or figure that it belongs to: the recorded one, or that of the same measure."""
        if self.manifest.table is None and self.dominant is not None:
            return "table5"
        return "table1" if self.manifest.table is None and self.pointing.tolerance else self.manifest.table


_FORM = Form(TypeAdapter(RegionResult), FORMAT, "python -m eval.regions")


def read_region_results(folder: str | Path) -> list[RegionResult]:
    """The results that ``python -m eval.regions`` saved in a folder; raises as `eval.saving.Form.read_folder` does."""
    return _FORM.read_folder(folder)


def save_region_result(result: RegionResult, folder: Path) -> Path:
    """Write a result to a folder, named for its method and photos, and for its identity or for a table of the paper.

    An earlier result of these gives way: in a table, a method has one result on the same photos.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    from grounding.digests import digest

    manifest = result.manifest
    place = (result.name, manifest.data.name, manifest.proposals or "")
    identity = manifest.identity if manifest.table is None else digest(place)  # c-MWP and c-MWP* are the same in files
    return _FORM.save(result, folder, manifest.table or "", *place, identity[:6])
