"""Limits of what the page accepts."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from grounding.limits import check_limits

MEGABYTE = 2**20  # bytes, as browsers count


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that the page accepts.

    Args:
        megabytes: size of a photo's file.
        megapixels: size of a photo.
        caption: number of characters.
        uploads: number of photos that are kept.
        queue: number of captions that wait.

    Raises:
        ValueError: a limit is out of its range.
    """

    megabytes: float = 20
    megapixels: float = 50
    caption: int = 1000
    uploads: int = 50
    queue: int = 20

    def __post_init__(self) -> None:
        check_limits(
            "the page",
            most_megabytes=(self.megabytes, 0.01, 1000),
            most_megapixels=(self.megapixels, 0.01, 89),
            longest_caption=(self.caption, 1, 100_000),
            most_uploads=(self.uploads, 1, 10_000),
            queue=(self.queue, 1, 1000),
        )

    @property
    def bytes(self) -> int:
        """The most bytes of a photo's file."""
        return int(self.megabytes * MEGABYTE)


def read_upload(path: Path, name: str, limits: Limits) -> bytes:
    """Read the file of an uploaded photo, whose size in pixels is checked before any of them is decoded.

    Args:
        path: the file that the upload was saved to.
        name: the photo's name for error messages.
        limits: the most bytes and pixels.

    Raises:
        ValueError: the file is no longer there, or too large.
    """
    try:
        size = path.stat().st_size
        if size > limits.bytes:
            raise ValueError(f"{name} has {size / MEGABYTE:.1f} MB, and the page takes at most {limits.megabytes:g} MB")
        content = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{name} is no longer here, because many photos came after it: upload it again") from None
    pixels = count_pixels(content)
    if pixels > limits.megapixels * 1e6:
        raise ValueError(
            f"{name} has {pixels / 1e6:.1f} megapixels, and the page takes at most {limits.megapixels:g}: scale it down"
        )
    return content


def count_pixels(content: bytes) -> int:
    """The number of pixels that the head of a photo's file tells; 0 where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content)) as image:
                return image.width * image.height
    except Exception:  # the readers of some formats raise errors of any type on broken files; `decode` will say which
        return 0


def check_caption(caption: object, limits: Limits) -> str:
    """The caption, without blanks around it.

    Raises:
        ValueError: it is empty, too long, or no text.
    """
    if not isinstance(caption, str) or not caption.strip():
        raise ValueError("Type a caption: a sentence about the photo, such as “A dog catches a red ball”")
    if len(caption) > limits.caption:
        raise ValueError(f"The caption has {len(caption):,} characters, and the page takes at most {limits.caption:,}")
    return caption.strip()
