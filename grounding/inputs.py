"""What a grounder is given, read before a network sees it: photos with proposals, captions with their phrases."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from grounding.phrases import noun_phrases, whole_phrase
from grounding.records import Phrase, Regions

Captions = str | Sequence[str]


class Proposer(Protocol):
    """A method that proposes regions in a photo, whatever the words."""

    def __call__(self, image: Tensor) -> Regions:
        """Regions of a photo (3, H, W) in [0, 1], best first; `Segments` where the method knows outlines."""


@dataclass(frozen=True, eq=False)
class ReadPhoto:
    """A photo that has been read, at the size that the network takes, with the regions proposed in it."""

    size: tuple[int, int]  # (height, width) in pixels
    prepared: Tensor  # (3, h, w), as the network takes it
    proposals: Regions


@dataclass(frozen=True, eq=False)
class CaptionedPhoto:
    """A photo that has been read, and the phrases to ground in it."""

    photo: ReadPhoto
    captions: tuple[str, ...]
    phrases: tuple[Phrase, ...]


def read_photo(image: Tensor, prepare: Callable[[Tensor], Tensor], propose: Proposer) -> ReadPhoto:
    """Prepare a photo (3, H, W) in [0, 1] for the network, and propose regions in it."""
    size = (image.shape[1], image.shape[2])
    return ReadPhoto(size, prepared=prepare(image), proposals=propose_regions(image, propose))


def read_texts(texts: Captions, *, are_phrases: bool) -> tuple[tuple[str, ...], tuple[Phrase, ...]]:
    """Read the captions of a photo and their noun phrases. Phrases given as such count as captions of their own.

    Raises:
        ValueError: there is no caption, or one is not text.
    """
    if not isinstance(texts, str | list | tuple):
        raise ValueError(f"captions are text or lists of texts, got {type(texts).__name__}")
    captions = (texts,) if isinstance(texts, str) else tuple(texts)
    if not captions:
        raise ValueError(f"no {'phrase' if are_phrases else 'caption'} for the image")
    if are_phrases:
        return captions, tuple(
            whole_phrase(text, index=index, names_a_thing=True) for index, text in enumerate(captions)
        )
    return captions, tuple(phrase for index, text in enumerate(captions) for phrase in noun_phrases(text, index=index))


def propose_regions(image: Tensor, propose: Proposer) -> Regions:
    """Propose regions in a photo (3, H, W); where the method finds none, the whole photo is the only region."""
    proposals = propose(image)
    height, width = image.shape[-2:]
    return proposals if len(proposals) else Regions(torch.tensor([[0.0, 0.0, width, height]]), torch.ones(1))
