"""What the stages hand on. Boxes are float xyxy in pixels of the original photo, x2 and y2 exclusive."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a phrase that may name something."""

    lemma: str  # lower case
    is_noun: bool


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun phrase of a caption."""

    text: str
    span: tuple[int, int]  # characters in the caption, end exclusive
    caption: int  # index among the captions of a photo
    words: tuple[Word, ...]


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions of a photo, best first."""

    boxes: Tensor  # (N, 4)
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
    """Regions with outlines, sets of superpixels; ``boxes`` are around them.

    Indexing keeps what it selects as segments, over the same superpixels.
    """

    superpixels: Tensor  # (h, w), the superpixel of each pixel of the photo, or of a smaller copy, from 0
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
        """Pixels of ``superpixels`` in each segment, (N,) int64."""
        offsets, indices = self.members
        most = int(indices.max()) + 1 if len(indices) else 0  # a superpixel of a smaller copy may have no pixels
        pixels = torch.bincount(self.superpixels.flatten().long(), minlength=most)
        running = torch.nn.functional.pad(pixels[indices.long()].cumsum(0), (1, 0))
        return running[offsets[1:].long()] - running[offsets[:-1].long()]

    def mask(self, index: int) -> Tensor:
        """The pixels of one segment, (h, w) bool; raises IndexError where there is none of this index."""
        index = range(len(self))[index]
        offsets, indices = self.members
        return torch.isin(self.superpixels, indices[offsets[index] : offsets[index + 1]])


@dataclass(frozen=True, eq=False)
class GroundedPhrase:
    """A phrase and where it is."""

    text: str
    span: tuple[int, int]
    caption: int
    words: tuple[str, ...]  # those that the model knows
    skipped_words: tuple[str, ...]  # those that it does not
    regions: Regions  # by attention, or in the proposals' own order where no word is known
    attention: Tensor | None  # (h, w), non-negative, of the whole photo; None where no word is known
    # Share of the winning probability that reached the layer, in [0, 1], the mean over words; None where not measured.
    reached: float | None = None

    @property
    def is_attended(self) -> bool:
        """Whether attention found something and ranked the regions; otherwise their order is the proposals' own."""
        return self.attention is not None and bool(self.attention.any())


@dataclass(frozen=True, eq=False)
class Grounding:
    """The phrases of a photo's captions, each with its regions."""

    captions: tuple[str, ...]
    size: tuple[int, int]  # (height, width) of the photo in pixels
    phrases: tuple[GroundedPhrase, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; attention maps apart."""
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
                    "ranked_by": "attention" if phrase.is_attended else "proposals",
                    "reached": phrase.reached,
                    "boxes": [[round(edge, 2) for edge in box] for box in phrase.regions.boxes.tolist()],
                    "scores": phrase.regions.scores.tolist(),
                }
                for phrase in self.phrases
            ],
        }
