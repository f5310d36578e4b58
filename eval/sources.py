"""Sources of predictions: a model that runs here, or a file of boxes that another system scored."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from eval.flickr30k import AnnotatedPhotos, load_photo
from eval.gammas import Candidates, GammaFile, find_candidates, given_candidate
from eval.methods import open_method
from eval.predicting import Predictor
from eval.predictions import read_predictions
from eval.records import Instance, Prediction, Predictions
from grounding.config import plain_settings
from grounding.digests import digest
from grounding.inputs import propose_regions
from grounding.pipeline import Grounder
from grounding.scoring import AreaExponents

log = logging.getLogger("eval")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The part of a result's manifest that a source knows; see `eval.result.Manifest`."""

    name: str  # of the result
    identity: str  # digest of all settings and weights that predictions depend on
    settings: dict[str, Any]
    model: str | None = None
    attention: str | None = None
    proposals: str | None = None
    predictions: str | None = None


class Source(Protocol):
    """A source of predictions for phrases."""

    @property
    def origin(self) -> Origin:
        """Where the predictions come from."""

    def candidates(self, photos: AnnotatedPhotos) -> Candidates:
        """The γ to score these photos with; raises ValueError where photos of the test split would choose it."""

    def predict(
        self, photos: AnnotatedPhotos, instances: Sequence[Instance], gammas: Sequence[float | None]
    ) -> Predictions:
        """Predictions for all instances of the photos; raises ValueError or OSError where one cannot be made."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelSource:
    """A grounder, with folders in which finished photos are kept.

    Args:
        grounder: predicts; its own γ are not used.
        origin: see `Origin`.
        given: γ as set on the command line; None where γ is chosen from the grid, or looked up for photos of the test
            split.
        grid: the γ to choose from.
        gamma_file: the file in which chosen γ are kept.
        entities: folder of Flickr30k Entities, with the lists of its splits.
        maps: folder of finished word maps.
        predictions: folder of folders of finished predictions, one for each set of γ.
    """

    grounder: Grounder
    origin: Origin
    given: AreaExponents | None
    grid: tuple[float, ...]
    gamma_file: GammaFile
    entities: Path
    maps: Path
    predictions: Path

    def candidates(self, photos: AnnotatedPhotos) -> Candidates:
        """The γ that was given, for the kind of regions that the first photo has; or as `find_candidates` finds."""
        if self.given is None:
            return find_candidates(photos, self.entities, self.gamma_file, self.grid)
        if self.given.segments == self.given.boxes:
            return given_candidate(self.given.segments)
        proposals = propose_regions(load_photo(photos.photos[0]), self.grounder.propose)
        return given_candidate(self.given.for_phrase(None, proposals))

    def predict(
        self, photos: AnnotatedPhotos, instances: Sequence[Instance], gammas: Sequence[float | None]
    ) -> Predictions:
        """Predictions of the grounder; those of finished photos are read from disk."""
        from rich.console import Console
        from rich.progress import track

        exponents = [gamma for gamma in gammas if gamma is not None]
        predictor = Predictor(
            self.grounder, exponents, maps=self.maps, predictions=self.predictions / digest(exponents)
        )
        members: dict[str, list[Instance]] = {}
        for instance in instances:
            members.setdefault(instance.photo, []).append(instance)
        by_gamma: dict[float | None, list[Prediction]] = {gamma: [] for gamma in exponents}
        entities: list[Prediction] = []
        with_phrases = [photo for photo in photos.photos if photo.name in members]
        for photo in track(with_phrases, "photos", console=Console(stderr=True)):
            found = predictor(photo, members[photo.name])
            for gamma, predictions in found.by_gamma.items():
                by_gamma[gamma] += predictions
            entities += found.entities or ()
        return Predictions(by_gamma, entities, predictor.clock.timing())


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """Boxes that another system scored, with scores of its own.

    Args:
        path: folder of text files (ICCV'15), or file .json or .jsonl (MDETR).
        origin: see `Origin`.
        first: number of the first sentence and phrase in the names of text files.
    """

    path: Path
    origin: Origin
    first: int

    def candidates(self, photos: AnnotatedPhotos) -> Candidates:
        """No γ: the boxes have scores."""
        return Candidates((None,), (), "", "Boxes of another system; how its settings were chosen is not known here.")

    def predict(
        self, photos: AnnotatedPhotos, instances: Sequence[Instance], gammas: Sequence[float | None]
    ) -> Predictions:
        """The boxes of the file; phrases that it lacks are logged, and count as missed."""
        scored = read_predictions(self.path, instances, first=self.first)
        if scored.unused:
            log.warning(
                "%d files are of phrases without boxes, such as %s: phrases count from first=%d among all that are "
                "marked",
                len(scored.unused),
                ", ".join(scored.unused[:3]),
                self.first,
            )
        if scored.missing:
            log.warning(
                "%d of %d phrases have no file, such as %s: they count as missed",
                len(scored.missing),
                len(instances),
                ", ".join(scored.missing[:3]),
            )
        return Predictions({None: scored.predictions})


def open_source(
    settings: Any, choices: Mapping[str, str], overrides: Sequence[str], *, grid: tuple[float, ...]
) -> Source:
    """The source that the settings of ``python -m eval`` describe.

    Args:
        settings: the settings of the command.
        choices: the option that each group of settings has, such as ``{"attention": "cmwp"}``.
        overrides: the settings as they were typed.
        grid: the γ to choose from.

    Raises:
        ValueError: a model or its proposals cannot be built from the settings.
    """
    if settings.predictions is None:
        return _open_model(settings, choices, overrides, grid)
    path = Path(settings.predictions).expanduser()
    name = settings.name or path.stem
    origin = Origin(name=name, identity=digest(name, str(path.absolute())), settings={}, predictions=path.name)
    return FileSource(path=path, origin=origin, first=settings.first)


def _open_model(
    settings: Any, choices: Mapping[str, str], overrides: Sequence[str], grid: tuple[float, ...]
) -> ModelSource:
    method = open_method(settings, choices, overrides)
    built, grounder = method.built, method.grounder
    chooser = digest(method.digest, plain_settings("presets", settings.presets)[settings.choose_by])[:8]
    given = settings.scoring.area_exponent
    output = Path(settings.output).expanduser()
    origin = Origin(
        name=method.name,
        identity=digest(method.digest, None if given is None else built.area_exponents, grid),
        settings=method.settings,
        model=method.model,
        attention=method.attention,
        proposals=method.proposals,
    )
    gamma_key = f"{method.model}, {method.attention}, {method.proposals} ({chooser})"
    return ModelSource(
        grounder=grounder,
        origin=origin,
        given=None if given is None else grounder.scoring.area_exponents,
        grid=grid,
        gamma_file=GammaFile(output / "gammas.json", gamma_key),
        entities=Path(settings.data.entities).expanduser(),
        maps=output / "maps" / method.maps_key,
        predictions=output / "predictions" / method.predictions_key,
    )
