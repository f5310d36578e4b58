"""Reading photos: whatever a user has, as (3, H, W) in [0, 1], RGB, upright."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from grounding.messages import one_line

ImageSource: TypeAlias = "str | Path | Image.Image | np.ndarray[Any, Any] | Tensor"

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".ppm", ".pgm")


def load_image(source: ImageSource) -> Tensor:
    """A photo as (3, H, W), float32 in [0, 1], RGB.

    Grey, CMYK, palette, 16-bit, transparent (on white), animated (first frame) and EXIF-rotated files are all photos.

    Args:
        source: a path, a PIL image, an array (H, W, 3) or (H, W) of uint8, or a tensor (3, H, W) in [0, 1].

    Raises:
        ValueError: the file is missing, empty, truncated, too large or no image; an array has the wrong shape or type.
    """
    if isinstance(source, Tensor):
        return _checked(source)
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim not in (2, 3) or (source.ndim == 3 and source.shape[2] != 3):
            raise ValueError(f"expected an array (H, W, 3) of uint8, got {source.shape} of {source.dtype}")
        if source.size == 0:
            raise ValueError(f"an image of {source.shape[0]}×{source.shape[1]} pixels has nothing to show")
        return _from_pil(Image.fromarray(source))
    if isinstance(source, Image.Image):
        return _from_pil(source)
    if isinstance(source, str | Path):
        if not str(source).strip():
            raise ValueError("the path of the image is empty")
        return _from_file(Path(source))
    raise ValueError(f"expected a path, a PIL image, an array or a tensor, got {type(source).__name__}")


def _checked(image: Tensor) -> Tensor:
    if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point() or image.numel() == 0:
        raise ValueError(f"expected a float tensor (3, H, W) in [0, 1], got {tuple(image.shape)} of {image.dtype}")
    low, high = image.aminmax()
    if not (low >= 0 and high <= 1):  # false for NaN, too
        raise ValueError(f"expected an image in [0, 1], got values from {low:.3g} to {high:.3g}")
    return image.detach().float()


def _from_file(path: Path) -> Tensor:
    try:
        is_there = path.exists()
    except OSError as error:  # such as a name that is too long
        raise ValueError(f"{path}: {error.strerror}") from None
    if path.is_dir():
        raise ValueError(f"{path}: a folder, not an image")
    if not is_there:
        raise ValueError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: not a regular file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")
    with _opened(path, str(path)) as image:
        return _from_pil(image)


@contextmanager
def _opened(file: Path | io.BytesIO, name: str) -> Iterator[Image.Image]:
    """An image file while it is read; what goes wrong is a ValueError that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of broken metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                yield image
    except UnidentifiedImageError:
        raise ValueError(f"{name}: not an image, or of an unknown format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{name}: too large: {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # of broken files the readers of some formats raise anything
        raise ValueError(f"{name}: cannot be read: {one_line(error) or type(error).__name__}") from None


def decode(content: bytes, *, name: str, enough: int | None = None) -> Image.Image:
    """The content of a photo's file as a PIL image, RGB and upright.

    Args:
        content: of the file.
        name: for errors.
        enough: the longer side, in pixels, that is needed; a JPEG is decoded at a half, quarter or eighth of its size
            where that is as large, and several times faster.

    Raises:
        ValueError: the content is no photo, or a broken one.
    """
    if not content:
        raise ValueError(f"{name}: the file is empty")
    with _opened(io.BytesIO(content), name) as image:
        if enough is not None and isinstance(image, JpegImageFile):  # those of phones that hold several, too
            width, height = (max(1, side * enough // max(image.size)) for side in image.size)
            image.draft("RGB", (width, height))
        if image.mode == "RGB" and "transparency" not in image.info:
            return ImageOps.exif_transpose(image)
        return Image.fromarray(to_pixels(_from_pil(image)))


def to_pixels(image: Tensor) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """A photo (3, H, W) in [0, 1] as pixels (H, W, 3) uint8."""
    height, width = image.shape[1:]
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, 256):  # a part at a time: a large photo takes memory enough as it is
        rows = slice(top, top + 256)
        pixels[rows] = (image[:, rows] * 255).round_().byte().permute(1, 2, 0).cpu().numpy()
    return pixels


def stretch(image: Tensor, size: tuple[int, int]) -> Tensor:
    """A photo (3, H, W) in [0, 1] at another size (height, width), whatever becomes of its aspect; bicubic.

    A photo of that size is returned as it is. Pixels of others have 8 bits, by integer arithmetic: they are the same
    on every machine, so that a store of proposals knows them.
    """
    if image.shape[1:] == size:
        return image
    height, width = size
    return _from_pil(Image.fromarray(to_pixels(image)).resize((width, height), Image.Resampling.BICUBIC))


def _from_pil(image: Image.Image) -> Tensor:
    if 0 in image.size:
        raise ValueError(f"an image of {image.height}×{image.width} pixels has nothing to show")
    try:
        image.load()
    except OSError as error:
        raise ValueError(f"the image cannot be read: {error}") from None
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # 16 and 32 bits a pixel; PIL would clip them
        values = np.asarray(image, dtype=np.float32)
        highest = values.max(initial=0)
        largest = next((bound for bound in (1.0, 255.0, 65535.0) if highest <= bound), highest)
        grey = torch.from_numpy(values / largest).clamp(0, 1)
        return _checked(grey.expand(3, -1, -1).clone())
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255)


def find_images(patterns: list[str]) -> list[Path]:
    """The photos that paths, folders and globs name, in order, each once.

    Raises:
        ValueError: a path does not exist, a folder holds no photo, a glob matches nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        if not pattern.strip():
            raise ValueError("image= is empty")
        path = Path(pattern).expanduser()
        if path.is_dir():
            photos = sorted(child for child in path.iterdir() if child.suffix.lower() in EXTENSIONS)
            if not photos:
                raise ValueError(f"{pattern}: the folder holds no photo ({', '.join(EXTENSIONS)})")
        elif path.exists():
            photos = [path]
        elif any(character in pattern for character in "*?["):
            anchor = Path(path.anchor)
            photos = sorted(match for match in anchor.glob(str(path.relative_to(anchor))) if match.is_file())
            if not photos:
                raise ValueError(f"{pattern}: no file matches")
        else:
            raise ValueError(f"{pattern}: no such file or folder")
        found.update(dict.fromkeys(photos))
    return list(found)
