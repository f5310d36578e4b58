"""What the commands share: their example photos, how they report what goes wrong, and how they write files."""

import logging
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from PIL.Image import Image

_completed: list[bool] = []  # for each run of a sweep; Hydra hands on no return value


def example_photos() -> dict[Path, str]:
    """The photos in scikit-image's wheel, and what we see in them."""
    from skimage.data import data_dir

    captions = {
        "astronaut.png": "A smiling astronaut in an orange suit beside a model of a space shuttle",
        "chelsea.png": "A tabby cat with green eyes",
        "coffee.png": "A cup of coffee with a spoon on a wooden table",
        "rocket.jpg": "A white rocket between tall towers at night",
    }
    return {Path(data_dir) / name: caption for name, caption in captions.items()}


def attempt(body: Callable[[], bool], log: logging.Logger, *, if_interrupted: str) -> None:
    """Run a command's body, which says whether all went well; an error is one line in the log, and a sweep goes on."""
    try:
        is_complete = body()
    except (ValueError, OSError) as error:
        log.error("error: %s", printable(error))
        is_complete = False
    except KeyboardInterrupt:
        log.error("interrupted; %s", if_interrupted)
        leave_interrupted()
    _completed.append(is_complete)


def all_completed() -> bool:
    """Whether all went well in every attempt so far."""
    return all(_completed)


def leave_interrupted() -> NoReturn:
    """Exit with 130 at once: where an import was interrupted, Python would end by the signal whatever we say."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(130)


def printable(text: object) -> str:
    """Text without what UTF-8 cannot say, as in the names of some files."""
    return str(text).encode("utf-8", "replace").decode()


def in_one_line(error: BaseException) -> str:
    """The message of an error of a library, which may have several lines."""
    return " ".join(printable(error).split())


def about(path: object, error: BaseException) -> str:
    """An error as one line that names the photo it is about."""
    message = in_one_line(error)
    if not isinstance(error, ValueError | OSError):  # nobody phrased it for a reader
        message = f"{type(error).__name__}: {message}"
    return message if printable(path) in message else f"{printable(path)}: {message}"


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: the disk is full or the folder cannot be written to.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        try:
            part.write(content)
            part.close()
            os.chmod(part.name, 0o644)
            os.replace(part.name, path)
        except OSError as error:
            raise OSError(error.errno, f"{path} cannot be written: {error.strerror}") from None
        finally:
            Path(part.name).unlink(missing_ok=True)


def new_names(paths: list[Path], folder: Path) -> list[str]:
    """A name for each photo's results, its own, and of nothing that is in the folder already."""
    taken = {"all"} if len(paths) > 1 else set()
    taken |= {path.stem.casefold() for path in folder.iterdir()}
    names = []
    for path in paths:
        stem = printable(path.stem)[:80]
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def as_png(picture: "Image") -> bytes:
    """A picture as the content of a PNG file."""
    import io

    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
