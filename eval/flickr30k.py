"""Flickr30k Entities (Plummer et al. 2017): captions whose phrases carry chains, and the boxes of each chain.

A *chain* is what several phrases of a photo's captions speak of; its boxes serve for measuring alone. Phrases that
speak of nothing visible are of chain 0, and a chain may be the whole scene or have no box.

Photos may be copies of any size, squashed ones too: all that looks at them stretches them to the size that the boxes
are in (`load_photo`, and the ``sizes`` of `AnnotatedPhotos`).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import torch
from torch import Tensor

from eval.labels import read_labels
from eval.records import Instance
from grounding.images import load_image, stretch
from grounding.photos import Photos

TYPES = ("people", "clothing", "bodyparts", "animals", "vehicles", "instruments", "scene", "other")
INVISIBLE = "notvisual"  # the type of phrases of chain 0
SPLITS = ("train", "val", "test")
UNRELATED = "UNRELATED_CAPTIONS"  # the file that lists them
MARKUP = re.compile(r"\[/EN#(?P<chain>\d+)(?P<types>(?:/[^\s/\[\]]+)+) (?P<text>[^\[\]]+)\]")


@dataclass(frozen=True, slots=True)
class EntityPhrase:
    """A phrase of a caption, as people marked it."""

    text: str
    span: tuple[int, int]  # characters in the sentence, end exclusive
    chain: str  # "0" where it speaks of nothing visible
    types: tuple[str, ...]  # one or more of `TYPES`, or `INVISIBLE`


@dataclass(frozen=True, slots=True)
class Sentence:
    """A caption without its marks, tokens as they stand."""

    text: str
    phrases: tuple[EntityPhrase, ...]


@dataclass(frozen=True, eq=False)
class Annotations:
    """What people drew on a photo."""

    size: tuple[int, int]  # (height, width) of the photo that they drew on
    boxes: dict[str, Tensor]  # of each chain that has some, (N, 4)
    scenes: frozenset[str]  # chains that are the whole scene
    boxless: frozenset[str]  # chains that are said to have no box


@dataclass(frozen=True, eq=False)
class AnnotatedPhoto:
    """A photo, its captions and the boxes of what they speak of."""

    name: str
    path: Path
    sentences: tuple[Sentence, ...]
    annotations: Annotations
    unrelated: frozenset[int] = frozenset()  # sentences, from 0, that are said to speak of something else; all count

    @property
    def size(self) -> tuple[int, int]:
        return self.annotations.size

    def phrases_with_boxes(self) -> tuple[tuple[EntityPhrase, Tensor], ...]:
        """The phrases that own a box or more, in order, each with its chain's boxes (N, 4)."""
        boxes = self.annotations.boxes
        phrases = [phrase for sentence in self.sentences for phrase in sentence.phrases]
        return tuple((phrase, boxes[phrase.chain]) for phrase in phrases if phrase.chain in boxes)


@dataclass(frozen=True)
class AnnotatedPhotos(Photos):
    """The photos as every command takes them, stretched to the size of their boxes, and all that is said of them."""

    photos: tuple[AnnotatedPhoto, ...] = ()  # in the order of the names


def annotated_photos(path: str | Path, entities: str | Path, *, split: str | Path | None = None) -> AnnotatedPhotos:
    """What `find_photos` finds, as ``data=flickr30k``; its arguments and errors are the same."""
    photos = find_photos(path, entities, split=split)
    sizes = {photo.path.name: photo.size for photo in photos}
    return AnnotatedPhotos(Path(path).expanduser(), list(sizes), sizes, photos)


def find_photos(
    photos: str | Path, entities: str | Path, *, split: str | Path | None = None
) -> tuple[AnnotatedPhoto, ...]:
    """The photos of a folder with their annotations, in the order of their numbers.

    Args:
        photos: the folder of ``ID.jpg``, of any size: `load_photo` brings them to that of the boxes.
        entities: the folder of ``Annotations`` and ``Sentences``.
        split: ``train``, ``val`` or ``test``, for the list in ``entities``, or the path of another list, a number a
            line. None takes every photo of the folder.

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
    there = {path.stem for path in folder.glob("*.jpg")}
    names = there if split is None else read_split(entities, split)
    if missing := sorted(names - there, key=_number):
        raise ValueError(
            f"{folder}: lacks {len(missing)} of the {len(names)} photos of {split}, such as {missing[0]}.jpg; "
            "add them, or name no split to take the photos that are there"
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
    """The phrases of a photo that own boxes, in order: what there is to find.

    The ICCV'15 evaluator (Plummer et al.) has the same: phrases of a whole scene with a box are among them, those of
    chain 0 and of chains without a box are not.
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
        for sentence, of_sentence in enumerate(labels)
        for index, (phrase, label) in enumerate(zip(photo.sentences[sentence].phrases, of_sentence, strict=True))
        if phrase.chain in boxes
    )


def load_photo(photo: AnnotatedPhoto) -> Tensor:
    """A photo (3, H, W) in [0, 1] at the size that its boxes are in; a copy of another size or aspect is stretched.

    Raises:
        ValueError: the file is missing or no image.
    """
    return stretch(load_image(photo.path), photo.size)


def read_sentences(path: Path) -> tuple[Sentence, ...]:
    """The captions of a photo, a line each, with phrases marked as in ``[/EN#283585/people A man] smiles .``

    Raises:
        ValueError: there is no such file, a line is marked in another way, or a type is none of `TYPES`.
    """
    sentences = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            sentence = _sentence(line.strip())
            if "[" in sentence.text or "]" in sentence.text:
                raise ValueError(f"{path}, line {number}: expected phrases marked [/EN#chain/type text], got {line!r}")
            for kind in (kind for phrase in sentence.phrases for kind in phrase.types):
                if kind not in (*TYPES, INVISIBLE):
                    raise ValueError(
                        f"{path}, line {number}: unknown type {kind!r}; types are {', '.join(TYPES)} and {INVISIBLE}"
                    )
            sentences.append(sentence)
    if not sentences:
        raise ValueError(f"{path}: no caption in it; unpack Flickr30k Entities again")
    return tuple(sentences)


def read_annotations(path: Path) -> Annotations:
    """What people drew on a photo. On disk corners are inclusive and count from 1.

    Raises:
        ValueError: there is no such file, it is no XML of this form, or a box does not lie in the photo.
    """
    text = _text(path)
    try:
        if "<!DOCTYPE" in text:  # its entities could be huge or read other files
            raise ValueError("a document type has no place in them")
        root = ElementTree.fromstring(text)
        height, width = (int(_child(root, f"size/{side}")) for side in ("height", "width"))
        if min(height, width) < 1:
            raise ValueError(f"no photo has {width}×{height} pixels")
        boxes: dict[str, list[list[float]]] = {}
        scenes, boxless = set(), set()
        for thing in root.iter("object"):
            chains = {name.text or "" for name in thing.findall("name")}
            if thing.findtext("scene") == "1":
                scenes |= chains
            if thing.findtext("nobndbox") == "1":
                boxless |= chains
            if thing.find("bndbox") is not None:
                x1, y1, x2, y2 = (float(_child(thing, f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax"))
                if not (1 <= x1 <= x2 <= width and 1 <= y1 <= y2 <= height):  # false for NaN, too
                    raise ValueError(f"box {x1:g} {y1:g} {x2:g} {y2:g} is not within {width}×{height} pixels")
                for chain in chains:
                    boxes.setdefault(chain, []).append([x1 - 1, y1 - 1, x2, y2])
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{path}: these are not annotations of Flickr30k Entities: {error}") from None
    tensors = {chain: torch.tensor(corners) for chain, corners in boxes.items()}
    return Annotations((height, width), tensors, frozenset(scenes), frozenset(boxless))


def _child(parent: ElementTree.Element, path: str) -> str:
    text = parent.findtext(path)
    if text is None:
        raise ValueError(f"no {path} in <{parent.tag}>")
    return text


def read_unrelated(path: Path) -> frozenset[tuple[str, int]]:
    """The captions that do not speak of their photo, as photo and sentence, from 0. On disk they count from 1.

    The list is incomplete, as its authors say, and no published evaluation that we know leaves them out.

    Raises:
        ValueError: there is no such file, or a line is not a photo and a number.
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
    """The names of the photos of ``train``, ``val`` or ``test``, or of another list, a number a line.

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
    """Orders names as the numbers that they are."""
    return len(name), name


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        cure = "Flickr30k Entities has one for each of its photos, and a list for train, val and test"
        raise ValueError(f"{path}: {error.strerror}; {cure}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not text in UTF-8; unpack Flickr30k Entities again") from None
