"""Small folders of photos with objects, as VOC and COCO release them."""

import json

import numpy as np
from PIL import Image

SIZE = (30, 40)  # (height, width) of all photos
COLOURS = ((200, 40, 30), (40, 180, 50), (30, 60, 210))  # of every third photo
OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><bndbox>"
    "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def write_photo(path, colour=(128, 128, 128)):
    """Write a photo of noise around a colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(-25, 25, (*SIZE, 3))
    Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8)).save(path)


def write_xml(path, *objects, photo=None):
    """Write an annotation; an object is (category, difficult, x1, y1, x2, y2)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = "".join(OBJECT.format(*one) for one in objects)
    name = f"{path.stem}.jpg" if photo is None else photo
    size = f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></size>"
    path.write_text(f"<annotation><filename>{name}</filename>{size}{parts}</annotation>")


def write_voc(folder, objects, split="trainval"):
    """Write a year of VOC with photos ``1.jpg``, … and a list of them; ``objects`` has those of each photo."""
    for number, found in enumerate(objects, 1):
        write_xml(folder / "Annotations" / f"{number}.xml", *found)
        write_photo(folder / "JPEGImages" / f"{number}.jpg", COLOURS[number % 3])
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{split}.txt").write_text("".join(f"{number}\n" for number in range(1, len(objects) + 1)))


def write_coco(folder, categories):
    """Write photos ``1.png``, … of COCO, and ``instances.json``; ``categories`` has those of each photo."""
    names = sorted({name for found in categories for name in found})
    square = {"bbox": [2, 2, 20, 20], "segmentation": [[2, 2, 22, 2, 22, 22, 2, 22]]}
    images, objects = [], []
    for number, found in enumerate(categories, 1):
        write_photo(folder / f"{number}.png", COLOURS[number % 3])
        images.append({"id": number, "file_name": f"{number}.png", "height": SIZE[0], "width": SIZE[1]})
        objects += [{"image_id": number, "category_id": names.index(name), **square} for name in found]
    numbered = [{"id": index, "name": name} for index, name in enumerate(names)]
    content = {"images": images, "annotations": objects, "categories": numbered}
    (folder / "instances.json").write_text(json.dumps(content))
