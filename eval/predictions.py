"""Read and write scored boxes of any system in the two formats that published evaluators use.

*Text*, for the evaluator of Plummer et al. (ICCV 2015): a folder with one file for each phrase, named
``IMAGE_SENTENCE_PHRASE`` or ``IMAGE_SENTENCE_PHRASE.txt``. Its lines are ``confidence x1 y1 x2 y2``, with inclusive
corners counted from 1. The lists that belong to that evaluator are not public. We assume, as MATLAB suggests, that
sentences and phrases count from 1, and that phrases without boxes are counted, too.

*JSON*, for MDETR's evaluator (Kamath et al. 2021): a list of records, or one record on each line, of the form
``{"image_id": 1000092795, "sentence_id": 0, "boxes": [[[x1, y1, x2, y2], …], …]}``. Sentences count from 0, and
``boxes`` holds one list, best first, for each phrase of the sentence that has boxes, in order. Our files
add ``scores``, nested in the same way. Coordinates are used as they stand.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from eval.records import Instance, Prediction
from grounding.files import write_file
from grounding.records import Regions

FILE_NAME = re.compile(r"(?P<photo>.+)_(?P<sentence>\d+)_(?P<phrase>\d+)(?:\.txt)?")
LARGEST = 3e38  # just below the largest number of single precision

Row = tuple[float, float, float, float, float]  # score x1 y1 x2 y2


@dataclass(frozen=True, eq=False)
class ScoredBoxes:
    """Predictions that were read for a sequence of instances."""

    predictions: list[Prediction]  # one for each instance, in order; there is no map, and so no point
    missing: tuple[str, ...]  # phrases without a file (IMAGE_SENTENCE_PHRASE); they have no regions and count as missed
    unused: tuple[str, ...]  # names of files for phrases that are not evaluated, such as those without boxes


def read_predictions(path: str | Path, instances: Sequence[Instance], *, first: int = 1) -> ScoredBoxes:
    """Read the scored boxes of a folder of text files, or of a .json or .jsonl file, best first.

    Args:
        path: the folder or the file.
        instances: all phrases that have boxes, of all photos that are evaluated.
        first: the number of the first sentence and of the first phrase in the names of text files.

    Raises:
        ValueError: there is no such file or folder, a line has another form, a photo is not among those of the
            instances, or a sentence (JSON) or every phrase (text) is missing. The message names file and line.
    """
    found = Path(path).expanduser()
    if not instances:
        raise ValueError(f"{path}: no phrase to read predictions for")
    if found.is_dir():
        return _read_text(found, instances, first)
    if not found.exists():
        raise ValueError(f"{path}: no such file or folder")
    if found.suffix.lower() not in (".json", ".jsonl"):
        raise ValueError(f"{path}: expected a folder of text files, or a .json or .jsonl file")
    return ScoredBoxes(_read_json(found, instances), (), ())


def write_text(
    folder: str | Path, instances: Sequence[Instance], predictions: Sequence[Prediction], *, first: int = 1
) -> None:
    """Write a folder of text files, one for each phrase. Files that already have the same content are left alone.

    Numbers keep all their digits, so that reading returns the same boxes and scores.

    Raises:
        ValueError: the numbers of instances and predictions differ, or scores rise or are not finite.
        OSError: the disk is full or the folder cannot be written to.
    """
    _check_all(instances, predictions)
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    present = set(os.listdir(folder))
    for instance, prediction in zip(instances, predictions, strict=True):
        boxes = prediction.regions.boxes.tolist()
        lines = [
            f"{score!r} {x1 + 1!r} {y1 + 1!r} {x2!r} {y2!r}\n"
            for score, (x1, y1, x2, y2) in zip(prediction.regions.scores.tolist(), boxes, strict=True)
        ]
        path, content = folder / f"{_name(instance, first)}.txt", "".join(lines).encode()
        if path.name not in present or path.read_bytes() != content:
            write_file(path, content)


def write_json(path: str | Path, instances: Sequence[Instance], predictions: Sequence[Prediction]) -> None:
    """Write MDETR's records with scores, one on each line: as a JSON list, or without brackets to a .jsonl file.

    Raises:
        ValueError: the numbers of instances and predictions differ, scores rise or are not finite, or the name ends
            in neither .json nor .jsonl.
        OSError: the disk is full or the folder cannot be written to.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in (".json", ".jsonl"):
        raise ValueError(f"{path}: expected a name that ends in .json or .jsonl")
    _check_all(instances, predictions)
    records = []
    for (photo, sentence), indices in _by_sentence(instances).items():
        regions = [predictions[index].regions for index in indices]
        record = {
            "image_id": int(photo) if str(photo).isdecimal() and str(int(photo)) == photo else photo,
            "sentence_id": sentence,
            "boxes": [each.boxes.tolist() for each in regions],
            "scores": [each.scores.tolist() for each in regions],
        }
        records.append(json.dumps(record))
    text = "\n".join(records) if path.suffix.lower() == ".jsonl" else "[" + ",\n".join(records) + "]"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, (text + "\n").encode())


def _read_text(folder: Path, instances: Sequence[Instance], first: int) -> ScoredBoxes:
    photos = {instance.photo for instance in instances}
    wanted = {(instance.photo, instance.sentence, instance.phrase): instance for instance in instances}
    files: dict[tuple[str, int, int], Path] = {}
    unused = []
    for name in sorted(os.listdir(folder)):
        if name.startswith(".") or name.endswith(".part"):  # hidden, or left by a killed run
            continue
        path = folder / name
        match = FILE_NAME.fullmatch(name)
        if match is None:
            raise ValueError(
                f"{path}: expected files named IMAGE_SENTENCE_PHRASE, such as {_name(instances[0], first)}"
            )
        if match["photo"] not in photos:
            raise ValueError(f"{path}: photo {match['photo']} is not among the {len(photos)} that are evaluated")
        key = match["photo"], int(match["sentence"]) - first, int(match["phrase"]) - first
        if min(key[1:]) < 0:
            raise ValueError(
                f"{path}: sentences and phrases count from {first}; if these files count from 0, set first to 0"
            )
        if key in files:
            raise ValueError(f"{path}: the same phrase as {files[key].name}; keep only one of them")
        files[key] = path
        if key not in wanted:
            unused.append(name)
    missing = [_name(instance, first) for key, instance in wanted.items() if key not in files]
    if len(missing) == len(wanted):
        raise ValueError(f"{folder}: no file for any of the {len(wanted)} phrases, the first of which is {missing[0]}")
    nothing = _regions([])
    predictions = [Prediction(_read_boxes(files[key]) if key in files else nothing) for key in wanted]
    return ScoredBoxes(predictions, tuple(missing), tuple(unused))


def _read_boxes(path: Path) -> Regions:
    """Read the boxes of a text file, sorted by confidence; boxes of equal confidence keep their order."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not text; expected lines confidence x1 y1 x2 y2") from None
    rows = []
    for number, line in enumerate(lines, 1):
        numbers = line.split()
        if not numbers:
            continue
        where = f"{path}, line {number}"
        try:
            score, x1, y1, x2, y2 = map(float, numbers)
        except ValueError:
            raise ValueError(f"{where}: expected confidence x1 y1 x2 y2, got {line.strip()[:80]!r}") from None
        rows.append(_checked((score, x1 - 1, y1 - 1, x2, y2), where))
    return _regions(sorted(rows, key=lambda row: -row[0]))


def _read_json(path: Path, instances: Sequence[Instance]) -> list[Prediction]:
    sentences = _by_sentence(instances)
    photos = {instance.photo for instance in instances}
    predictions: dict[int, Prediction] = {}
    seen: dict[tuple[str, int], str] = {}
    for where, record in _records(path):
        photo, sentence, boxes, scores = _fields(record, where)
        if photo not in photos:
            raise ValueError(f"{where}: photo {photo} is not among the {len(photos)} that are evaluated")
        if (photo, sentence) in seen:
            raise ValueError(
                f"{where}: sentence {sentence} of photo {photo} appears twice, first in {seen[photo, sentence]}; "
                "keep only one"
            )
        seen[photo, sentence] = where
        indices = sentences.get((photo, sentence), [])
        if len(boxes) != len(indices):
            raise ValueError(
                f"{where}: boxes for {len(boxes)} phrases; sentence {sentence} of photo {photo} (counted from 0) "
                f"has {len(indices)} phrases with boxes"
            )
        for index, phrase_boxes, phrase_scores in zip(indices, boxes, scores or [None] * len(boxes), strict=True):
            predictions[index] = Prediction(_phrase_regions(phrase_boxes, phrase_scores, where))
    if missing := [key for key in sentences if key not in seen]:
        raise ValueError(
            f"{path}: {len(missing)} of {len(sentences)} sentences are missing, "
            f"the first is image_id {missing[0][0]}, sentence_id {missing[0][1]}"
        )
    return [predictions[index] for index in range(len(instances))]


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the records of a file, each with a description of its position for error messages."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if text.lstrip().startswith("["):
            yield from ((f"{path}, record {number}", record) for number, record in enumerate(json.loads(text), 1))
            return
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{where}: not JSON: {error}") from None
            yield where, record


def _fields(record: Any, where: str) -> tuple[str, int, list[Any], list[Any] | None]:
    """Return the photo, sentence, boxes and scores of a record."""
    if not isinstance(record, dict):
        raise ValueError(f"{where}: expected an object with image_id, sentence_id and boxes")
    photo, sentence, boxes = (record.get(name) for name in ("image_id", "sentence_id", "boxes"))
    scores = record.get("scores")
    if isinstance(photo, bool) or not isinstance(photo, int | str):
        raise ValueError(f"{where}: expected image_id to be a number or a text, got {photo!r}")
    if isinstance(sentence, bool) or not isinstance(sentence, int):
        raise ValueError(f"{where}: expected sentence_id to be a whole number from 0, got {sentence!r}")
    if not isinstance(boxes, list):
        raise ValueError(f"{where}: expected boxes to hold a list for each phrase, got {type(boxes).__name__}")
    if scores is not None and not (isinstance(scores, list) and len(scores) == len(boxes)):
        raise ValueError(f"{where}: expected scores nested like boxes, for {len(boxes)} phrases")
    return str(photo), sentence, boxes, scores


def _phrase_regions(boxes: Any, scores: Any, where: str) -> Regions:
    """Return the regions of a phrase; without scores, the i-th box gets 1 / i."""
    if not isinstance(boxes, list):
        raise ValueError(f"{where}: expected a list of boxes for each phrase, got {str(boxes)[:80]}")
    if scores is None:
        scores = [1 / rank for rank in range(1, len(boxes) + 1)]
    if not isinstance(scores, list) or len(scores) != len(boxes):
        raise ValueError(f"{where}: expected scores nested like boxes, {len(boxes)} for this phrase")
    rows = [_box_row(box, score, where) for box, score in zip(boxes, scores, strict=True)]
    if any(one[0] < other[0] for one, other in pairwise(rows)):
        raise ValueError(f"{where}: scores rise within a phrase; its boxes must be best first")
    return _regions(rows)


def _box_row(box: Any, score: Any, where: str) -> Row:
    numbers = [score, *box] if isinstance(box, list) else []
    if len(numbers) != 5 or any(isinstance(value, bool) or not isinstance(value, int | float) for value in numbers):
        raise ValueError(f"{where}: expected a box [x1, y1, x2, y2] and a score, got {str(box)[:80]} and {score!r}")
    score, x1, y1, x2, y2 = numbers
    return _checked((score, x1, y1, x2, y2), where)


def _checked(row: Row, where: str) -> Row:
    if not all(abs(value) < LARGEST for value in row):  # false for NaN, too
        raise ValueError(f"{where}: expected finite numbers")
    _, x1, y1, x2, y2 = row
    if x2 < x1 or y2 < y1:
        raise ValueError(
            f"{where}: expected corners x1 y1 x2 y2, but the second corner lies left of or above the first"
        )
    return row


def _regions(rows: Sequence[Row]) -> Regions:
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 5)
    return Regions(table[:, 1:].float(), table[:, 0])


def _by_sentence(instances: Sequence[Instance]) -> dict[tuple[str, int], list[int]]:
    """Return the indices of the instances of each sentence, in the order of its phrases."""
    found: dict[tuple[str, int], list[int]] = {}
    for index, instance in enumerate(instances):
        found.setdefault((instance.photo, instance.sentence), []).append(index)
    return {key: sorted(indices, key=lambda index: instances[index].phrase) for key, indices in found.items()}


def _name(instance: Instance, first: int) -> str:
    return f"{instance.photo}_{instance.sentence + first}_{instance.phrase + first}"


def _check_all(instances: Sequence[Instance], predictions: Sequence[Prediction]) -> None:
    if len(instances) != len(predictions):
        raise ValueError(f"{len(predictions)} predictions for {len(instances)} phrases; expected one for each")
    for instance, prediction in zip(instances, predictions, strict=True):
        scores = prediction.regions.scores
        if not (scores.isfinite().all() and prediction.regions.boxes.isfinite().all()):
            raise ValueError(f"{_name(instance, 0)}: a box or score is not finite")
        if bool((scores.diff() > 0).any()):
            raise ValueError(f"{_name(instance, 0)}: scores rise; regions must be best first")
