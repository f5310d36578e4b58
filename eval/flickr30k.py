"""Read Flickr30k Entities (Plummer et al. 2017): captions whose phrases belong to chains, and the boxes of each chain.

A *chain* is one entity that phrases of a photo's captions refer to. Its boxes are used for measuring only. Phrases that
refer to nothing visible belong to chain 0. A chain may be the whole scene, and may have no box.

Photos may be copies of any size, even squashed ones: they are stretched to the size that the boxes are annotated in
(`load_photo`, and ``sizes`` of `AnnotatedPhotos`).
"""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from eval.labels import read_labels
from eval.records import Instance
from grounding.images import load_image, stretch
from grounding.photos import Photos
from grounding.voc import Box, parse_annotation, read_box

TYPES = ("people", "clothing", "bodyparts", "animals", "vehicles", "instruments", "scene", "other")
NOT_VISUAL = "notvisual"  # the type of phrases of chain 0
SPLITS = ("train", "val", "test")
UNRELATED = "UNRELATED_CAPTIONS"  # the list of captions that are unrelated to their photos
MARKUP = re.compile(r"\[/EN#(?P<chain>\d+)(?P<types>(?:/[^\s/\[\]]+)+) (?P<text>[^\[\]]+)\]")


@dataclass(frozen=True, slots=True)
class EntityPhrase:
    """A phrase of a caption, as annotators marked it."""

    text: str
    span: tuple[int, int]  # characters in the sentence, end exclusive
    chain: str  # "0" where the phrase refers to nothing visible
    types: tuple[str, ...]  # one or more of `TYPES`, or `NOT_VISUAL`


@dataclass(frozen=True, slots=True)
class Sentence:
    """A caption without its markup; its tokens are separated by spaces."""

    text: str
    phrases: tuple[EntityPhrase, ...]


@dataclass(frozen=True, eq=False)
class Annotations:
    """The annotations of a photo."""

    size: tuple[int, int]  # (height, width) of the annotated photo
    boxes: dict[str, Tensor]  # boxes (N, 4) of each chain that has some
    scenes: frozenset[str]  # chains that are the whole scene
    boxless: frozenset[str]  # chains that are marked as having no box


@dataclass(frozen=True, eq=False)
class AnnotatedPhoto:
    """A photo with its captions and its annotations."""

    name: str
    path: Path
    sentences: tuple[Sentence, ...]
    annotations: Annotations
    unrelated: frozenset[int] = (
        frozenset()
    )  # indices of sentences listed as unrelated to the photo; scores include them

    @property
    def size(self) -> tuple[int, int]:
        return self.annotations.size

    def phrases_with_boxes(self) -> tuple[tuple[EntityPhrase, Tensor], ...]:
        """Return the phrases that have boxes, in order, each with the boxes (N, 4) of its chain."""
        boxes = self.annotations.boxes
        phrases = [phrase for sentence in self.sentences for phrase in sentence.phrases]
        return tuple((phrase, boxes[phrase.chain]) for phrase in phrases if phrase.chain in boxes)


@dataclass(frozen=True)
class AnnotatedPhotos(Photos):
    """Photos as every command takes them, stretched to the annotated size, together with their annotations."""

    photos: tuple[AnnotatedPhoto, ...] = ()  # in the order of the names


def annotated_photos(path: str | Path, entities: str | Path, *, split: str | Path | None = None) -> AnnotatedPhotos:
    """Build ``data=flickr30k`` from `find_photos`, which has the same arguments and errors."""
    photos = find_photos(path, entities, split=split)
    sizes = {photo.path.name: photo.size for photo in photos}
    return AnnotatedPhotos(Path(path).expanduser(), list(sizes), sizes, photos)


def find_photos(
    photos: str | Path, entities: str | Path, *, split: str | Path | None = None
) -> tuple[AnnotatedPhoto, ...]:
    """Find the photos of a folder and read their annotations, in the order of their numbers.

    Args:
        photos: the folder of ``ID.jpg``; their sizes may differ from the annotated ones.
        entities: the folder of ``Annotations`` and ``Sentences``.
        split: ``train``, ``val`` or ``test``, for the list in ``entities``, or the path of another list with one number
            on each line. None takes every photo of the folder.

    Raises:
        ValueError: a folder, the list, a photo of it or an annotation is missing or broken, or there is no photo.
    """
    folder, entities = Path(photos).expanduser(), Path(entities).expanduser()
    for part in ("Annotations", "Sentences"):
        if not (entities / part).is_dir():
            raise ValueError(
                f"{entities}: no folder {part} in it; name the folder in which Flickr30k Entities is unpacked"
            )
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; name the one that holds the photos, ID.jpg")
    present = {path.stem for path in folder.glob("*.jpg")}
    names = present if split is None else read_split(entities, split)
    if missing := sorted(names - present, key=_number):
        raise ValueError(
            f"{folder}: lacks {len(missing)} of the {len(names)} photos of {split}, such as {missing[0]}.jpg; "
            "add them, or leave out the split to use the photos that are present"
        )
    if not names:
        raise ValueError(f"{folder}: no photo in it; photos of Flickr30k are named ID.jpg")
    unrelated = read_unrelated(entities / UNRELATED) if (entities / UNRELATED).exists() else frozenset()
    return tuple(
        AnnotatedPhoto(
            name,
            folder / f"{name}.jpg",
            read_sentences(entities / "Sentences" / f"{name}.txt"),
            read_annotations(entities / "Annotations" / f"{name}.xml"),
            frozenset(sentence for photo, sentence in unrelated if photo == name),
        )
        for name in sorted(names, key=_number)
    )


def instances(photo: AnnotatedPhoto) -> tuple[Instance, ...]:
    """Return the phrases of a photo that have boxes, in order: the instances that a method has to find.

    These are the phrases of the ICCV'15 evaluator (Plummer et al.): scenes are among them where they have a box;
    phrases of chain 0 and of chains without boxes are not.
    """
    boxes = photo.annotations.boxes
    labels = read_labels(
        [sentence.text for sentence in photo.sentences],
        [[phrase.span for phrase in sentence.phrases] for sentence in photo.sentences],
    )
    return tuple(
        Instance(
            photo=photo.name,
            size=photo.size,
            sentence=sentence,
            phrase=index,
            text=phrase.text,
            span=phrase.span,
            chain=phrase.chain,
            types=phrase.types,
            boxes=boxes[phrase.chain],
            label=label.text,
            is_parsed=label.is_parsed,
        )
        for sentence, sentence_labels in enumerate(labels)
        for index, (phrase, label) in enumerate(zip(photo.sentences[sentence].phrases, sentence_labels, strict=True))
        if phrase.chain in boxes
    )


def load_photo(photo: AnnotatedPhoto) -> Tensor:
    """Load a photo (3, H, W), in [0, 1], stretched to the size that its boxes are annotated in.

    Raises:
        ValueError: the file is missing or no image.
    """
    return stretch(load_image(photo.path), photo.size)


def read_sentences(path: Path) -> tuple[Sentence, ...]:
    """Read the captions of a photo, one on each line, with phrases marked as in ``[/EN#283585/people A man] smiles .``

    Raises:
        ValueError: there is no such file, the markup of a line is broken, or a type is unknown.
    """
    sentences = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            sentence = _sentence(line.strip())
            if "[" in sentence.text or "]" in sentence.text:
                raise ValueError(f"{path}, line {number}: expected phrases marked [/EN#chain/type text], got {line!r}")
            for kind in (kind for phrase in sentence.phrases for kind in phrase.types):
                if kind not in (*TYPES, NOT_VISUAL):
                    raise ValueError(
                        f"{path}, line {number}: unknown type {kind!r}; types are {', '.join(TYPES)} and {NOT_VISUAL}"
                    )
            sentences.append(sentence)
    if not sentences:
        raise ValueError(f"{path}: no caption in it; unpack Flickr30k Entities again")
    return tuple(sentences)


def read_annotations(path: Path) -> Annotations:
    """Read the annotations of a photo. In the file, corners are inclusive and counted from 1.

    Raises:
        ValueError: there is no such file, its XML has another form, or a box does not lie in the photo.
    """
    text = _text(path)
    try:
        root, size = parse_annotation(text)
        boxes: dict[str, list[Box]] = {}
        scenes, boxless = set(), set()
        for element in root.iter("object"):
            chains = {name.text or "" for name in element.findall("name")}
            if element.findtext("scene") == "1":
                scenes |= chains
            if element.findtext("nobndbox") == "1":
                boxless |= chains
            if element.find("bndbox") is not None:
                for chain in chains:
                    boxes.setdefault(chain, []).append(read_box(element, size))
    except ValueError as error:
        raise ValueError(f"{path}: these are not annotations of Flickr30k Entities: {error}") from None
    tensors = {chain: torch.tensor(corners) for chain, corners in boxes.items()}
    return Annotations(size, tensors, frozenset(scenes), frozenset(boxless))


def read_unrelated(path: Path) -> frozenset[tuple[str, int]]:
    """Read the captions that are unrelated to their photo, as pairs of photo and sentence index, counted from 0.

    In the file, sentences count from 1. Its authors call the list incomplete, and no published evaluation that we know
    excludes these captions.

    Raises:
        ValueError: there is no such file, or a line has another form.
    """
    captions = set()
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, sentence = line.strip().partition(" ")
        if not sentence.isdecimal() or int(sentence) < 1:
            raise ValueError(f"{path}, line {number}: expected a photo and the number of a sentence, got {line!r}")
        captions.add((name, int(sentence) - 1))
    return frozenset(captions)


def read_split(entities: Path, split: str | Path) -> frozenset[str]:
    """Read the names of the photos of ``train``, ``val``, ``test`` or another list with one number on each line.

    Raises:
        ValueError: there is no such list.
    """
    path = entities / f"{split}.txt"
    return frozenset(_text(path if path.is_file() else Path(str(split)).expanduser()).split())


def _sentence(line: str) -> Sentence:
    text, end = "", 0
    phrases = []
    for mark in MARKUP.finditer(line):
        text += line[end : mark.start()]
        span = (len(text), len(text) + len(mark["text"]))
        phrases.append(EntityPhrase(mark["text"], span, mark["chain"], tuple(mark["types"][1:].split("/"))))
        text += mark["text"]
        end = mark.end()
    return Sentence(text + line[end:], tuple(phrases))


def _number(name: str) -> tuple[int, str]:
    """Sort key that orders names by their numbers."""
    return len(name), name


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        hint = "Flickr30k Entities has one for each of its photos, and a list for train, val and test"
        raise ValueError(f"{path}: {error.strerror}; {hint}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not text in UTF-8; unpack Flickr30k Entities again") from None
