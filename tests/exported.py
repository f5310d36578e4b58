"""Groundings to export: outlines on a smaller copy of the photo, boxes, a guess, a phrase without regions, names."""

import torch

from grounding.records import GroundedPhrase, Grounding, Regions, Segments

SIZE = (60, 80)  # (height, width)
NAMES = ['a "dog" & <cat>.jpg', "café/猫\\1.png"]
CAPTIONS = ("A red dog chases the cat", 'Ein "Hund" – 犬, the dog')


def outlines():
    """Three segments of superpixels of 5×5 pixels, of a copy half as large, each one with a hole or a corner."""
    rows, columns = torch.arange(30) // 5, torch.arange(40) // 5
    superpixels = (rows[:, None] * 8 + columns).int()
    members = [[0, 1, 8, 16, 17], [18, 19, 20, 26, 28, 34, 35, 36], [47]]
    offsets = torch.tensor([0, 5, 13, 14])
    boxes = torch.tensor([[0.0, 0, 20, 30], [20, 20, 50, 50], [70, 50, 80, 60]])
    scores = torch.tensor([0.75, 0.5, 0.1], dtype=torch.float64)
    return Segments(boxes, scores, superpixels, (offsets, torch.tensor([i for part in members for i in part])))


def boxes():
    """Two boxes, one at fractions of pixels, with scores above 1."""
    corners = torch.tensor([[1.25, 2.5, 40.126, 59.75], [0.0, 0.0, 80.0, 60.0]])
    return Regions(corners, torch.tensor([3.5, 1.25], dtype=torch.float64))


def phrase(text, caption, regions, *, is_known=True):
    start = CAPTIONS[caption].index(text)
    attention = torch.rand(4, 5, generator=torch.Generator().manual_seed(start)) if is_known else None
    known, skipped = ((text,), ()) if is_known else ((), (text,))
    return GroundedPhrase(text, (start, start + len(text)), caption, known, skipped, regions, attention)


def grounding(regions):
    """A photo of two captions. Of its phrases, one is a guess, and two name the same dog."""
    phrases = (
        phrase("A red dog", 0, regions),
        phrase("the cat", 0, regions[1:]),
        phrase("犬", 1, regions[:1], is_known=False),
        phrase("the dog", 1, regions[:0]),
    )
    return Grounding(CAPTIONS, SIZE, phrases)


def groundings():
    """One photo with outlines, and one with boxes."""
    return [grounding(outlines()), grounding(boxes())]


def rows(*, captions=True):
    """The same photos as rows of a batch, and one that failed."""
    named = zip(NAMES, groundings(), strict=True)
    answers = [
        {"id": number, "image": name, **one.to_dict(), "error": None} for number, (name, one) in enumerate(named, 7)
    ]
    failed = {"id": 9, "image": "broken.jpg", "size": None, "captions": None, "phrases": None, "error": "not an image"}
    found = [*answers, failed]
    return found if captions else [{key: row[key] for key in row if key != "captions"} for row in found]
