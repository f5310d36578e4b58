"""Which treatment of signed values points better: any-box pointing on photos of Flickr30k Entities.

    python benchmarks/treatments.py PHOTOS ENTITIES [COUNT]

Takes about a second a photo; COUNT stops after so many.

PHOTOS holds ID.jpg, of any size; ENTITIES the Annotations and Sentences. A phrase with a known word counts as hit where
the maximum of its attention lies in one of its boxes; the boxes serve for measuring alone. The settings are the
command's, but for ``signed`` and ``contrastive``.
"""

import sys

import torch

from eval.flickr30k import find_photos, load_photo
from eval.words import is_hit, peak
from grounding import Grounder
from grounding.records import Regions

SETTINGS = (("cmwp", "clamp"), ("cmwp", "compose"), ("mwp", "clamp"))
EMPTY = Regions(torch.zeros(0, 4), torch.zeros(0))


def main() -> None:
    """Measure and print one line for each setting."""
    photos = find_photos(sys.argv[1], sys.argv[2])
    photos = photos[: int(sys.argv[3])] if len(sys.argv) > 3 else photos
    grounders = [Grounder.load(None, f"attention={a}", f"attention.signed={s}") for a, s in SETTINGS]
    for grounder in grounders:
        grounder.propose = lambda image: EMPTY  # pointing needs no regions
    hits, count, total = [0] * len(SETTINGS), 0, 0
    for photo in photos:
        pairs = photo.phrases_with_boxes()
        total += len(pairs)
        if not pairs:
            continue
        image = load_photo(photo)
        for index, grounder in enumerate(grounders):
            (grounding,) = grounder([image], phrases=[[phrase.text for phrase, _ in pairs]])
            for phrase, (_, boxes) in zip(grounding.phrases, pairs, strict=True):
                if phrase.attention is None:
                    continue
                count += index == 0
                hits[index] += is_hit(peak(phrase.attention, photo.size), boxes)
    print(f"{len(photos)} photos, {total} phrases, {count} with a known word")
    for (attention, signed), hit in zip(SETTINGS, hits, strict=True):
        print(f"{attention:5} signed={signed:8} any-box pointing {100 * hit / count:.1f} %")


if __name__ == "__main__":
    main()
