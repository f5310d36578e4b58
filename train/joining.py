"""Join manifests of tagged photos from several sources: ``python -m train task=join``."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grounding.files import write_file
from train.data import TaggedPhoto, read_tag_manifest
from train.vocabulary import lemmatise_tags, normalise

log = logging.getLogger(__name__)

LEMMAS = "captions"  # the source whose tags are lemmas already: see `train.manifests.write_caption_manifest`


def join_manifests(manifests: Sequence[str], output: str) -> Path:
    """Write one manifest of several, with all tags in the form in which phrases are matched.

    Each source names things in its own way: "shoes" in a list of clothing is "shoe" in a caption. Tags become lemmas,
    except those of the source ``captions``, which are lemmas already, so that sources share their words. The names of
    sources stay, so that a word that a source never gives is not held against its photos.

    Args:
        manifests: files that `train.data.read_tag_manifest` reads; a photo without a file is left out.
        output: the manifest, .jsonl; paths of photos in it are absolute.

    Returns:
        the manifest.

    Raises:
        ValueError: there is no manifest, one of them makes no sense, or the output is no ``.jsonl``.
        OSError: the output cannot be written.
    """
    target = Path(output).expanduser()
    if target.suffix.lower() != ".jsonl":
        raise ValueError(f"output is a file .jsonl, got {output}")
    if isinstance(manifests, str) or not manifests:
        raise ValueError("manifests is a list of files, such as task.manifests=[a.jsonl,b.jsonl]")
    found = [
        (data.folder, photo)
        for data in (read_tag_manifest(path, first=None) for path in manifests)
        for photo in data.photos
    ]
    written = {tag for _, photo in found if photo.source != LEMMAS for tag in photo.tags}
    lemmas = lemmatise_tags(sorted({normalise(tag) for tag in written}))
    lines = []
    for folder, photo in found:
        row = _row(photo, lemmas)
        row["image"] = (folder / photo.name).resolve().as_posix()
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_file(target, "".join(lines).encode())
    log.info("%s: %d photos of %d manifests", target, len(lines), len(manifests))
    return target


def _row(photo: TaggedPhoto, lemmas: dict[str, str]) -> dict[str, Any]:
    """A photo's row, without its path."""
    tags = photo.tags if photo.source == LEMMAS else [lemmas[normalise(tag)] for tag in photo.tags]
    row: dict[str, Any] = {"image": "", "source": photo.source, "tags": [tag for tag in dict.fromkeys(tags) if tag]}
    if photo.size is not None:
        row["height"], row["width"] = photo.size
    return row
