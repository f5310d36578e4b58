"""Which treatment of signed values points better: any-box pointing on photos of Flickr30k Entities.

    python benchmarks/treatments.py PHOTOS ENTITIES [COUNT]

Takes about a second a photo; COUNT stops after so many.

PHOTOS holds ID.jpg and sizes.tsv (id, original width, height); ENTITIES the Annotations and Sentences. A phrase with a
known word counts as hit where the maximum of its attention lies in one of its boxes; the boxes serve for measuring
alone. The settings are the command's, but for ``signed`` and ``contrastive``.
"""

import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import torch
from torch.nn.functional import interpolate

from grounding import Grounder
from grounding.images import load_image
from grounding.records import Regions
from grounding.scoring import enlarge

SETTINGS = (("cmwp", "clamp"), ("cmwp", "compose"), ("mwp", "clamp"))
EMPTY = Regions(torch.zeros(0, 4), torch.zeros(0))
PHRASE = re.compile(r"\[/EN#(\d+)/\S+ ([^\]]+)\]")


def read_boxes(path: Path) -> dict[str, list[list[float]]]:
    """The boxes of each chain, xyxy, 0-based, x2 and y2 exclusive."""
    boxes: dict[str, list[list[float]]] = {}
    for item in ET.parse(path).getroot().iter("object"):
        box = item.find("bndbox")
        if box is not None:
            x1, y1, x2, y2 = (float(box.findtext(edge, "")) for edge in ("xmin", "ymin", "xmax", "ymax"))
            for name in item.findall("name"):
                boxes.setdefault(name.text or "", []).append([x1 - 1, y1 - 1, x2, y2])
    return boxes


def main() -> None:
    """Measure and print one line for each setting."""
    photos, entities = Path(sys.argv[1]), Path(sys.argv[2])
    rows = [line.split() for line in (photos / "sizes.tsv").read_text().splitlines()]
    sizes = {row[0].removesuffix(".jpg"): (int(row[2]), int(row[1])) for row in rows if row[1].isdigit()}
    grounders = [Grounder.load(None, f"attention={a}", f"attention.signed={s}") for a, s in SETTINGS]
    for grounder in grounders:
        grounder.propose = lambda image: EMPTY  # pointing needs no regions
    hits, count, total = [0] * len(SETTINGS), 0, 0
    last = int(sys.argv[3]) if len(sys.argv) > 3 else len(sizes)
    sizes = dict(list(sizes.items())[:last])
    for name, size in sizes.items():
        image = interpolate(load_image(photos / f"{name}.jpg")[None], size, mode="bicubic")[0].clamp(0, 1)
        boxes = read_boxes(entities / "Annotations" / f"{name}.xml")
        found = PHRASE.findall((entities / "Sentences" / f"{name}.txt").read_text(encoding="utf-8"))
        pairs = [(text, torch.tensor(boxes[chain])) for chain, text in found if chain in boxes]
        total += len(pairs)
        if not pairs:
            continue
        for index, grounder in enumerate(grounders):
            (grounding,) = grounder([image], phrases=[[text for text, _ in pairs]])
            for phrase, (_, truth) in zip(grounding.phrases, pairs, strict=True):
                if phrase.attention is None:
                    continue
                count += index == 0
                y, x = divmod(int(enlarge(phrase.attention, size).argmax()), size[1])
                is_in = (truth[:, 0] <= x) & (x < truth[:, 2]) & (truth[:, 1] <= y) & (y < truth[:, 3])
                hits[index] += bool(is_in.any())
    print(f"{len(sizes)} photos, {total} phrases, {count} with a known word")
    for (attention, signed), hit in zip(SETTINGS, hits, strict=True):
        print(f"{attention:5} signed={signed:8} any-box pointing {100 * hit / count:.1f} %")


if __name__ == "__main__":
    main()
