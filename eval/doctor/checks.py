"""Checks of the download, each of which returns findings: lists, annotations, counts, photos and their sizes."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eval.doctor.survey import Facts
from eval.flickr30k import SPLITS, TYPES, UNRELATED, read_split, read_unrelated

SAME = "of the annotated size"
SHOWN = 3  # number of examples that a finding names
UNPACK_AGAIN = "unpack Flickr30k Entities (v1.0, github.com/BryanPlummer/flickr30k_entities) again"
REQUEST_PHOTOS = "request Flickr30k's photos with the form at hockenmaier.cs.illinois.edu/DenotationGraph"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of a check."""

    kind: str  # ok, wrong or note
    message: str
    remedy: str = ""  # what the user can do about it
    examples: tuple[str, ...] = ()  # the first few error messages behind it

    def __str__(self) -> str:
        line = f"{self.kind}: {self.message}" + (f"; to do: {self.remedy}" if self.remedy else "")
        return "\n       ".join((line, *self.examples))


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of photos, sentences, phrases and entities of a split, counting only those with boxes."""

    photos: int  # with at least one phrase that has boxes
    sentences: int  # with at least one phrase that has boxes
    phrases: int  # that have boxes, each counted once
    entities: int  # chains that have boxes
    types: Mapping[str, int] = field(default_factory=dict)  # phrases of each type; with two types, counted for both

    def __str__(self) -> str:
        by_type = ", ".join(f"{name} {count:,}" for name, count in self.types.items())
        return (
            f"{self.phrases:,} phrases with boxes in {self.sentences:,} sentences of {self.photos:,} photos, "
            f"{self.entities:,} entities: {by_type}"
        )


def _counts(photos: int, sentences: int, phrases: int, entities: int, *by_type: int) -> Counts:
    return Counts(photos, sentences, phrases, entities, dict(zip(TYPES, by_type, strict=True)))


PHOTOS = {"train": 29_783, "val": 1_000, "test": 1_000}
UNRELATED_COUNT = 21
GOLDEN = {
    # Counted in v1.0; those of the test split agree with the release of Plummer et al. 2018.
    "train": _counts(29_781, 148_166, 427_226, 180_853, 168_928, 66_465, 16_250, 16_118, 11_159, 4_553, 48_207, 98_401),
    "val": _counts(1_000, 4_986, 14_433, 6_138, 5_813, 2_335, 541, 523, 338, 155, 1_533, 3_284),
    "test": _counts(999, 4_969, 14_481, 6_012, 5_656, 2_306, 523, 518, 400, 162, 1_619, 3_374),
}


def count(facts: Iterable[Facts]) -> Counts:
    """Count what photos contain."""
    found = list(facts)
    types = Counter(kind for photo in found for phrase in photo.phrases for kind in phrase)
    return Counts(
        photos=sum(bool(photo.phrases) for photo in found),
        sentences=sum(photo.sentences for photo in found),
        phrases=sum(len(photo.phrases) for photo in found),
        entities=sum(photo.entities for photo in found),
        types={name: types[name] for name in TYPES},
    )


def examples_of(names: Collection[str]) -> str:
    """Name the first few of these names, and say how many more there are."""
    shown = ", ".join(sorted(names)[:SHOWN])
    return shown + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")


def check_entities(entities: Path, photos: Path | None) -> Finding:
    """Check that this is the folder of Flickr30k Entities."""
    missing = [part for part in ("Annotations", "Sentences") if not (entities / part).is_dir()]
    if not missing:
        return Finding("ok", f"{entities}: folders Annotations and Sentences found")
    reason = f"no folder {' and no folder '.join(missing)} in it" if entities.is_dir() else "no such folder"
    message = f"data.entities={entities}: {reason}"
    if photos is not None and (photos / "Annotations").is_dir():
        return Finding("wrong", message, "swap data.path and data.entities")
    if (entities / "annotations.zip").is_file():
        return Finding("wrong", message, f"unpack annotations.zip there: unzip {entities / 'annotations.zip'}")
    for inner in entities.glob("*/Annotations"):
        return Finding("wrong", message, f"name the folder inside it: data.entities={inner.parent}")
    return Finding("wrong", message, "name the folder in which Flickr30k Entities is unpacked")


def read_splits(entities: Path) -> tuple[dict[str, frozenset[str]], list[Finding]]:
    """Read the photos of each split whose list can be read, and check the lists."""
    splits, wrong = {}, []
    for split in SPLITS:
        try:
            splits[split] = read_split(entities, entities / f"{split}.txt")
        except ValueError as error:
            wrong.append(Finding("wrong", str(error), UNPACK_AGAIN))
            continue
        if len(splits[split]) != PHOTOS[split]:
            message = f"{entities / split}.txt: {len(splits[split]):,} photos, expected {PHOTOS[split]:,}"
            wrong.append(Finding("wrong", message, UNPACK_AGAIN))
    uses = Counter(name for names in splits.values() for name in names)
    if repeated := [name for name, number in uses.items() if number > 1]:
        message = f"{len(repeated):,} photos are in more than one list, such as {examples_of(repeated)}"
        wrong.append(Finding("wrong", message, UNPACK_AGAIN))
    numbers = ", ".join(f"{split} {len(names):,}" for split, names in splits.items())
    return splits, wrong or [Finding("ok", f"lists: {numbers} photos, no photo in two lists")]


def check_files(listed: Set[str], facts: Collection[Facts], present: Mapping[str, Set[str]]) -> list[Finding]:
    """Check that exactly the listed photos have files of captions and boxes, and that all of these can be read.

    Args:
        listed: the names of photos that should have both files.
        facts: the facts of every photo that has one of them.
        present: for each folder, the names of photos that have a file in it.
    """
    findings = []
    for folder, names in present.items():
        if missing := listed - names:
            message = f"{folder} lacks {len(missing):,} of {len(listed):,} photos, such as {examples_of(missing)}"
            findings.append(Finding("wrong", message, UNPACK_AGAIN))
        if strange := names - listed:
            message = (
                f"{folder} has files of {len(strange):,} photos that no list names, such as {examples_of(strange)}"
            )
            findings.append(Finding("wrong", message, f"move them elsewhere, or {UNPACK_AGAIN}"))
    complete = frozenset.intersection(*map(frozenset, present.values()))
    if broken := sorted(line for photo in facts if photo.name in complete for line in photo.broken):
        message = f"files of captions or boxes that cannot be read: {len(broken):,}"
        findings.append(Finding("wrong", message, UNPACK_AGAIN, tuple(broken[:SHOWN])))
    if orphans := {photo.name: photo.orphans for photo in facts if photo.orphans}:
        name, phrases = min(orphans.items())
        message = (
            f"{sum(map(len, orphans.values())):,} phrases of {len(orphans):,} photos belong to chains without "
            f"annotations, such as {phrases[0]!r} of {name}"
        )
        findings.append(Finding("wrong", message, UNPACK_AGAIN))
    return findings or [
        Finding("ok", f"captions and boxes of {len(facts):,} photos can be read, and every chain is annotated")
    ]


def check_counts(split: str, found: Counts) -> Finding:
    """Compare the counts of a split with those of the release."""
    golden = GOLDEN[split]
    if found == golden:
        return Finding("ok", f"{split}: {found}")
    differences = [
        f"{name} {number:,}, expected {_flat(golden)[name]:,}"
        for name, number in _flat(found).items()
        if number != _flat(golden)[name]
    ]
    return Finding("wrong", f"{split}: {'; '.join(differences)}", UNPACK_AGAIN)


def _flat(counts: Counts) -> dict[str, int]:
    values: dict[str, Any] = asdict(counts)
    types: dict[str, int] = values.pop("types")
    return {**values, **types}


def check_unrelated(entities: Path, facts: Mapping[str, Facts]) -> Finding:
    """Check the list of captions that are unrelated to their photos."""
    path = entities / UNRELATED
    try:
        captions = read_unrelated(path)
    except ValueError as error:
        return Finding("wrong", str(error), UNPACK_AGAIN)
    strange = [
        f"{name} {sentence + 1}"
        for name, sentence in captions
        if name not in facts or not (facts[name].broken or sentence < facts[name].captions)
    ]
    if strange:
        return Finding("wrong", f"{path}: it names captions that do not exist: {examples_of(strange)}", UNPACK_AGAIN)
    if len(captions) != UNRELATED_COUNT:
        return Finding("wrong", f"{path}: {len(captions):,} captions, expected {UNRELATED_COUNT}", UNPACK_AGAIN)
    return Finding("ok", f"{UNRELATED}: {len(captions)} captions are unrelated to their photos; scores include them")


def check_folder(photos: Path, entities: Path) -> Finding | None:
    """Check the folder of photos as a whole; None where it holds photos."""
    if not photos.is_dir():
        return Finding(
            "wrong", f"data.path={photos}: no such folder", f"name the folder that holds ID.jpg, or {REQUEST_PHOTOS}"
        )
    if any(photos.glob("*.jpg")):
        return None
    message = f"data.path={photos}: no file .jpg in it"
    if (photos / "Annotations").is_dir() and any(entities.glob("*.jpg")):
        return Finding("wrong", message, "swap data.path and data.entities")
    for inner in photos.glob("*/*.jpg"):
        return Finding("wrong", message, f"name the folder inside it: data.path={inner.parent}")
    if others := [path.name for path in photos.iterdir() if path.stem.isdecimal()]:
        return Finding("wrong", f"{message}, but {examples_of(others)}", "convert or rename them to ID.jpg")
    return Finding("wrong", message, f"name the folder that holds ID.jpg, or {REQUEST_PHOTOS}")


def check_photos(
    photos: Path, present: Set[str], known: Set[str], splits: Mapping[str, Set[str]], wanted: Set[str] | None
) -> list[Finding]:
    """Check which photos are present.

    Args:
        photos: the folder of photos.
        present: the names of the photos in it.
        known: the names of all photos of Flickr30k.
        splits: the names of each split's photos.
        wanted: the names of the photos of ``data.split``; None where every photo that is present will do.
    """
    have, strange = present & known, present - known
    by_split = {name: len(have & names) for name, names in splits.items() if have & names}
    several = "".join(f", {number:,} of split {name}" for name, number in by_split.items())
    whole = [f", all of split {name}" for name, number in by_split.items() if number == len(have)]
    findings = [Finding("ok", f"{photos}: {len(have):,} of {len(known):,} photos{''.join(whole) or several}")]
    if wanted is not None:
        if missing := wanted - present:
            message = f"{photos} lacks {len(missing):,} of the {len(wanted):,} photos of data.split, such as "
            remedy = f"{REQUEST_PHOTOS}, or leave out data.split to use the photos that are present"
            findings.append(Finding("wrong", message + examples_of(_files(missing)), remedy))
        else:
            findings.append(Finding("ok", f"all {len(wanted):,} photos of data.split are present"))
        return findings
    for name in by_split:
        if missing := splits[name] - have:
            message = f"{len(missing):,} photos of {name} are missing, such as {examples_of(_files(missing))}"
            findings.append(Finding("note", f"{message}; data.split={name} needs all of them", REQUEST_PHOTOS))
    if strange:
        message = (
            f"{photos}: {len(strange):,} .jpg files are no photos of Flickr30k, such as {examples_of(_files(strange))}"
        )
        findings.append(Finding("wrong", message, "move them elsewhere, or name a list with data.split"))
    return findings


def _files(names: Iterable[str]) -> list[str]:
    return [f"{name}.jpg" for name in names]


def check_readable(facts: Collection[Facts]) -> list[Finding]:
    """Check that every photo can be decoded."""
    errors = sorted(photo.photo_error for photo in facts if photo.photo_error)
    readable = sum(photo.photo_size is not None for photo in facts)
    if not errors:
        return [Finding("ok", f"all {readable:,} photos can be read")]
    message = f"photos that cannot be read: {len(errors):,} of {len(errors) + readable:,}"
    return [Finding("wrong", message, f"replace them: {REQUEST_PHOTOS}", tuple(errors[:SHOWN]))]


def check_sizes(facts: Collection[Facts]) -> list[Finding]:
    """Check that photos have the size that the boxes are annotated in, or can be stretched to it.

    Copies may be scaled, or squashed to a common size. A size is taken for one that copies were squashed to where most
    photos of this size were annotated in other aspect ratios, and these ratios differ. Any other photo whose aspect
    ratio differs from the annotated one is a mistake, such as a rotated photo.
    """
    sizes = {
        photo.name: (photo.photo_size, photo.annotated_size)
        for photo in facts
        if photo.photo_size and photo.annotated_size
    }
    annotated_sizes: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for here, annotated in sizes.values():
        annotated_sizes.setdefault(here, []).append(annotated)
    squashed_to = {here for here, annotated in annotated_sizes.items() if _is_squashed_size(here, annotated)}
    kinds: Counter[str] = Counter()
    wrong = []
    for name, (here, annotated) in sorted(sizes.items()):
        if here == annotated:
            kinds[SAME] += 1
        elif _same_aspect(here, annotated):
            kinds["of the same aspect ratio"] += 1
        elif here in squashed_to:
            kinds[f"squashed to {_size(here)}"] += 1
        else:
            rotated = " (rotated)" if _same_aspect(here, (annotated[1], annotated[0])) else ""
            wrong.append(f"{name}.jpg: {_size(here)} pixels (width×height), annotated in {_size(annotated)}{rotated}")
    findings = []
    if kinds:
        numbers = ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common())
        stretched = "; the evaluation stretches photos to the annotated size" if set(kinds) != {SAME} else ""
        findings.append(Finding("ok", f"sizes: {numbers}{stretched}"))
    if wrong:
        message = f"photos whose aspect ratio differs from the annotated photo: {len(wrong):,}"
        remedy = "replace them by the originals, neither rotated nor cropped"
        findings.append(Finding("wrong", message, remedy, tuple(wrong[:SHOWN])))
    return findings


def _is_squashed_size(here: tuple[int, int], annotated: list[tuple[int, int]]) -> bool:
    """Whether photos of this size, annotated in these sizes, are squashed copies."""
    others = [size for size in annotated if not _same_aspect(here, size)]
    return 2 * len(others) > len(annotated) and any(not _same_aspect(others[0], size) for size in others)


def _same_aspect(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two sizes have the same aspect ratio, give or take a pixel on each side of the smaller."""
    (height, width), (other_height, other_width) = sorted((first, second))
    return abs(height * other_width - width * other_height) <= other_height + other_width


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]}×{size[0]}"
