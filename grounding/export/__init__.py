"""Exports to the formats of other tools, from groundings and from the rows of a batch."""

from grounding.export.captioned import to_grit, to_mdetr, to_odvg
from grounding.export.coco import to_coco
from grounding.export.label_studio import label_studio_config, to_label_studio
from grounding.export.objects import to_fiftyone, to_supervision

__all__ = [
    "label_studio_config",
    "to_coco",
    "to_fiftyone",
    "to_grit",
    "to_label_studio",
    "to_mdetr",
    "to_odvg",
    "to_supervision",
]
