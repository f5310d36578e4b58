"""The photos that a result is measured on: their phrases with boxes, their split, and what makes them easy or hard."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from eval.flickr30k import SPLITS, AnnotatedPhotos, instances, read_split
from eval.pointing import is_at_centre
from eval.records import Instance
from eval.result import Composition, MeasuredPhotos
from grounding.digests import digest

FLICKR8K_VAL = Path(__file__).with_name("flickr8k_val.txt")  # the photos of val that are in Flickr8k, too


def find_instances(photos: AnnotatedPhotos) -> tuple[Instance, ...]:
    """All phrases with boxes.

    Raises:
        ValueError: there is none.
    """
    from rich.console import Console
    from rich.progress import track

    bar = track(photos.photos, "captions", console=Console(stderr=True), transient=True)
    found = tuple(instance for photo in bar for instance in instances(photo))
    if not found:
        raise ValueError(f"{photos.folder}: no phrase of these {len(photos.photos)} photos has a box")
    return found


def describe_photos(
    photos: AnnotatedPhotos, things: Sequence[Instance], *, name: str, entities_folder: Path
) -> MeasuredPhotos:
    """Describe the photos for a result.

    Args:
        photos: all that are measured.
        things: their phrases with boxes, at least one.
        name: the name of the data, such as "flickr30k".
        entities_folder: holds the lists of the splits.
    """
    split = split_of(photos, entities_folder)
    names = sorted(photo.name for photo in photos.photos)
    is_val = split is not None and split.endswith("val")
    return MeasuredPhotos(
        name=name,
        split=split,
        flickr8k=sum(name in flickr8k_val() for name in names) / len(names) if is_val else None,
        photos=len(names),
        captions=sum(len(photo.sentences) for photo in photos.photos),
        phrases=len(things),
        digest=digest(names),
        composition=composition(things),
    )


def split_of(photos: AnnotatedPhotos, entities_folder: Path) -> str | None:
    """The split that all photos are of, such as ``val`` or ``part of val``; None where there is none."""
    names = {photo.name for photo in photos.photos}
    for split in SPLITS:
        if (entities_folder / f"{split}.txt").is_file():
            listed = read_split(entities_folder, split)
            if names <= listed:
                return split if names == listed else f"part of {split}"
    return None


def composition(things: Sequence[Instance]) -> Composition:
    """The shares of phrases, at least one, that are animals, and of those with the photo's centre in a box."""
    return Composition(
        animals=sum("animals" in thing.types for thing in things) / len(things),
        centre_in_box=sum(is_at_centre(thing, "any") for thing in things) / len(things),
    )


@cache
def flickr8k_val() -> frozenset[str]:
    """The names of the photos of Flickr30k's val split that are part of Flickr8k."""
    return frozenset(FLICKR8K_VAL.read_text(encoding="utf-8").split())
