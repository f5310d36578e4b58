"""Compare treatments of signed values by any-box pointing on photos of Flickr30k Entities.

    python benchmarks/treatments.py PHOTOS ENTITIES [COUNT]

About a second for each photo; COUNT is the number of photos to stop after.

PHOTOS holds ID.jpg, of any size; ENTITIES holds Annotations and Sentences. A phrase with a known word is a hit where
the maximum of its attention lies in one of its boxes; the boxes are used for measuring alone. The model is the default
one.
"""

import sys

from eval.flickr30k import find_photos, load_photo
from eval.predicting import attend_phrases
from eval.words import is_hit
from grounding import Grounder
from grounding.peaks import peak

SETTINGS = (("cmwp", "clamp"), ("cmwp", "compose"), ("mwp", "clamp"))


def main() -> None:
    """Measure and print one line for each setting."""
    photos = find_photos(sys.argv[1], sys.argv[2])
    photos = photos[: int(sys.argv[3])] if len(sys.argv) > 3 else photos
    methods = {
        (name, signed): Grounder.load(None, f"attention={name}", f"attention.signed={signed}").attention
        for name, signed in SETTINGS
    }
    hits: dict[tuple[str, str], list[bool]] = {setting: [] for setting in methods}
    total = 0
    for photo in photos:
        pairs = photo.phrases_with_boxes()
        total += len(pairs)
        if not pairs:
            continue
        image = load_photo(photo)
        for setting, attention in methods.items():
            maps = attend_phrases(attention, image, [phrase.text for phrase, _ in pairs])
            hits[setting] += [
                is_hit(peak(found, photo.size), boxes)
                for found, (_, boxes) in zip(maps, pairs, strict=True)
                if found is not None
            ]
    known = len(next(iter(hits.values())))
    print(f"{len(photos)} photos, {total} phrases, {known} with a known word")
    for (name, signed), found in hits.items():
        print(f"{name:5} signed={signed:8} any-box pointing {100 * sum(found) / len(found):.1f} %")


if __name__ == "__main__":
    main()
