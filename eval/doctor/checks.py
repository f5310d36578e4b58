"""What is right and what is wrong, in words: the golden counts, the lists, the photos and their sizes."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eval.doctor.survey import Facts
from eval.flickr30k import SPLITS, TYPES, UNRELATED, read_split, read_unrelated

SAME = "of the size that the boxes are in"
SHOWN = 3  # examples of what is wrong
AGAIN = "unpack Flickr30k Entities (v1.0, github.com/BryanPlummer/flickr30k_entities) again"
ASK = "ask for Flickr30k's photos with the form at hockenmaier.cs.illinois.edu/DenotationGraph"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is right, or wrong, or worth knowing."""

    kind: str  # ok, wrong or note
    what: str
    cure: str = ""  # what to do
    errors: tuple[str, ...] = ()  # the first of those that it is about

    def __str__(self) -> str:
        told = f"{self.kind}: {self.what}" + (f"; do: {self.cure}" if self.cure else "")
        return "\n       ".join((told, *self.errors))


@dataclass(frozen=True, slots=True)
class Counts:
    """What there is to find in a split."""

    photos: int  # with a phrase that owns boxes, as in all that follows
    sentences: int
    phrases: int  # each once
    entities: int  # chains
    types: Mapping[str, int] = field(default_factory=dict)  # phrases; one with two types counts for both

    def __str__(self) -> str:
        of_types = ", ".join(f"{name} {count:,}" for name, count in self.types.items())
        return (
            f"{self.phrases:,} phrases with boxes in {self.sentences:,} sentences of {self.photos:,} photos, "
            f"{self.entities:,} entities: {of_types}"
        )


def _counts(photos: int, sentences: int, phrases: int, entities: int, *of_types: int) -> Counts:
    return Counts(photos, sentences, phrases, entities, dict(zip(TYPES, of_types, strict=True)))


PHOTOS = {"train": 29_783, "val": 1_000, "test": 1_000}
CAPTIONS_UNRELATED = 21
GOLDEN = {
    # Those of the test split are known from the release of Plummer et al. 2018, too; the others are measured from v1.0.
    "train": _counts(29_781, 148_166, 427_226, 180_853, 168_928, 66_465, 16_250, 16_118, 11_159, 4_553, 48_207, 98_401),
    "val": _counts(1_000, 4_986, 14_433, 6_138, 5_813, 2_335, 541, 523, 338, 155, 1_533, 3_284),
    "test": _counts(999, 4_969, 14_481, 6_012, 5_656, 2_306, 523, 518, 400, 162, 1_619, 3_374),
}


def count(facts: Iterable[Facts]) -> Counts:
    """What there is to find in some photos."""
    found = list(facts)
    types = Counter(kind for one in found for phrase in one.phrases for kind in phrase)
    return Counts(
        photos=sum(bool(one.phrases) for one in found),
        sentences=sum(one.sentences for one in found),
        phrases=sum(len(one.phrases) for one in found),
        entities=sum(one.entities for one in found),
        types={name: types[name] for name in TYPES},
    )


def few(names: Collection[str]) -> str:
    """The first of some names, and how many there are beside them."""
    shown = ", ".join(sorted(names)[:SHOWN])
    return shown + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")


def check_entities(entities: Path, photos: Path | None) -> Finding:
    """Whether this is the folder of Flickr30k Entities."""
    lacking = [part for part in ("Annotations", "Sentences") if not (entities / part).is_dir()]
    if not lacking:
        return Finding("ok", f"{entities}: Annotations and Sentences are there")
    reason = f"no folder {' and no folder '.join(lacking)} in it" if entities.is_dir() else "no such folder"
    what = f"data.entities={entities}: {reason}"
    if photos is not None and (photos / "Annotations").is_dir():
        return Finding("wrong", what, "swap data.path and data.entities")
    if (entities / "annotations.zip").is_file():
        return Finding("wrong", what, f"unpack annotations.zip there: unzip {entities / 'annotations.zip'}")
    for inner in entities.glob("*/Annotations"):
        return Finding("wrong", what, f"name the folder inside it: data.entities={inner.parent}")
    return Finding("wrong", what, "name the folder in which Flickr30k Entities is unpacked")


def read_splits(entities: Path) -> tuple[dict[str, frozenset[str]], list[Finding]]:
    """The photos of each split whose list is there, and what is wrong with the lists."""
    splits, wrong = {}, []
    for split in SPLITS:
        try:
            splits[split] = read_split(entities, entities / f"{split}.txt")
        except ValueError as error:
            wrong.append(Finding("wrong", str(error), AGAIN))
            continue
        if len(splits[split]) != PHOTOS[split]:
            what = f"{entities / split}.txt: {len(splits[split]):,} photos, should be {PHOTOS[split]:,}"
            wrong.append(Finding("wrong", what, AGAIN))
    homes = Counter(name for names in splits.values() for name in names)
    if several := [name for name, number in homes.items() if number > 1]:
        what = f"{len(several):,} photos are in more than one of the lists, such as {few(several)}"
        wrong.append(Finding("wrong", what, AGAIN))
    numbers = ", ".join(f"{split} {len(names):,}" for split, names in splits.items())
    return splits, wrong or [Finding("ok", f"lists: {numbers} photos, none in two of them")]


def check_files(listed: Set[str], facts: Collection[Facts], there: Mapping[str, Set[str]]) -> list[Finding]:
    """Whether each photo of the lists has its files of captions and boxes, and no other has, and all can be read.

    Args:
        listed: the photos that should have them.
        facts: of photos.
        there: for each folder, the photos that have a file in it.
    """
    findings = []
    for folder, names in there.items():
        if missing := listed - names:
            what = f"{folder} lacks {len(missing):,} of {len(listed):,} photos, such as {few(missing)}"
            findings.append(Finding("wrong", what, AGAIN))
        if strange := names - listed:
            what = f"{folder} has files of {len(strange):,} photos that no list names, such as {few(strange)}"
            findings.append(Finding("wrong", what, f"move them elsewhere, or {AGAIN}"))
    are_there = frozenset.intersection(*map(frozenset, there.values()))
    if broken := sorted(line for one in facts if one.name in are_there for line in one.broken):
        what = f"files of captions or boxes that cannot be read: {len(broken):,}"
        findings.append(Finding("wrong", what, AGAIN, tuple(broken[:SHOWN])))
    if orphans := {one.name: one.orphans for one in facts if one.orphans}:
        name, phrases = min(orphans.items())
        what = (
            f"{sum(map(len, orphans.values())):,} phrases of {len(orphans):,} photos are of chains that are not "
            f"annotated, such as {phrases[0]!r} of {name}"
        )
        findings.append(Finding("wrong", what, AGAIN))
    return findings or [
        Finding("ok", f"captions and boxes of {len(facts):,} photos can be read, every chain is annotated")
    ]


def check_counts(split: str, found: Counts) -> Finding:
    """Whether a split holds what it should."""
    golden = GOLDEN[split]
    if found == golden:
        return Finding("ok", f"{split}: {found}")
    differences = [
        f"{name} {number:,}, should be {_flat(golden)[name]:,}"
        for name, number in _flat(found).items()
        if number != _flat(golden)[name]
    ]
    return Finding("wrong", f"{split}: {'; '.join(differences)}", AGAIN)


def _flat(counts: Counts) -> dict[str, int]:
    values: dict[str, Any] = asdict(counts)
    types: dict[str, int] = values.pop("types")
    return {**values, **types}


def check_unrelated(entities: Path, facts: Mapping[str, Facts]) -> Finding:
    """The list of captions that speak of something else."""
    path = entities / UNRELATED
    try:
        captions = read_unrelated(path)
    except ValueError as error:
        return Finding("wrong", str(error), AGAIN)
    strange = [
        f"{name} {sentence + 1}"
        for name, sentence in captions
        if name not in facts or not (facts[name].broken or sentence < facts[name].captions)
    ]
    if strange:
        return Finding("wrong", f"{path}: there is no caption {few(strange)}", AGAIN)
    if len(captions) != CAPTIONS_UNRELATED:
        return Finding("wrong", f"{path}: {len(captions):,} captions, should be {CAPTIONS_UNRELATED}", AGAIN)
    return Finding(
        "ok", f"{UNRELATED}: {len(captions)} captions that speak of something else; no score leaves them out"
    )


def check_folder(photos: Path, entities: Path) -> Finding | None:
    """What is wrong with the folder of photos as a whole, if anything."""
    if not photos.is_dir():
        return Finding("wrong", f"data.path={photos}: no such folder", f"name the folder that holds ID.jpg, or {ASK}")
    if any(photos.glob("*.jpg")):
        return None
    what = f"data.path={photos}: no file .jpg in it"
    if (photos / "Annotations").is_dir() and any(entities.glob("*.jpg")):
        return Finding("wrong", what, "swap data.path and data.entities")
    for inner in photos.glob("*/*.jpg"):
        return Finding("wrong", what, f"name the folder inside it: data.path={inner.parent}")
    if others := [path.name for path in photos.iterdir() if path.stem.isdecimal()]:
        return Finding("wrong", f"{what}, but {few(others)}", "convert or rename them to ID.jpg")
    return Finding("wrong", what, f"name the folder that holds ID.jpg, or {ASK}")


def check_photos(
    photos: Path, there: Set[str], known: Set[str], splits: Mapping[str, Set[str]], wanted: Set[str] | None
) -> list[Finding]:
    """Which photos there are.

    Args:
        photos: their folder.
        there: their names.
        known: the names of all photos of Flickr30k.
        splits: those of each split.
        wanted: those of the list that is asked for; None for all that are there.
    """
    have, strange = there & known, there - known
    of_split = {name: len(have & names) for name, names in splits.items() if have & names}
    several = "".join(f", {number:,} of split {name}" for name, number in of_split.items())
    whole = [f", all of split {name}" for name, number in of_split.items() if number == len(have)]
    findings = [Finding("ok", f"{photos}: {len(have):,} of {len(known):,} photos{''.join(whole) or several}")]
    if wanted is not None:
        if missing := wanted - there:
            what = f"{photos} lacks {len(missing):,} of the {len(wanted):,} photos of data.split, such as "
            cure = f"{ASK}, or leave out data.split to take the photos that are there"
            findings.append(Finding("wrong", what + few(_files(missing)), cure))
        else:
            findings.append(Finding("ok", f"all {len(wanted):,} photos of data.split are there"))
        return findings
    for name in of_split:
        if missing := splits[name] - have:
            what = f"{len(missing):,} photos of {name} are not there, such as {few(_files(missing))}"
            findings.append(Finding("note", f"{what}; data.split={name} needs them", ASK))
    if strange:
        what = f"{photos}: {len(strange):,} files .jpg are no photos of Flickr30k, such as {few(_files(strange))}"
        findings.append(Finding("wrong", what, "move them elsewhere, or name a list with data.split"))
    return findings


def _files(names: Iterable[str]) -> list[str]:
    return [f"{name}.jpg" for name in names]


def check_readable(facts: Collection[Facts]) -> list[Finding]:
    """Which photos cannot be read."""
    errors = sorted(one.photo_error for one in facts if one.photo_error)
    readable = sum(one.photo_size is not None for one in facts)
    if not errors:
        return [Finding("ok", f"all {readable:,} photos can be read")]
    what = f"photos that cannot be read: {len(errors):,} of {len(errors) + readable:,}"
    return [Finding("wrong", what, f"fetch them again: {ASK}", tuple(errors[:SHOWN]))]


def check_sizes(facts: Collection[Facts]) -> list[Finding]:
    """Whether photos have the size that the boxes are in, or can be stretched to it.

    Photos of one size, most of which have another aspect than people drew on, and not always the same other aspect, are
    squashed copies. Any other aspect is a mistake, such as a photo that was turned.
    """
    sizes = {one.name: (one.photo_size, one.annotated_size) for one in facts if one.photo_size and one.annotated_size}
    of_size: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for here, drawn in sizes.values():
        of_size.setdefault(here, []).append(drawn)
    squashed_to = {here for here, drawn in of_size.items() if _is_squash(here, drawn)}
    kinds: Counter[str] = Counter()
    wrong = []
    for name, (here, drawn) in sorted(sizes.items()):
        if here == drawn:
            kinds[SAME] += 1
        elif _same_aspect(here, drawn):
            kinds["of its aspect"] += 1
        elif here in squashed_to:
            kinds[f"squashed to {_size(here)}"] += 1
        else:
            turned = " (turned)" if _same_aspect(here, (drawn[1], drawn[0])) else ""
            wrong.append(f"{name}.jpg: {_size(here)} pixels (width×height), the boxes are in {_size(drawn)}{turned}")
    findings = []
    if kinds:
        told = ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common())
        stretched = "; those that differ are stretched to it" if set(kinds) != {SAME} else ""
        findings.append(Finding("ok", f"sizes: {told}{stretched}"))
    if wrong:
        what = f"photos of another aspect than the photo that boxes were drawn on: {len(wrong):,}"
        cure = "put the originals in their place, neither turned nor cropped"
        findings.append(Finding("wrong", what, cure, tuple(wrong[:SHOWN])))
    return findings


def _is_squash(here: tuple[int, int], drawn: list[tuple[int, int]]) -> bool:
    others = [size for size in drawn if not _same_aspect(here, size)]
    return 2 * len(others) > len(drawn) and any(not _same_aspect(others[0], size) for size in others)


def _same_aspect(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether one is the other at another scale, give or take a pixel in each side of the smaller."""
    (height, width), (other_height, other_width) = sorted((first, second))
    return abs(height * other_width - width * other_height) <= other_height + other_width


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]}×{size[0]}"
