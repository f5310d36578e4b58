"""One pass over tagged photos: their vocabulary, the number of photos, and the words that each source gives."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grounding.files import write_file
from train.data import TaggedPhoto, TaggedShards
from train.state import is_same
from train.vocabulary import TagVocabulary, build_vocabulary


@dataclass(frozen=True)
class TagCounts:
    """The result of a pass over tagged photos; S sources, U output units."""

    vocabulary: TagVocabulary
    photos: tuple[int, ...]  # (S,), number of photos of each source
    units: tuple[tuple[int, ...], ...]  # (S, …), units of the words that each source ever gives
    with_phrases: int  # number of photos with phrases

    @property
    def known(self) -> Tensor:
        """The units that each source knows, (S + 1, U) bool; the last row, all true, is for unknown sources."""
        known = torch.zeros(len(self.photos) + 1, len(self.vocabulary.words), dtype=torch.bool)
        for row, units in zip(known, self.units, strict=False):
            row[list(units)] = True
        known[-1] = True
        return known

    @property
    def frequencies(self) -> Tensor:
        """The share of photos with each word among the photos whose source knows it, (U,)."""
        photos = torch.tensor(self.photos, dtype=torch.float64) @ self.known[:-1].double()
        return torch.tensor(self.vocabulary.counts, dtype=torch.float64) / photos


def count_tags_of_photos(photos: Iterable[TaggedPhoto], *, size: int, least: int, lemmatise: bool) -> TagCounts:
    """Build the vocabulary of photos' tags, and count the photos of each source; arguments as in `build_vocabulary`.

    Raises:
        ValueError: a setting is out of range, or there are too few words.
    """
    photos_by_source: dict[str, int] = {}
    tags_by_source: dict[str, set[str]] = {}
    with_phrases = 0

    def tag_lists() -> Iterator[tuple[str, ...]]:
        nonlocal with_phrases
        for photo in photos:
            with_phrases += bool(photo.phrases)
            photos_by_source[photo.source] = photos_by_source.get(photo.source, 0) + 1
            tags_by_source.setdefault(photo.source, set()).update(photo.tags)
            yield photo.tags

    vocabulary = build_vocabulary(tag_lists(), size=size, least=least, lemmatise=lemmatise)
    vocabulary = replace(vocabulary, sources=tuple(photos_by_source))
    units = tuple(tuple(sorted(vocabulary.units_of(tags_by_source[source]))) for source in photos_by_source)
    return TagCounts(vocabulary, tuple(photos_by_source.values()), units, with_phrases)


def count_tags_of_shards(data: TaggedShards, path: Path, *, size: int, least: int, lemmatise: bool) -> TagCounts:
    """The result of `count_tags_of_photos` for shards: they are read through once, and the result is kept in a file.

    Raises:
        ValueError: a shard is broken, a setting is out of range, or there are too few words.
        OSError: the file cannot be written.
    """
    key = {"urls": data.urls, "first": data.first, "size": size, "least": least, "lemmatise": lemmatise}
    counts = _read(path, key)
    if counts is None:
        counts = count_tags_of_photos(_photos(data), size=size, least=least, lemmatise=lemmatise)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps({"key": key, **asdict(counts)}).encode())
    return counts


def _photos(data: TaggedShards) -> Iterator[TaggedPhoto]:
    from rich.progress import track

    for url in track(data.urls, "words of shards"):
        yield from data.tags(url)


def _read(path: Path, key: dict[str, Any]) -> TagCounts | None:
    """The result of an earlier pass with the same key; None where there is none, or it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if is_same(found["key"], key):
            words, counts, sources = (tuple(found["vocabulary"][name]) for name in ("words", "counts", "sources"))
            vocabulary = TagVocabulary(words, counts, found["vocabulary"]["forms"], sources)
            units = tuple(map(tuple, found["units"]))
            return TagCounts(vocabulary, tuple(found["photos"]), units, found["with_phrases"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None
