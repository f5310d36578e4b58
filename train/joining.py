"""Join manifests of tagged photos from several sources: ``python -m train task=join``."""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from train.data import TaggedPhoto, read_tag_manifest
from train.manifests import CAPTIONS, manifest_path, write_manifest
from train.vocabulary import lemmatise_tags, normalise


def join_manifests(manifests: Sequence[str], output: str) -> Path:
    """Write one manifest of several, with all tags in the form in which phrases are matched.

    Each source names things in its own way: "shoes" in a list of clothing is "shoe" in a caption. Tags and the words of
    phrases become lemmas, except those of the source ``captions``, which are lemmas already, so that sources share
    their words. The names of sources stay, so that a word that a source never gives is not held against its photos.

    Args:
        manifests: files that `train.data.read_tag_manifest` reads; a photo without a file is left out.
        output: the manifest, .jsonl; paths of photos in it are absolute.

    Returns:
        the manifest.

    Raises:
        ValueError: there is no manifest, one of them makes no sense, or the output is no ``.jsonl``.
        OSError: the output cannot be written.
    """
    target = manifest_path(output)
    if isinstance(manifests, str) or not manifests:
        raise ValueError("manifests is a list of files, such as task.manifests=[a.jsonl,b.jsonl]")
    found = [
        (data.folder, photo)
        for data in (read_tag_manifest(path, first=None) for path in manifests)
        for photo in data.photos
    ]
    written = {word for _, photo in found if photo.source != CAPTIONS for word in chain(photo.tags, *photo.phrases)}
    lemmas = lemmatise_tags(sorted({normalise(tag) for tag in written}))
    return write_manifest(target, target.parent, [_row(folder, photo, lemmas) for folder, photo in found])


def _row(folder: Path, photo: TaggedPhoto, lemmas: dict[str, str]) -> dict[str, Any]:
    """A photo's row, with an absolute path."""

    def joined(words: Iterable[str]) -> list[str]:
        words = words if photo.source == CAPTIONS else [lemmas[normalise(word)] for word in words]
        return [word for word in dict.fromkeys(words) if word]

    row: dict[str, Any] = {
        "image": (folder / photo.name).resolve(),
        "source": photo.source,
        "tags": joined(photo.tags),
    }
    if photo.phrases:
        row["phrases"] = [joined(phrase) for phrase in photo.phrases]
    if photo.size is not None:
        row["height"], row["width"] = photo.size
    return row
