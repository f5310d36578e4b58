"""The picture, the maps and the values of a grounding: saved in a folder, or shown in a notebook."""

import json
import tempfile
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grounding.draw import draw_grounding
from grounding.files import json_bytes, png_bytes, write_file
from grounding.images import ImageSource, load_image
from grounding.messages import one_line, printable
from grounding.records import Grounding

if TYPE_CHECKING:
    from PIL.Image import Image

PACKAGES = ("phrase-grounding", "torch", "torchvision", "numpy", "pillow")  # whose versions a manifest tells


def save_grounding(grounding: Grounding, folder: str | Path, image: "ImageSource | None" = None) -> Path:
    """Save the picture, the maps and the values of a grounding, all of them or none.

    The new folder has ``picture.png``; ``grounding.json``, the values of `Grounding.to_dict`; ``maps.safetensors``, the
    attention maps, (h, w) float32, as ``phrase_0``, ``phrase_1`` … by the index of the phrase (those without attention
    are left out); and ``manifest.json``: the name of the photo, the settings and the versions of packages that made the
    grounding, and the SHA-256 digest of each file.

    Args:
        grounding: what to save.
        folder: a folder that does not exist, or is empty.
        image: the photo; None for the one that the grounding was made from.

    Returns:
        The folder.

    Raises:
        ValueError: the folder has files in it, the photo is not known, cannot be read or is another one.
        OSError: the folder cannot be written.
    """
    target = Path(folder).expanduser()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ValueError(f"{printable(target)} exists: name a new folder")
    files = {
        "picture.png": png_bytes(draw(grounding, image)),
        "maps.safetensors": _maps_bytes(grounding),
        "grounding.json": json_bytes(grounding.to_dict()),
    }
    files["manifest.json"] = json_bytes(_manifest(grounding, image, files))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-", suffix=".part") as temporary:
            unfinished = Path(temporary) / "whole"
            unfinished.mkdir()
            for name, content in files.items():
                write_file(unfinished / name, content)
            unfinished.replace(target)  # an empty folder gives way
    except OSError as error:
        raise OSError(f"{printable(target)} cannot be written: {one_line(error)}") from None
    return target


def draw(grounding: Grounding, image: "ImageSource | None" = None) -> "Image":
    """The picture of a grounding: the photo with its boxes, the captions, and a map for each phrase.

    Args:
        grounding: what to draw.
        image: the photo; None for the one that the grounding was made from.

    Raises:
        ValueError: the photo is not known, cannot be read or is another one.
    """
    source = grounding.source if image is None else image
    if source is None:
        raise ValueError("this grounding does not know its photo: give image=")
    photo = load_image(source)
    if tuple(photo.shape[1:]) != grounding.size:
        height, width = grounding.size
        raise ValueError(
            f"the photo has {photo.shape[2]}×{photo.shape[1]} pixels, but the grounding is of one of {width}×{height}"
        )
    return draw_grounding(photo, grounding)


def _maps_bytes(grounding: Grounding) -> bytes:
    from safetensors.torch import save

    maps = {
        f"phrase_{index}": phrase.attention.detach().cpu().float().contiguous()
        for index, phrase in enumerate(grounding.phrases)
        if phrase.attention is not None
    }
    phrases = [phrase.text for phrase in grounding.phrases]
    return bytes(save(maps, metadata={"phrases": json.dumps(phrases, ensure_ascii=False)}))


def _manifest(grounding: Grounding, image: "ImageSource | None", files: dict[str, bytes]) -> dict[str, Any]:
    source = grounding.source if image is None else image
    return {
        "image": printable(source) if isinstance(source, str | Path) else None,
        "size": list(grounding.size),
        "settings": grounding.made_by,
        "versions": _versions(),
        "files": {name: sha256(content).hexdigest() for name, content in files.items()},
    }


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):  # a checkout that is not installed has no version
            versions[name] = version(name)
    return versions
