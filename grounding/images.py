"""Reading photos of any form and format as upright RGB tensors (3, H, W) in [0, 1]."""

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

IS_URL = "a URL, not a path: download the photo, or list URLs in an archive (data=manifest)"
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".ppm", ".pgm")


def load_image(source: ImageSource) -> Tensor:
    """Read a photo as an upright RGB tensor (3, H, W), float32 in [0, 1].

    Grey, palette, CMYK and 16-bit images are converted to RGB, transparent ones are laid on white, and of an animation
    the first frame is taken. A rotation in the EXIF metadata is applied.

    Args:
        source: a path, a PIL image, an array (H, W, 3) or (H, W) of uint8, or a tensor (3, H, W) in [0, 1].

    Raises:
        ValueError: the file is missing, empty, truncated, too large or no image; an array has the wrong shape or type.

    >>> grey = np.array([[0, 51, 255]], dtype=np.uint8)
    >>> load_image(grey)[:, 0]
    tensor([[0.0000, 0.2000, 1.0000],
            [0.0000, 0.2000, 1.0000],
            [0.0000, 0.2000, 1.0000]])
    """
    if isinstance(source, Tensor):
        return _check_tensor(source)
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim not in (2, 3) or (source.ndim == 3 and source.shape[2] != 3):
            raise ValueError(f"expected an array (H, W, 3) of uint8, got {source.shape} of {source.dtype}")
        if source.size == 0:
            raise ValueError(f"an image of {source.shape[0]}×{source.shape[1]} pixels has nothing to show")
        return _read_pil(Image.fromarray(source))
    if isinstance(source, Image.Image):
        return _read_pil(source)
    if isinstance(source, str) and "://" in source:
        raise ValueError(f"{source}: {IS_URL}")
    if isinstance(source, str | Path):
        if not str(source).strip():
            raise ValueError("the path of the image is empty")
        return _read_file(Path(source))
    raise ValueError(f"expected a path, a PIL image, an array or a tensor, got {type(source).__name__}")


def _check_tensor(image: Tensor) -> Tensor:
    if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point() or image.numel() == 0:
        raise ValueError(f"expected a float tensor (3, H, W) in [0, 1], got {tuple(image.shape)} of {image.dtype}")
    low, high = image.aminmax()
    if not (low >= 0 and high <= 1):  # also where there is NaN
        raise ValueError(f"expected an image in [0, 1], got values from {low:.3g} to {high:.3g}")
    return image.detach().float()


def _read_file(path: Path) -> Tensor:
    try:
        is_there = path.exists()
    except OSError as error:  # for example a name that is too long
        raise ValueError(f"{path}: {error.strerror}") from None
    if path.is_dir():
        raise ValueError(f"{path}: a folder, not an image")
    if not is_there:
        raise ValueError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: not a regular file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")
    with _open_image(path, str(path)) as image:
        return _read_pil(image)


@contextmanager
def _open_image(file: Path | io.BytesIO, name: str) -> Iterator[Image.Image]:
    """Open an image file; any failure while it is read is raised as a ValueError that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about broken metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                yield image
    except UnidentifiedImageError:
        raise ValueError(f"{name}: not an image, or of an unknown format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{name}: too large: {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # the readers of some formats raise errors of any type on broken files
        raise ValueError(f"{name}: cannot be read: {one_line(error) or type(error).__name__}") from None


def decode(content: bytes, *, name: str, longer_side: int | None = None) -> Image.Image:
    """Decode the content of a photo's file as a PIL image, RGB and upright.

    Args:
        content: the bytes of the file.
        name: the photo's name for error messages.
        longer_side: the pixels that are needed along the longer side; None for full size. A JPEG is decoded at a half,
            a quarter or an eighth of its size where that is large enough, which is several times faster.

    Raises:
        ValueError: the content is broken or no photo.
    """
    if not content:
        raise ValueError(f"{name}: the file is empty")
    with _open_image(io.BytesIO(content), name) as image:
        if longer_side is not None and isinstance(image, JpegImageFile):  # MPO, JPEGs with several photos, included
            width, height = (max(1, side * longer_side // max(image.size)) for side in image.size)
            image.draft("RGB", (width, height))
        if image.mode == "RGB" and "transparency" not in image.info:
            return ImageOps.exif_transpose(image)
        return Image.fromarray(to_pixels(_read_pil(image)))


def to_pixels(image: Tensor) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """Convert a photo (3, H, W) in [0, 1] to pixels (H, W, 3) of uint8, rounded.

    >>> to_pixels(torch.tensor([[[0.0]], [[0.2]], [[1.0]]])).tolist()
    [[[0, 51, 255]]]
    """
    height, width = image.shape[1:]
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, 256):  # in strips, to keep the memory for float copies of large photos small
        rows = slice(top, top + 256)
        pixels[rows] = (image[:, rows] * 255).round_().byte().permute(1, 2, 0).cpu().numpy()
    return pixels


def stretch(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a photo (3, H, W) in [0, 1] to (height, width) by bicubic interpolation, without keeping its aspect ratio.

    A photo of that size is returned unchanged. Others are resized in 8 bits by integer arithmetic, so that their pixels
    are the same on every machine, and a store of proposals recognises the photo.
    """
    if image.shape[1:] == size:
        return image
    height, width = size
    return _read_pil(Image.fromarray(to_pixels(image)).resize((width, height), Image.Resampling.BICUBIC))


def _read_pil(image: Image.Image) -> Tensor:
    if 0 in image.size:
        raise ValueError(f"an image of {image.height}×{image.width} pixels has nothing to show")
    try:
        image.load()
    except OSError as error:
        raise ValueError(f"the image cannot be read: {error}") from None
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # 16 or 32 bits a pixel, which PIL would clip to 8
        values = np.asarray(image, dtype=np.float32)
        highest = values.max(initial=0)
        largest = next((bound for bound in (1.0, 255.0, 65535.0) if highest <= bound), highest)
        grey = torch.from_numpy(values / largest).clamp(0, 1)
        return _check_tensor(grey.expand(3, -1, -1).clone())
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255)


def find_images(patterns: list[str]) -> list[Path]:
    """Find the photos that paths, folders and globs name: in order, each once.

    Args:
        patterns: paths of photos, paths of folders (their photos by name, without subfolders), or globs.

    Raises:
        ValueError: a path does not exist, a folder holds no photo, a glob matches nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        if not pattern.strip():
            raise ValueError("image= is empty: name a file, a folder or a glob")
        if "://" in pattern:
            raise ValueError(f"{pattern}: {IS_URL}")
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
