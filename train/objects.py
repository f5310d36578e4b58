"""Tagged photos from data sets of objects: the tags of a photo are the categories of all objects in it.

The tag of a category is the word by which the pointing game asks for it: the words of its phrase in
``vocabularies/categories.json``, in the form in which that phrase is matched ("pot plant" for "potted plant"). So a
network that is trained on these tags has a unit for each category, and is asked for just that.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from grounding import coco, voc
from grounding.categories import category_phrase, category_phrases
from grounding.phrases import whole_phrase
from train.data import TaggedPhoto, TaggedPhotos, existing_photos


def read_voc_tags(path: str, split: str) -> TaggedPhotos:
    """Tag photos of PASCAL VOC with the categories of their objects, difficult ones among them.

    Args:
        path: the folder of a year, such as ``VOCdevkit/VOC2007``.
        split: a list in ``ImageSets/Main``, such as ``trainval``.

    Raises:
        ValueError: as in `grounding.voc.read_photos`, a category has no word, or none of the photos exists.
    """
    folder = Path(path).expanduser()
    photos = voc.read_photos(folder, split)
    source = folder / "ImageSets" / "Main" / f"{split}.txt"
    return _tag_photos(source, folder / "JPEGImages", photos, category_phrases("voc"))


def read_coco_tags(path: str, annotations: str) -> TaggedPhotos:
    """Tag photos of COCO with the categories of their objects and crowds; a photo without any has no tag.

    Args:
        path: the folder of the photos.
        annotations: a file such as ``instances_train2014.json``.

    Raises:
        ValueError: as in `grounding.coco.read_photos`, a category has no word, or none of the photos exists.
    """
    folder, file = Path(path).expanduser(), Path(annotations).expanduser()
    photos, _ = coco.read_photos(file, folder)
    return _tag_photos(file, folder, photos, category_phrases("coco"))


def _tag_photos(
    source: Path, folder: Path, photos: Iterable[voc.VocPhoto | coco.CocoPhoto], phrases: dict[str, str]
) -> TaggedPhotos:
    """Photos of a folder with a tag for each of their categories; ``source`` is the file that lists them."""
    tagged = []
    for photo in photos:
        words: dict[str, None] = {}
        for category in dict.fromkeys(one.category for one in photo.objects):
            word = phrase_word(category_phrase(category, phrases, str(photo.path)))
            if not word:
                raise ValueError(f"{photo.path}: the category {category!r} has no word to ask for it by")
            words[word] = None
        tagged.append(TaggedPhoto(photo.path.relative_to(folder).as_posix(), tuple(words)))
    return existing_photos(source, folder, tagged)


@cache
def phrase_word(phrase: str) -> str:
    """The word, or the compound of words, as which a vocabulary knows a whole phrase; empty where it has no such word.

    >>> phrase_word("potted plant")
    'pot plant'
    """
    return " ".join(word.lemma for word in whole_phrase(phrase).words)
