"""What the files of each photo say, read by the very readers of the evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.flickr30k import read_annotations, read_sentences
from grounding.images import decode
from grounding.messages import describe_failure
from grounding.processes import in_processes

TOGETHER = 50  # photos that travel to a process at once


@dataclass(frozen=True, slots=True)
class Facts:
    """What the files of a photo say; what could not be read says nothing."""

    name: str
    broken: tuple[str, ...]  # one line for each file of captions or boxes that cannot be read
    captions: int
    sentences: int  # captions with a phrase that owns boxes
    phrases: tuple[tuple[str, ...], ...]  # the types of each phrase that owns boxes
    entities: int  # chains with boxes that a phrase speaks of
    orphans: tuple[str, ...]  # phrases of chains that are not annotated at all: no box, no scene, not said to have none
    annotated_size: tuple[int, int] | None  # (height, width) of the photo that people drew on
    photo_size: tuple[int, int] | None  # (height, width) of the photo that is here
    photo_error: str  # why it cannot be read


@dataclass(frozen=True)
class Places:
    """Where the files are."""

    entities: Path
    photos: Path | None  # None where they are not looked at
    names: frozenset[str]  # of the photos that are looked at


def survey(names: Sequence[str], places: Places, *, processes: int) -> Iterator[Facts]:
    """The facts of photos, in any order. With fewer than two processes, this one does the work.

    Raises:
        ChildProcessError: a process died.
    """
    groups = [names[first : first + TOGETHER] for first in range(0, len(names), TOGETHER)]
    if processes < 2:
        for name in names:
            yield facts_of(name, places)
        return
    for found in in_processes(Surveyor, places, groups, processes=processes):
        yield from found or ()


class Surveyor:
    """Tells the facts of several photos at once."""

    def __init__(self, places: Places) -> None:
        self.places = places

    def __call__(self, names: Sequence[str]) -> list[Facts]:
        return [facts_of(name, self.places) for name in names]


def facts_of(name: str, places: Places) -> Facts:
    """The facts of a photo; what goes wrong is one of them."""
    broken = []
    sentences, annotations = None, None
    try:
        sentences = read_sentences(places.entities / "Sentences" / f"{name}.txt")
    except ValueError as error:
        broken.append(str(error))
    try:
        annotations = read_annotations(places.entities / "Annotations" / f"{name}.xml")
    except ValueError as error:
        broken.append(str(error))
    boxes = annotations.boxes if annotations else {}
    annotated = {"0"} | boxes.keys() | (annotations.scenes | annotations.boxless if annotations else set())
    grounded = [[phrase for phrase in one.phrases if phrase.chain in boxes] for one in sentences or ()]
    photo_size, photo_error = _photo(name, places)
    return Facts(
        name=name,
        broken=tuple(broken),
        captions=len(sentences or ()),
        sentences=sum(map(bool, grounded)),
        phrases=tuple(phrase.types for of_sentence in grounded for phrase in of_sentence),
        entities=len({phrase.chain for of_sentence in grounded for phrase in of_sentence}),
        orphans=tuple(
            phrase.text
            for one in sentences or ()
            for phrase in one.phrases
            if annotations and phrase.chain not in annotated
        ),
        annotated_size=annotations.size if annotations else None,
        photo_size=photo_size,
        photo_error=photo_error,
    )


def _photo(name: str, places: Places) -> tuple[tuple[int, int] | None, str]:
    """The size of a photo that is decoded whole, or why it cannot be; neither where it is not looked at."""
    if places.photos is None or name not in places.names:
        return None, ""
    path = places.photos / f"{name}.jpg"
    try:
        photo = decode(path.read_bytes(), name=str(path))
    except Exception as error:  # also those of the readers of some formats
        return None, describe_failure(path, error)
    return (photo.height, photo.width), ""
