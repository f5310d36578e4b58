"""Records that stages hand on. Boxes are float xyxy in pixels of the original photo, x2 and y2 exclusive."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a phrase, other than articles, pronouns, prepositions and the like."""

    lemma: str  # in lower case
    is_noun: bool


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun phrase of a caption."""

    text: str
    span: tuple[int, int]  # start and end in the caption, in characters, end exclusive
    caption: int  # index among the captions of the photo
    words: tuple[Word, ...]


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions of a photo, best first.

    Indexing with a slice or a tensor selects regions.

    Raises:
        ValueError: boxes and scores have other shapes.

    >>> regions = Regions(torch.tensor([[0, 0, 9, 9], [3, 4, 5, 6]]), torch.tensor([0.8, 0.5]))
    >>> len(regions), regions[1:].boxes.tolist()
    (2, [[3, 4, 5, 6]])
    """

    boxes: Tensor  # (N, 4), xyxy
    scores: Tensor  # (N,)

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4 or self.scores.shape != self.boxes.shape[:1]:
            raise ValueError(
                f"expected boxes (N, 4) and scores (N,), got {tuple(self.boxes.shape)} and {tuple(self.scores.shape)}"
            )

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, keep: Tensor | slice) -> "Regions":
        return Regions(self.boxes[keep], self.scores[keep])


@dataclass(frozen=True, eq=False)
class Segments(Regions):
    """Regions with outlines: sets of superpixels, with the boxes around them.

    Indexing selects segments over the same superpixels.

    >>> superpixels = torch.tensor([[0, 0, 1], [2, 2, 1]])
    >>> boxes = torch.tensor([[0, 0, 2, 2], [2, 0, 3, 2]])
    >>> segments = Segments(boxes, torch.ones(2), superpixels, (torch.tensor([0, 2, 3]), torch.tensor([0, 2, 1])))
    >>> segments.areas()
    tensor([4, 2])
    >>> segments.mask(0)
    tensor([[ True,  True, False],
            [ True,  True, False]])
    """

    superpixels: Tensor  # (h, w), the superpixel of each pixel, from 0, of the photo or of a smaller copy
    members: tuple[Tensor, Tensor]  # CSR (offsets, indices): segment i is indices[offsets[i]:offsets[i + 1]]

    def __getitem__(self, keep: Tensor | slice) -> "Segments":
        offsets, indices = self.members
        chosen = torch.arange(len(self))[keep]
        sizes = offsets.diff()[chosen]
        kept = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        within = torch.arange(int(kept[-1])) - kept[:-1].repeat_interleave(sizes)
        members = indices[offsets[:-1][chosen].repeat_interleave(sizes) + within]
        return Segments(self.boxes[keep], self.scores[keep], self.superpixels, (kept, members))

    def areas(self) -> Tensor:
        """The number of pixels of each segment, (N,) int64, at the size of ``superpixels``."""
        offsets, indices = self.members
        count = int(indices.max()) + 1 if len(indices) else 0  # a superpixel of a smaller copy may have no pixels
        pixels = torch.bincount(self.superpixels.flatten().long(), minlength=count)
        running = torch.nn.functional.pad(pixels[indices.long()].cumsum(0), (1, 0))
        return running[offsets[1:].long()] - running[offsets[:-1].long()]

    def mask(self, index: int) -> Tensor:
        """The pixels of one segment, (h, w) bool, at the size of ``superpixels``.

        Raises:
            IndexError: there is no segment with this index.
        """
        index = range(len(self))[index]
        offsets, indices = self.members
        return torch.isin(self.superpixels, indices[offsets[index] : offsets[index + 1]])


@dataclass(frozen=True, eq=False)
class GroundedPhrase:
    """A phrase with the regions of the photo that it may mean."""

    text: str
    span: tuple[int, int]  # start and end in the caption, in characters, end exclusive
    caption: int  # index among the captions of the photo
    words: tuple[str, ...]  # words that the model knows, those among them that stand for unknown ones
    skipped_words: tuple[str, ...]  # words that the model neither knows nor understands
    regions: Regions  # best first: by attention, or in the order of the proposals where no word is known
    attention: Tensor | None  # (h, w), non-negative, of the whole photo; None where no word is known
    # The share of the winning probability that reached the layer, in [0, 1], averaged over the words; None where the
    # attention method does not measure it.
    reached: float | None = None
    # The next two are calibrated, in [0, 1]; None where the grounder's settings have no calibration (docs/scores.md).
    probability: float | None = None  # that the first region is right, given that the photo shows the phrase
    presence: float | None = None  # that the photo shows the phrase, where every second one is of another photo
    is_rejected: bool = False  # whether one of them is below ``scoring.least_probability`` or ``least_presence``
    # The words that the model does not know, each with the known ones by which it was understood.
    understood: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_attended(self) -> bool:
        """Whether there is attention that ranked the regions; otherwise they are in the order of the proposals."""
        return self.attention is not None and bool(self.attention.any())


def _saving() -> Any:
    # Pictures are drawn from these records, so that this module cannot import them by name.
    return import_module("grounding.export.saving")


@dataclass(frozen=True, eq=False)
class Grounding:
    """The phrases of a photo's captions, each with its regions."""

    captions: tuple[str, ...]
    size: tuple[int, int]  # (height, width) of the photo in pixels
    phrases: tuple[GroundedPhrase, ...]
    source: Any = None  # the photo as the caller gave it, see `grounding.images.ImageSource`; None where it is not kept
    made_by: Mapping[str, Any] | None = None  # the settings of the grounder; None for one that was built by hand

    def save(self, folder: str | Path, image: Any = None) -> Path:
        """Save the picture, the maps and the values in a new folder; see `grounding.export.saving.save_grounding`."""
        saved: Path = _saving().save_grounding(self, folder, image)
        return saved

    def show(self, image: Any = None) -> Any:
        """The picture, which a notebook displays; see `grounding.export.saving.draw`."""
        return _saving().draw(self, image)

    def to_dict(self) -> dict[str, Any]:
        """All values but the attention maps, as plain Python values for JSON."""
        return {
            "size": list(self.size),
            "captions": list(self.captions),
            "phrases": [
                {
                    "text": phrase.text,
                    "span": list(phrase.span),
                    "caption": phrase.caption,
                    "words": list(phrase.words),
                    "skipped_words": list(phrase.skipped_words),
                    "understood": {word: list(known) for word, known in phrase.understood.items()},
                    "ranked_by": "attention" if phrase.is_attended else "proposals",
                    "reached": phrase.reached,
                    "probability": phrase.probability,
                    "presence": phrase.presence,
                    "rejected": phrase.is_rejected,
                    "boxes": [[round(edge, 2) for edge in box] for box in phrase.regions.boxes.tolist()],
                    "scores": phrase.regions.scores.tolist(),
                }
                for phrase in self.phrases
            ],
        }
