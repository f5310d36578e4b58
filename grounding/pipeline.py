"""From photos and captions to regions: the whole method, one photo forward once and one word attended once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from grounding.images import ImageSource, load_image
from grounding.models import Classifier
from grounding.phrases import noun_phrases, wears, whole_phrase
from grounding.records import GroundedPhrase, Grounding, Phrase, Regions
from grounding.scoring import score_regions, suppress

Captions = str | Sequence[str]

TOGETHER = 8  # photos in memory at once


class Proposer(Protocol):
    """What finds regions in a photo before any word is said."""

    def __call__(self, image: Tensor) -> Regions:
        """Regions of a photo (3, H, W) in [0, 1], best first; `Segments` where the method knows outlines."""


class Attention(Protocol):
    """What finds the evidence for output units; called as `ExcitationBackprop` is."""

    def __call__(self, images: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
        """Maps (K_b, h, w) of images (B, 3, H, W) for targets (K_b,) or (K_b, units)."""


class Grounder:
    """Finds where in a photo each noun phrase of a caption is.

    Args:
        classifier: the network and its words.
        attention: makes the attention method from the network, its layer and window, such as `ExcitationBackprop`.
        proposer: finds regions.
        area_exponent: γ of the score S_R / A_R^γ.
        overlap: IoU above which a region gives way to a better one.
        count: how many regions a phrase keeps at most.
        worn: weight of the map of what a phrase is in or wears, as the next phrase of its caption says ("a man in a red
            shirt"), over that of its own; 0 is the paper's.
        device: where the network runs; ``auto`` is a GPU where there is one.
    """

    def __init__(
        self,
        classifier: Classifier,
        attention: Callable[..., Attention],
        proposer: Proposer,
        *,
        area_exponent: float,
        overlap: float,
        count: int,
        worn: float = 0.0,
        device: str = "auto",
    ) -> None:
        if not 0 <= overlap <= 1:
            raise ValueError(f"scoring.overlap is an IoU from 0 to 1, got {overlap}")
        if not 0 <= area_exponent <= 10:
            raise ValueError(f"scoring.area_exponent must be from 0 to 10, got {area_exponent}")
        if count < 1:
            raise ValueError(f"scoring.count must be at least 1, got {count}")
        if not 0 <= worn <= 10:
            raise ValueError(f"scoring.worn must be from 0 to 10, got {worn}")
        self.classifier = classifier
        self.device = _device(device)
        self.attend = attention(classifier.network.to(self.device), layer=classifier.layer, window=classifier.window)
        self.propose = proposer
        self.area_exponent = area_exponent
        self.overlap = overlap
        self.count = count
        self.worn = worn

    @staticmethod
    def load(model: str | Path | None = None, *settings: str) -> "Grounder":
        """The default grounder, offline; or another model, and any setting as on the command line.

        Args:
            model: its name, or the folder of a checkpoint that ``python -m train`` wrote; a `Path` is always a folder.
            settings: such as ``attention=mwp``.

        Example: ``Grounder.load("googlenet", "attention=mwp", "proposals.count=200")``,
        ``Grounder.load("runs/my_model")``.

        Raises:
            ValueError: there is no such model or setting, or the checkpoint is damaged.
        """
        from grounding.config import choose_model, load_grounder

        return load_grounder([*([] if model is None else choose_model(model)), *settings])

    def __call__(
        self,
        images: Sequence[ImageSource],
        captions: Sequence[Captions] | None = None,
        *,
        phrases: Sequence[Sequence[str]] | None = None,
    ) -> list[Grounding]:
        """Ground captions in photos.

        Args:
            images: paths, PIL images, arrays (H, W, 3) uint8 or tensors (3, H, W) in [0, 1].
            captions: for each image one caption, or several.
            phrases: for each image the phrases themselves, instead of captions; no parser looks at them.

        Raises:
            ValueError: lists of different lengths, a caption without text, an image that cannot be read.
        """
        if (captions is None) == (phrases is None):
            raise ValueError("give captions or phrases, one of the two")
        if isinstance(images, str | Path) or isinstance(captions, str) or isinstance(phrases, str):
            raise ValueError("images, captions and phrases are lists, one entry for each image")
        texts = captions if captions is not None else phrases
        assert texts is not None
        images, texts = list(images), list(texts)
        if len(images) != len(texts):
            raise ValueError(f"{len(images)} images, but captions or phrases for {len(texts)}")
        groundings = []
        for first in range(0, len(images), TOGETHER):
            few = zip(images[first : first + TOGETHER], texts[first : first + TOGETHER], strict=True)
            tasks = [_task(image, entry, are_phrases=phrases is not None) for image, entry in few]
            words = [[word for phrase in task.phrases for word in self._words(phrase)] for task in tasks]
            maps = self.word_maps([task.image for task in tasks], words)
            groundings += [self._ground(task, of_words) for task, of_words in zip(tasks, maps, strict=True)]
        return groundings

    def word_maps(self, images: Sequence[Tensor], words: Sequence[Sequence[str]]) -> list[dict[str, Tensor]]:
        """The attention map of each word in each photo; photos of equal size go through the network together.

        Args:
            images: photos (3, H, W) in [0, 1], of any sizes.
            words: for each photo the words to look for, all of them known; none is allowed.

        Returns:
            for each photo a map (h, w) by word, float32.
        """
        words = [tuple(dict.fromkeys(of_photo)) for of_photo in words]
        by_size: dict[torch.Size, dict[int, Tensor]] = {}
        for index, (image, known) in enumerate(zip(images, words, strict=True)):
            if known:
                prepared = self.classifier.prepare(image)
                by_size.setdefault(prepared.shape, {})[index] = prepared
        maps: list[dict[str, Tensor]] = [{} for _ in words]
        for photos in by_size.values():
            batch = torch.stack(list(photos.values())).to(self.device)
            targets = [
                torch.stack([self.classifier.vocabulary.prior(word) for word in words[index]]) for index in photos
            ]
            attended = self.attend(batch, [target.to(self.device) for target in targets])
            for index, of_words in zip(photos, attended, strict=True):
                maps[index] = dict(zip(words[index], of_words.float().cpu(), strict=True))
        return maps

    def _words(self, phrase: Phrase) -> tuple[str, ...]:
        return self.classifier.vocabulary.match(phrase.words)[0]

    def _ground(self, task: "_Task", maps: dict[str, Tensor]) -> Grounding:
        height, width = task.image.shape[-2:]
        proposals = propose_in(task.image, self.propose)
        nexts = [self._words(worn) if worn is not None else () for worn in worn_phrases(task.phrases, task.captions)]
        phrases = tuple(
            self._ground_phrase(phrase, self.phrase_map(maps, self._words(phrase), worn), proposals, (height, width))
            for phrase, worn in zip(task.phrases, nexts, strict=True)
        )
        return Grounding(task.captions, (height, width), phrases)

    def phrase_map(self, maps: dict[str, Tensor], words: Sequence[str], worn: Sequence[str] = ()) -> Tensor | None:
        """The map of a phrase (h, w): the mean of its words' maps (paper, section 6.3.1); None where no word is known.

        With a weight for what is ``worn``, all maps have sum 1, and the map of its words is added at that weight.
        """
        if not words:
            return None
        attention = torch.stack([maps[word] for word in words]).mean(0)
        if not self.worn:
            return attention
        if not worn:
            return _scaled(attention)
        of_worn = torch.stack([maps[word] for word in worn]).mean(0)
        return _scaled(_scaled(attention) + self.worn * _scaled(of_worn))

    def _ground_phrase(
        self, phrase: Phrase, attention: Tensor | None, proposals: Regions, size: tuple[int, int]
    ) -> GroundedPhrase:
        known, skipped = self.classifier.vocabulary.match(phrase.words)
        regions = proposals
        if attention is not None and attention.any():
            scores = score_regions(attention, proposals, size, area_exponent=self.area_exponent)
            regions = Regions(proposals.boxes, scores)
        best = suppress(regions, overlap=self.overlap)[: self.count]
        return GroundedPhrase(phrase.text, phrase.span, phrase.caption, known, skipped, best, attention)


def propose_in(image: Tensor, proposer: Proposer) -> Regions:
    """The proposals of a photo (3, H, W); where there is no edge anywhere, the photo itself is the one region."""
    proposals = proposer(image)
    height, width = image.shape[-2:]
    return proposals if len(proposals) else Regions(torch.tensor([[0.0, 0.0, width, height]]), torch.ones(1))


def worn_phrases(phrases: Sequence[Phrase], captions: Sequence[str]) -> list[Phrase | None]:
    """For each phrase of some captions the next one, where it says what the phrase is in or wears; None elsewhere."""
    found: list[Phrase | None] = []
    for phrase, following in zip(phrases, (*phrases[1:], None), strict=False):
        is_worn = (
            following is not None
            and following.caption == phrase.caption
            and wears(captions[phrase.caption][phrase.span[1] : following.span[0]])
        )
        found.append(following if is_worn else None)
    return found


def _scaled(attention: Tensor) -> Tensor:
    return attention / attention.sum().clamp(min=torch.finfo(attention.dtype).tiny)


@dataclass(frozen=True, eq=False)
class _Task:
    image: Tensor
    captions: tuple[str, ...]
    phrases: tuple[Phrase, ...]


def _task(image: ImageSource, texts: Captions, *, are_phrases: bool) -> _Task:
    if not isinstance(texts, str | list | tuple):
        raise ValueError(f"captions are text or lists of texts, got {type(texts).__name__}")
    captions = (texts,) if isinstance(texts, str) else tuple(texts)
    if not captions:
        raise ValueError(f"no {'phrase' if are_phrases else 'caption'} for the image")
    if are_phrases:
        phrases = tuple(whole_phrase(text, index=index) for index, text in enumerate(captions))
    else:
        phrases = tuple(phrase for index, text in enumerate(captions) for phrase in noun_phrases(text, index=index))
    return _Task(load_image(image), captions, phrases)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return device
