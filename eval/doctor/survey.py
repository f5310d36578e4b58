"""Facts about the files of each photo, read by the readers that the evaluation uses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.flickr30k import read_annotations, read_sentences
from grounding.images import decode
from grounding.messages import describe_failure
from grounding.processes import in_processes

BATCH = 50  # photos that a process is given at once


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about a photo; those of files that could not be read are empty."""

    name: str
    broken: tuple[str, ...]  # an error message for each file of captions or boxes that cannot be read
    captions: int
    sentences: int  # captions with a phrase that has boxes
    phrases: tuple[tuple[str, ...], ...]  # the types of each phrase that has boxes
    entities: int  # chains with boxes that a phrase refers to
    orphans: tuple[str, ...]  # phrases of chains that the annotations do not mention
    annotated_size: tuple[int, int] | None  # (height, width) of the photo that was annotated
    photo_size: tuple[int, int] | None  # (height, width) of the photo in the folder
    photo_error: str  # why the photo cannot be read; empty where it can, or was not checked


@dataclass(frozen=True)
class Places:
    """The folders of a download, and the photos to decode."""

    entities: Path
    photos: Path | None  # None where photos are not checked
    decoded: frozenset[str]  # names of the photos to decode


def survey(names: Sequence[str], places: Places, *, processes: int) -> Iterator[Facts]:
    """Yield the facts of photos, in any order. With fewer than two processes, this process does the work.

    Raises:
        ChildProcessError: a process died.
    """
    batches = [names[first : first + BATCH] for first in range(0, len(names), BATCH)]
    if processes < 2:
        for name in names:
            yield facts_of(name, places)
        return
    for found in in_processes(Surveyor, places, batches, processes=processes):
        yield from found or ()


class Surveyor:
    """Collects the facts of several photos at once."""

    def __init__(self, places: Places) -> None:
        self.places = places

    def __call__(self, names: Sequence[str]) -> list[Facts]:
        return [facts_of(name, self.places) for name in names]


def facts_of(name: str, places: Places) -> Facts:
    """Collect the facts of a photo; errors are among them."""
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
    grounded = [[phrase for phrase in each.phrases if phrase.chain in boxes] for each in sentences or ()]
    photo_size, photo_error = _decode(name, places)
    return Facts(
        name=name,
        broken=tuple(broken),
        captions=len(sentences or ()),
        sentences=sum(map(bool, grounded)),
        phrases=tuple(phrase.types for phrases in grounded for phrase in phrases),
        entities=len({phrase.chain for phrases in grounded for phrase in phrases}),
        orphans=tuple(
            phrase.text
            for sentence in sentences or ()
            for phrase in sentence.phrases
            if annotations and phrase.chain not in annotated
        ),
        annotated_size=annotations.size if annotations else None,
        photo_size=photo_size,
        photo_error=photo_error,
    )


def _decode(name: str, places: Places) -> tuple[tuple[int, int] | None, str]:
    """Return the size of a photo, or why it cannot be decoded; neither where the photo is not to be checked."""
    if places.photos is None or name not in places.decoded:
        return None, ""
    path = places.photos / f"{name}.jpg"
    try:
        photo = decode(path.read_bytes(), name=str(path))
    except Exception as error:  # image readers raise errors of many kinds
        return None, describe_failure(path, error)
    return (photo.height, photo.width), ""
