"""Two small annotated photos, and a small classifier of a few words, with which an evaluation takes moments."""

import torch
from PIL import Image

from grounding.maps import WordAttention
from grounding.models import Classifier
from grounding.pipeline import Grounder
from grounding.records import Regions, Segments
from grounding.scoring import AreaExponents, Scoring
from grounding.vocabulary import Vocabulary

CAPTIONS = {
    "1": "[/EN#1/people A man] in [/EN#3/clothing an orange suit] has [/EN#2/bodyparts short hair] .\n"
    "[/EN#1/people The man] is here .\n",
    "2": "[/EN#5/animals A tabby cat] looks at [/EN#0/notvisual it] , [/EN#6/other the xyzzy] .\n",
}
BOXES = {
    "1": {"1": (10, 10, 90, 90), "2": (30, 5, 80, 40), "3": (5, 40, 95, 95)},
    "2": {"5": (20, 20, 90, 60), "6": (1, 1, 12, 12)},
}
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
WORDS = ("man", "orange", "suit", "short", "hair", "tabby", "cat", "dog")


def write_photos(folder, examples):
    """Write photos, 100 pixels wide, to ``folder/photos`` and their annotations to ``folder/entities``."""
    (folder / "photos").mkdir()
    for part in ("Annotations", "Sentences"):
        (folder / "entities" / part).mkdir(parents=True)
    for name, example in (("1", "astronaut"), ("2", "chelsea")):
        image = Image.fromarray(examples[example])
        image = image.resize((100, 100 * image.height // image.width))
        image.save(folder / "photos" / f"{name}.jpg")
        objects = "".join(OBJECT.format(chain, *box) for chain, box in BOXES[name].items())
        size = f"<size><width>{image.width}</width><height>{image.height}</height></size>"
        annotation = f"<annotation>{size}{objects}</annotation>"
        (folder / "entities" / "Annotations" / f"{name}.xml").write_text(annotation)
        (folder / "entities" / "Sentences" / f"{name}.txt").write_text(CAPTIONS[name])
    (folder / "entities" / "test.txt").write_text("3\n")  # no photo of these


def small_classifier():
    """A classifier of `WORDS` with random weights, which sees photos of 32 pixels."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 12, 3, padding=1),
        torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(12, len(WORDS)),
    ).eval()  # fmt: skip
    vocabulary = Vocabulary({word: (index,) for index, word in enumerate(WORDS)}, len(WORDS))
    return Classifier(network, vocabulary, "1", None, (0.5,) * 3, (0.5,) * 3, short_side=32)


def propose_boxes(image):
    """Five boxes of a photo."""
    height, width = image.shape[-2:]
    boxes = torch.tensor([[0, 0, 1, 1], [0, 0, 0.5, 0.5], [0.5, 0, 1, 1], [0.1, 0.1, 0.9, 0.9], [0.2, 0.3, 0.6, 0.8]])
    return Regions(boxes * torch.tensor([width, height, width, height]), torch.linspace(1, 0.2, 5))


def propose_segments(image):
    """Five segments of a photo, each of some of nine superpixels."""
    height, width = image.shape[-2:]
    superpixels = torch.arange(height)[:, None] * 3 // height * 3 + torch.arange(width) * 3 // width
    indices = ([*range(9)], [0, 1, 3, 4], [1, 2, 4, 5], [4], [6, 7, 8])
    boxes = torch.tensor([[0, 0, 3, 3], [0, 0, 2, 2], [1, 0, 3, 2], [1, 1, 2, 2], [0, 2, 3, 3]]) / 3
    offsets = torch.tensor([0, *(len(members) for members in indices)]).cumsum(0)
    members = torch.tensor([index for members in indices for index in members])
    scale = torch.tensor([width, height, width, height])
    return Segments(boxes * scale, torch.linspace(1, 0.2, 5), superpixels, (offsets, members))


def small_grounder(method, *, propose=propose_boxes, gamma=0.25, clothing_weight=0.0, by_kind=None):
    """A grounder with the small classifier."""
    scoring = Scoring(AreaExponents(gamma, gamma, by_kind or {}), count=1000, clothing_weight=clothing_weight)
    return Grounder(WordAttention(small_classifier(), method, device="cpu"), propose, scoring)
