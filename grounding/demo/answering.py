"""Captions grounded in photos by the methods that the page offers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from grounding.config import build_part, compose_grounder
from grounding.demo.limits import Limits, check_caption, read_upload
from grounding.draw import fit
from grounding.images import decode, load_image
from grounding.inputs import CaptionedPhoto, Proposer, ReadPhoto, read_photo, read_texts
from grounding.maps import WordAttention
from grounding.pipeline import Grounder
from grounding.probability import find_calibrated
from grounding.records import Grounding
from grounding.scoring import AreaExponents, Scoring

PHOTOS_REMEMBERED = 8  # whose regions are not proposed again when only the caption, the method or γ changes
LONGEST_SIDE = 1024  # pixels of a photo as the page shows it


@dataclass(frozen=True, slots=True)
class Choices:
    """What a visitor chooses beside photo and caption."""

    method: str  # an option of attention=
    proposals: str  # an option of proposals=
    area_exponent: float | None = None  # γ for all phrases; None for what was chosen for the method


@dataclass(frozen=True, eq=False)
class SeenPhoto:
    """A photo that has been read, with the regions proposed in it."""

    shown: Image.Image  # as the page shows it
    read: ReadPhoto


@dataclass(frozen=True, eq=False)
class Answer:
    """A grounded caption, as the page shows it."""

    name: str  # of the photo
    shown: Image.Image
    grounding: Grounding
    choices: Choices


class Answerer:
    """Grounds captions in photos by any of several methods, which share the classifier and are loaded when first used.

    Args:
        model: plain settings of the classifier.
        methods: options of ``attention=``, the first of which is the page's own choice.
        proposal_methods: options of ``proposals=``, likewise.
        limits: the most that is accepted.
        device: where the networks run; ``auto`` is a GPU where there is one.

    Raises:
        ValueError: there is no such option, or the classifier cannot be loaded.
    """

    def __init__(
        self,
        model: dict[str, Any],
        methods: Sequence[str],
        proposal_methods: Sequence[str],
        limits: Limits,
        *,
        device: str = "auto",
    ) -> None:
        if not methods or not proposal_methods:
            raise ValueError("methods and proposal_methods: name at least one of each")
        self.limits = limits
        self.settings = {method: compose_grounder([f"attention={method}"]) for method in methods}
        self._proposals = {name: compose_grounder([f"proposals={name}"]).proposals for name in proposal_methods}
        self._device = device
        self._classifier = build_part(model)
        self._attention = lru_cache(maxsize=None)(self._load_attention)
        self._proposer = lru_cache(maxsize=None)(self._load_proposer)
        self._see = lru_cache(maxsize=PHOTOS_REMEMBERED)(self._look)

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(self.settings)

    @property
    def proposal_methods(self) -> tuple[str, ...]:
        return tuple(self._proposals)

    def __call__(self, path: Path, name: str, caption: object, choices: Choices) -> Answer:
        """Ground a caption in the photo of a file.

        Args:
            path: the photo's file.
            name: the photo's name for people.
            caption: what the visitor typed.
            choices: the methods; not yet checked.

        Raises:
            ValueError: the photo or the caption is broken, missing or too large, or there is no such method.
        """
        if choices.method not in self.settings or choices.proposals not in self._proposals:
            raise ValueError(f"the page does not offer {choices.method} with {choices.proposals}")
        seen = self._see(read_upload(path, name, self.limits), name, choices.proposals)
        text = check_caption(caption, self.limits)
        grounder = self._grounder(choices)
        grounding = grounder.ground_photo(CaptionedPhoto(seen.read, *read_texts(text, are_phrases=False)))
        return Answer(name, seen.shown, grounding, choices)

    def _grounder(self, choices: Choices) -> Grounder:
        chosen = replace(self.settings[choices.method], proposals=self._proposals[choices.proposals])
        if (exponent := choices.area_exponent) is not None:
            exponents = {"segments": exponent, "boxes": exponent}
            chosen = replace(chosen, area_exponents=exponents, area_exponent_by_kind={})
        attention, proposer = self._attention(choices.method), self._proposer(choices.proposals)
        scoring = Scoring(
            AreaExponents(**chosen.area_exponents, by_kind=chosen.area_exponent_by_kind),
            chosen.overlap,
            chosen.count,
            chosen.clothing_weight,
            chosen.understand,
        )
        return Grounder(attention, proposer, scoring, find_calibrated(attention, chosen, chosen.proposals))

    def _look(self, content: bytes, name: str, proposals: str) -> SeenPhoto:
        photo = decode(content, name=name)
        scale = min(1.0, LONGEST_SIDE / max(photo.size))
        shown, _ = fit(photo, round(photo.width * scale), round(photo.height * scale))
        return SeenPhoto(shown, read_photo(load_image(photo), self._classifier.prepare, self._proposer(proposals)))

    def _load_attention(self, method: str) -> WordAttention:
        return WordAttention(self._classifier, build_part(self.settings[method].attention), device=self._device)

    def _load_proposer(self, name: str) -> Proposer:
        proposer: Proposer = build_part(self._proposals[name])
        return proposer
