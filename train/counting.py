"""One pass over tagged photos: their words, how many they are, and which source gives which words."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grounding.files import write_file
from train.data import Tagged, TaggedShards
from train.state import same_as
from train.vocabulary import TagVocabulary, build_vocabulary


@dataclass(frozen=True)
class Counted:
    """What a pass over tagged photos finds."""

    tags: TagVocabulary
    photos: tuple[int, ...]  # of each source
    units: tuple[tuple[int, ...], ...]  # of the words that each source ever gives

    @property
    def known(self) -> Tensor:
        """Which units each source knows, (sources + 1, units) bool; any other source knows all."""
        known = torch.zeros(len(self.photos) + 1, len(self.tags.words), dtype=torch.bool)
        for row, units in zip(known, self.units, strict=False):
            row[list(units)] = True
        known[-1] = True
        return known

    @property
    def frequencies(self) -> Tensor:
        """The share of photos with each word, among those whose source knows it, (units,)."""
        asked = torch.tensor(self.photos, dtype=torch.float64) @ self.known[:-1].double()
        return torch.tensor(self.tags.counts, dtype=torch.float64) / asked


def count_words(photos: Iterable[Tagged], *, size: int, least: int, lemmatise: bool) -> Counted:
    """The vocabulary of photos' tags, how many photos there are of each source, and which words a source gives.

    Raises:
        ValueError: there are too few words (see `build_vocabulary`).
    """
    counts: dict[str, int] = {}
    given: dict[str, set[str]] = {}

    def lists() -> Iterator[tuple[str, ...]]:
        for photo in photos:
            counts[photo.source] = counts.get(photo.source, 0) + 1
            given.setdefault(photo.source, set()).update(photo.tags)
            yield photo.tags

    tags = replace(build_vocabulary(lists(), size=size, least=least, lemmatise=lemmatise), sources=tuple(counts))
    units = tuple(tuple(sorted(tags.units_of(given[source]))) for source in counts)
    return Counted(tags, tuple(counts.values()), units)


def count_shards(data: TaggedShards, path: Path, *, size: int, least: int, lemmatise: bool) -> Counted:
    """What `count_words` finds in shards, which are read through once for it, and kept in a file.

    Raises:
        ValueError: a shard is broken, or there are too few words.
        OSError: the file cannot be written.
    """
    key = {"urls": data.urls, "first": data.first, "size": size, "least": least, "lemmatise": lemmatise}
    found = _read(path, key)
    if found is None:
        found = count_words(_in_shards(data), size=size, least=least, lemmatise=lemmatise)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps({"key": key, **asdict(found)}).encode())
    return found


def _in_shards(data: TaggedShards) -> Iterator[Tagged]:
    from rich.progress import track

    for url in track(data.urls, "words of shards"):
        yield from data.tags(url)


def _read(path: Path, key: dict[str, Any]) -> Counted | None:
    """What `count_words` found before, if it was asked the same."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if same_as(found["key"], key):
            words, counts, sources = (tuple(found["tags"][name]) for name in ("words", "counts", "sources"))
            tags = TagVocabulary(words, counts, found["tags"]["forms"], sources)
            return Counted(tags, tuple(found["photos"]), tuple(map(tuple, found["units"])))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or damaged: counted anew
    return None
