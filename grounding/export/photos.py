"""Photos with the regions that are exported, the same whether they come from groundings or from the rows of a batch."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor
from torch.nn.functional import interpolate

from grounding.limits import check_limits
from grounding.messages import one_line, printable
from grounding.records import Grounding, Segments

MOST_REGIONS = 10_000  # of a phrase

Result: TypeAlias = Grounding | Exception | Mapping[str, Any]
Name: TypeAlias = str | Path


@dataclass(frozen=True, eq=False)
class Region:
    """A region that a phrase may mean."""

    box: tuple[float, float, float, float]  # xyxy in pixels of the photo
    score: float
    segment: tuple[Segments, int] | None = None  # segments of the photo and the index of this one among them

    def mask(self, size: tuple[int, int]) -> Tensor | None:
        """The region's pixels in a photo of size (H, W), (H, W) bool; None for a box without an outline."""
        if self.segment is None:
            return None
        segments, index = self.segment
        mask = segments.mask(index)
        if mask.shape == size:
            return mask
        return interpolate(mask[None, None].float(), size, mode="nearest-exact")[0, 0].bool()


@dataclass(frozen=True, eq=False)
class ExportedPhrase:
    """A phrase with the regions of it that are exported, best first."""

    text: str
    span: tuple[int, int]  # start and end in the caption, in characters, end exclusive
    caption: int  # index among the captions of the photo
    ranked_by: str  # attention, or proposals where the regions are a guess
    probability: float | None  # that the best region is right, from 0 to 1; None where there is no calibration
    regions: tuple[Region, ...]
    attention: Tensor | None = None  # (h, w), of the whole photo; None where no word is known, and in rows

    @property
    def label(self) -> str:
        """The name of the phrase's category, see `category_name`."""
        return category_name(self.text)


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo with the phrases that are exported; or the error that prevented its grounding."""

    id: int | str
    name: str
    size: tuple[int, int] = (0, 0)  # (height, width) in pixels
    captions: tuple[str, ...] | None = None  # None where a row does not tell them
    phrases: tuple[ExportedPhrase, ...] = ()
    error: str | None = None

    def objects(self) -> list[tuple[ExportedPhrase, Region]]:
        """All regions with their phrases; a box that several phrases of one label share is there once."""
        found: dict[tuple[str, tuple[float, ...]], tuple[ExportedPhrase, Region]] = {}
        for phrase in self.phrases:
            for region in phrase.regions:
                found.setdefault((phrase.label, region.box), (phrase, region))
        return list(found.values())

    def captioned(self) -> Iterator[tuple[int, str, list[ExportedPhrase]]]:
        """Yield each caption of which a phrase has a region: its index, its text and these phrases.

        Raises:
            ValueError: the photo comes from a row that does not tell its captions.
        """
        if self.captions is None and any(phrase.regions for phrase in self.phrases):
            raise ValueError(f"{self.name}: the row has no captions, which this format needs: ground the photos again")
        for index, caption in enumerate(self.captions or ()):
            phrases = [phrase for phrase in self.phrases if phrase.caption == index and phrase.regions]
            if phrases:
                yield index, caption, phrases


def category_name(phrase: str) -> str:
    """The name of a phrase's category: the phrase in lower case, without its article.

    >>> category_name("A  Red cup"), category_name("the")
    ('red cup', 'the')
    """
    words = " ".join(phrase.split()).lower()
    return re.sub(r"^(a|an|the) (?=.)", "", words)


def read_photos(
    results: Iterable[Result], names: Iterable[Name] | None = None, *, count: int = 1, guesses: bool = False
) -> Iterator[Photo]:
    """Read photos from groundings or from rows, one at a time.

    Args:
        results: groundings, the errors of photos that failed, or rows of `grounding.batch.ground_batch`.
        names: the name of each photo. None: those of the rows, or the paths that the groundings were made from.
        count: the greatest number of regions of a phrase.
        guesses: whether phrases without a known word keep their regions, which are the first proposals.

    Raises:
        ValueError: a photo has no name, there are other numbers of names and results, or a row is malformed.
    """
    if isinstance(results, Grounding | Mapping | str):
        raise ValueError("results is a list: groundings, or the rows of a batch")
    check_limits("export", count=(count, 1, MOST_REGIONS))
    if names is None:
        pairs: Iterable[tuple[Result, Name | None]] = ((result, None) for result in results)
    else:
        pairs = _paired(results, names)
    for number, (result, name) in enumerate(pairs):
        yield read_photo(result, name, number=number, count=count, guesses=guesses)


def _paired(results: Iterable[Result], names: Iterable[Name]) -> Iterator[tuple[Result, Name]]:
    if isinstance(names, str | Path):
        raise ValueError("names is a list: the name of each photo")
    try:
        yield from zip(results, names, strict=True)
    except ValueError as error:
        if "zip()" not in str(error):
            raise
        raise ValueError("there must be as many names as results") from None


def read_photo(result: Result, name: Name | None, *, number: int, count: int, guesses: bool) -> Photo:
    """Read one photo; see `read_photos`.

    Args:
        result: the grounding or the row, or the error of the photo.
        name: its name; None for the one that it has.
        number: its number from 0, which gives its id where a row has none.
        count: the greatest number of regions of a phrase.
        guesses: whether phrases without a known word keep their regions.

    Raises:
        ValueError: it has no name, or the row is malformed.
    """
    if isinstance(result, Exception):
        return Photo(number + 1, _named(name, number), error=one_line(result))
    if isinstance(result, Grounding):
        source = result.source if isinstance(result.source, str | Path) else None
        photo_name = _named(source if name is None else name, number)
        return _photo(number + 1, photo_name, result.to_dict(), result, count=count, guesses=guesses)
    if not isinstance(result, Mapping):
        raise ValueError(f"result {number}: expected a Grounding or a row, got {type(result).__name__}")
    identity = result.get("id")
    identity = number + 1 if identity is None else identity
    if result.get("error") is not None:
        return Photo(identity, printable(name or result.get("image") or identity), error=str(result["error"]))
    # A photo that the archive holds as bytes has no name of its own.
    row_name = _named((result.get("image") or str(identity)) if name is None else name, number)
    try:
        return _photo(identity, row_name, result, None, count=count, guesses=guesses)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"result {number}: not a row of a batch: {error!r}") from None


def _named(name: object, number: int) -> str:
    if isinstance(name, str | Path) and str(name):
        return printable(name)
    raise ValueError(f"result {number} has no name of its photo: give names=[…], one for each result")


def _photo(
    identity: int | str,
    name: str,
    values: Mapping[str, Any],
    grounding: Grounding | None,
    *,
    count: int,
    guesses: bool,
) -> Photo:
    """The photo of a row's values, with the outlines and maps of its grounding where there is one."""
    phrases = []
    for index, phrase in enumerate(values["phrases"]):
        grounded = None if grounding is None else grounding.phrases[index]
        is_guess = phrase["ranked_by"] != "attention" or bool(phrase.get("rejected"))
        kept = 0 if is_guess and not guesses else count
        boxes, scores = phrase["boxes"][:kept], phrase["scores"][:kept]
        outlines = grounded.regions if grounded is not None and isinstance(grounded.regions, Segments) else None
        phrases.append(
            ExportedPhrase(
                text=phrase["text"],
                span=(int(phrase["span"][0]), int(phrase["span"][1])),
                caption=phrase["caption"],
                ranked_by=phrase["ranked_by"],
                probability=phrase.get("probability"),
                regions=tuple(
                    Region(_rounded(box), float(score), None if outlines is None else (outlines, place))
                    for place, (box, score) in enumerate(zip(boxes, scores, strict=True))
                ),
                attention=None if grounded is None else grounded.attention,
            )
        )
    captions = values.get("captions")
    height, width = values["size"]
    return Photo(identity, name, (height, width), None if captions is None else tuple(captions), tuple(phrases))


def _rounded(box: Sequence[float]) -> tuple[float, float, float, float]:
    """A box to hundredths of a pixel, as in JSON; Parquet has it in float32."""
    x1, y1, x2, y2 = (round(float(edge), 2) for edge in box)
    return x1, y1, x2, y2


def to_xywh(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """A box as its left top corner, width and height.

    >>> to_xywh((1.5, 2.0, 4.0, 8.0))
    (1.5, 2.0, 2.5, 6.0)
    """
    x1, y1, x2, y2 = box
    return x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)
