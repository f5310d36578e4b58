"""Write manifests of tagged photos from captions, or from the keywords of Corel-5k.

``python -m train task=captions task.captions=FILE task.photos=FOLDER`` and ``python -m train task=corel``.
"""

import csv
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grounding.files import write_file
from grounding.limits import check_limits
from grounding.messages import printable
from grounding.photos import rows
from grounding.records import Word
from grounding.vocabulary import Vocabulary

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token

log = logging.getLogger(__name__)

CAPTIONS = "captions"  # the source of photos whose tags are words of captions, lemmas already
SPLITS = {"all": ("train", "test"), "train": ("train",), "test": ("test",)}
AUXILIARY = {"AUX"}  # is, was, has: part of most captions' verbs, but of no phrase
MARKUP = re.compile(r"\[/EN#\S+ ([^\]]*)\]")  # Flickr30k Entities: [/EN#12/people A man]


@dataclass(frozen=True, slots=True)
class _Caption:
    """What is kept of a caption when it has been parsed."""

    words: list[str]  # in order; a compound comes before the first of its words
    phrases: list[tuple[Word, ...]]  # the content words of each noun phrase


def write_caption_manifest(
    captions: str,
    photos: str,
    output: str,
    *,
    names: str | None = None,
    sizes: str | None = None,
    phrases: bool = True,
    compounds: int | None = 20,
) -> Path:
    """Write a manifest whose tags are the words of each photo's captions.

    The words of most of a photo's captions come first; words of equally many are in the order of the captions. A word
    is the lemma of a token in the form in which phrases are matched, verbs included; single letters are left out. A
    compound noun ("ice cream", "t shirt") is an additional tag beside its words; in a phrase it stands for them.

    Args:
        captions: a file .jsonl, .csv or .parquet of ``image`` and ``caption`` (or a list, ``captions``), with a
            photo's rows anywhere; a file .json in COCO's format; or the folder ``Sentences`` of Flickr30k Entities.
        photos: the folder of the photos; photos without a file are left out, and their number is logged.
        output: the manifest, .jsonl.
        names: a text file of the photos to use, such as a split, one a line, with or without extension.
        sizes: a table, .tsv or .csv, of ``id``, ``width``, ``height`` of the originals, where the files have another
            aspect ratio.
        phrases: also write the different noun phrases of each photo's captions, each as those of the photo's tags that
            it consists of: ``[["red", "t shirt"], ["man"]]``.
        compounds: a compound noun is a tag where at least so many photos have it; None: never.

    Returns:
        the manifest.

    Raises:
        ValueError: a file is missing or makes no sense, or no photo has a caption.
        OSError: the manifest cannot be written.
    """
    if compounds is not None:
        check_limits("captions", compounds=(compounds, 1, 1_000_000_000))
    target = manifest_path(output)
    folder = Path(photos).expanduser()
    captioned = _read_captions(Path(captions).expanduser())
    if names is not None:
        wanted = {Path(line).stem for line in _lines(Path(names).expanduser())}
        captioned = {name: texts for name, texts in captioned.items() if Path(name).stem in wanted}
    existing = _existing_names(folder, captioned)
    parsed = _parse_captions([captioned[name] for name in existing])
    originals = {} if sizes is None else _read_sizes(Path(sizes).expanduser())
    rows: list[dict[str, Any]] = []
    for name, photo, tags in zip(existing, parsed, _rank_words(parsed, compounds), strict=True):
        row: dict[str, Any] = {"image": name, "source": CAPTIONS, "tags": tags}
        if phrases:
            row["phrases"] = _known_phrases(photo, tags)
        if sizes is not None:
            if Path(name).stem not in originals:
                raise ValueError(f"{sizes}: has no size of {printable(name)}")
            row["width"], row["height"] = originals[Path(name).stem]
        rows.append(row)
    return write_manifest(target, folder, rows)


def _rank_words(photos: Sequence[Sequence[_Caption]], compounds: int | None) -> list[list[str]]:
    """The different words, frequent compounds included, of each photo's captions, those of most captions first."""
    ranked = []
    for captions in photos:
        in_captions = Counter(word for caption in captions for word in dict.fromkeys(caption.words))
        ranked.append([word for word, _ in in_captions.most_common()])  # equally frequent ones as they first occurred
    photos_with = Counter(word for words in ranked for word in words)
    return [
        [word for word in words if " " not in word or (compounds is not None and photos_with[word] >= compounds)]
        for words in ranked
    ]


def _known_phrases(captions: Sequence[_Caption], tags: Sequence[str]) -> list[tuple[str, ...]]:
    """The different phrases of a photo's captions, each as the tags that it consists of."""
    vocabulary = Vocabulary(dict.fromkeys(tags, (0,)), size=1)
    found = dict.fromkeys(vocabulary.match(words)[0] for caption in captions for words in caption.phrases)
    return [phrase for phrase in found if phrase]


def write_corel_manifest(corel: str, output: str, *, split: str = "all") -> Path:
    """Write a manifest of Corel-5k's photos and their keywords, in their order.

    Args:
        corel: the folder of ``images_train``, ``images_test`` and ``labels``.
        output: the manifest, .jsonl.
        split: all, train or test.

    Returns:
        the manifest.

    Raises:
        ValueError: there is no such split, or a file is missing or makes no sense.
        OSError: the manifest cannot be written.
    """
    if split not in SPLITS:
        raise ValueError(f"corel: split must be one of {', '.join(SPLITS)}, got {split!r}")
    target = manifest_path(output)
    folder = Path(corel).expanduser()
    words = _lines(folder / "labels" / "words")
    tags: dict[str, list[str]] = {}
    for part in SPLITS[split]:
        path = folder / "labels" / ("training_label" if part == "train" else "test_label")
        for line in _lines(path):
            photo, *numbers = line.split()
            try:
                if min(map(int, numbers), default=1) < 1:
                    raise IndexError
                tags[f"images_{part}/{photo}.jpeg"] = [words[int(number) - 1] for number in numbers]
            except (ValueError, IndexError):
                raise ValueError(f"{path}: expected numbers from 1 to {len(words)}, got {line!r}") from None
    rows = [{"image": name, "source": "corel", "tags": tags[name]} for name in _existing_names(folder, tags)]
    return write_manifest(target, folder, rows)


def manifest_path(output: str) -> Path:
    """The path of a manifest to write; raises ValueError unless it is a ``.jsonl``."""
    path = Path(output).expanduser()
    if path.suffix.lower() != ".jsonl":
        raise ValueError(f"output is a file .jsonl, got {output}")
    return path


def _existing_names(folder: Path, names: Iterable[str]) -> list[str]:
    """The names, sorted, of the photos that exist in the folder; the number of the others is logged."""
    listed = sorted(names)
    existing = [name for name in listed if os.path.isfile(folder / name)]
    if not existing:
        hint = f", such as {printable(listed[0])}" if listed else ""
        raise ValueError(f"{folder}: none of the {len(listed)} photos with words is there{hint}")
    if len(existing) < len(listed):
        log.info("%s: %d of %d photos are not there, left out", folder, len(listed) - len(existing), len(listed))
    return existing


def write_manifest(target: Path, folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write a row for each photo; its ``image`` is a path from the folder, or an absolute one.

    Paths are relative where the photos lie below the manifest, so that both can be moved together.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    home = target.parent.resolve()
    start = folder.relative_to(home) if folder.is_relative_to(home) else folder
    lines = [json.dumps({**row, "image": (start / row["image"]).as_posix()}) for row in rows]
    write_file(target, "".join(line + "\n" for line in lines).encode())
    log.info("%d photos, %d different tags", len(rows), len({tag for row in rows for tag in row["tags"]}))
    return target


def _parse_captions(captions: Sequence[Sequence[str]]) -> list[list[_Caption]]:
    """Each of each photo's captions, parsed."""
    from rich.progress import track

    from grounding.phrases import english, phrases_of

    texts = [text for photo_captions in captions for text in photo_captions]
    docs = english().pipe(texts, batch_size=256)
    parsed = (
        _Caption(_words(doc), [phrase.words for phrase in phrases_of(doc)])
        for doc in track(docs, "captions", total=len(texts))
    )
    return [[next(parsed) for _ in photo_captions] for photo_captions in captions]


def _words(doc: "Doc") -> list[str]:
    """The words of a caption in order; a compound comes before the first of its words."""
    from grounding.phrases import WORDLESS

    tokens = [
        token
        for token in doc
        if token.pos_ not in WORDLESS | AUXILIARY and any(character.isalnum() for character in token.text)
    ]
    words = []
    for start, token in enumerate(tokens):
        for length in (3, 2):
            part = tokens[start : start + length]
            if len(part) == length and _is_compound(part):
                words.append(" ".join(word.lemma_.lower() for word in part))
        if len(token.lemma_) > 1:  # not the t of a t-shirt
            words.append(token.lemma_.lower())
    return words


def _is_compound(tokens: Sequence["Token"]) -> bool:
    """Whether tokens are one whole compound noun: nouns side by side, or words joined by hyphens."""
    from grounding.phrases import NOUNS

    doc, first, last = tokens[0].doc, tokens[0].i, tokens[-1].i
    own = {token.i for token in tokens}
    return (
        tokens[-1].pos_ in NOUNS
        and all(token.i in own or token.text == "-" for token in doc[first:last])
        and all(
            token.nbor(1).text == "-" or (token.pos_ in NOUNS and token.dep_ == "compound" and token.head.i in own)
            for token in tokens[:-1]
        )
        # "ice cream cone" has no compound "cream cone", and "three-year-old" no "three year"
        and all(child.i in own for token in tokens[:-1] for child in token.children if child.dep_ == "compound")
        and not any(token.text == "-" for token in doc[max(first - 1, 0) : last + 2] if not first <= token.i <= last)
    )


def _read_captions(path: Path) -> dict[str, list[str]]:
    """The captions of each photo, by its name."""
    if path.is_dir():
        captioned = _read_sentences(path)
    elif path.suffix.lower() == ".json":
        captioned = _read_coco(path)
    else:
        captioned = _read_table(path)
    if not any(captioned.values()):
        raise ValueError(f"{path}: no caption in it")
    return captioned


def _read_sentences(folder: Path) -> dict[str, list[str]]:
    paths = sorted(folder.glob("*.txt"))
    return {f"{path.stem}.jpg": [MARKUP.sub(r"\1", line) for line in _lines(path)] for path in paths}


def _read_coco(path: Path) -> dict[str, list[str]]:
    try:
        content = json.loads(_text(path))
        names = {image["id"]: image["file_name"] for image in content["images"]}
        captioned: dict[str, list[str]] = {name: [] for name in names.values()}
        for annotation in content["annotations"]:
            captioned[names[annotation["image_id"]]].append(_check_caption(annotation["caption"], path))
    except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: these are not captions as COCO writes them: {error!r}") from None
    return captioned


def _read_table(path: Path) -> dict[str, list[str]]:
    captioned: dict[str, list[str]] = {}
    for number, row in rows(path):
        name, texts = row.get("image"), row.get("captions", row.get("caption"))
        if not isinstance(name, str) or not name or texts is None:
            found = ", ".join(map(str, row))
            raise ValueError(f"{path}, line {number}: expected image and caption (or captions, a list), found {found}")
        where = f"{path}, line {number}"
        captioned.setdefault(name, []).extend(
            _check_caption(text, where) for text in (texts if isinstance(texts, list) else [texts])
        )
    return captioned


def _check_caption(text: object, where: object) -> str:
    if not isinstance(text, str) or len(text) > 100_000 or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{where}: a caption is text of at most 100,000 characters, got {printable(repr(text)[:60])}")
    return text


def _read_sizes(path: Path) -> dict[str, tuple[int, int]]:
    """The (width, height) of originals, by the photos' names without extension."""
    text = _text(path)
    table = csv.DictReader(text.split("\n"), delimiter="\t" if "\t" in text.partition("\n")[0] else ",")
    try:
        sizes = {Path(row["id"]).stem: (int(row["width"]), int(row["height"])) for row in table}
    except (KeyError, TypeError, ValueError, csv.Error):
        sizes = {}
    if not sizes or min(map(min, sizes.values())) < 1:
        raise ValueError(f"{path}: expected a header id, width, height, and whole numbers from 1 below it")
    return sizes


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in _text(path).split("\n") if line.strip()]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
