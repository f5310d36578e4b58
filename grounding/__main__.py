"""``python -m grounding``: ground captions in photos, and show where each phrase is."""

import json
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from grounding.config import (
    CONFIG_DIR,
    FREE_TEXT,
    build_grounder,
    free_texts,
    one_line,
    quote_free_text,
    register_settings,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from grounding.records import Grounding

log = logging.getLogger("grounding")

# The photos in scikit-image's wheel, and what we see in them.
EXAMPLES = {
    "astronaut.png": "A smiling astronaut in an orange suit beside a model of a space shuttle",
    "chelsea.png": "A tabby cat with green eyes",
    "coffee.png": "A cup of coffee with a spoon on a wooden table",
    "rocket.jpg": "A white rocket between tall towers at night",
}
_completed: list[bool] = []  # for each run of a sweep; Hydra hands on no return value
SHEET = 12  # pictures at most that are also shown together on one sheet


def main() -> None:
    """The command line."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors of settings reach us, and leave as one line
    sys.argv[1:] = quote_free_text(sys.argv[1:])
    register_settings()
    try:
        run()
        if not all(_completed):
            sys.exit(1)
    except (HydraException, OmegaConfBaseException, OSError) as error:
        sys.exit(f"error: {one_line(error)}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        _leave_interrupted()


def _leave_interrupted() -> None:
    """Exit with 130 at once: where an import was interrupted, Python would end by the signal whatever we say."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(130)


@hydra.main(config_path=CONFIG_DIR, config_name="ground", version_base="1.3")
def run(settings: Any) -> None:
    """Ground what the settings name; what goes wrong is logged, and a sweep goes on."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        is_complete = ground_all(settings, folder) == 0
    except (ValueError, OSError) as error:
        log.error("error: %s", _printable(error))
        is_complete = False
    except KeyboardInterrupt:
        log.error("interrupted; what is finished lies in %s", folder)
        _leave_interrupted()
    _completed.append(is_complete)


def ground_all(settings: Any, folder: Path) -> int:
    """Ground every photo, write its picture and JSON into the folder, print the table; how many photos failed.

    Raises:
        ValueError: photos and captions do not fit together, or a setting is wrong.
        OSError: the folder cannot be written to.
    """
    images, captions, phrases = (free_texts(settings, name) for name in FREE_TEXT)
    tasks = pair(images, captions, phrases)
    from rich.console import Console
    from rich.progress import track

    console = Console()
    with console.status("loading the model"):
        grounder = build_grounder(settings)
        from grounding.draw import draw_grounding, draw_sheet
        from grounding.images import load_image
    pictures: list[Image] = []
    failures = 0
    names = _names([path for path, _ in tasks], folder)
    for (path, texts), name in zip(
        track(tasks, "grounding", console=console, transient=True, disable=len(tasks) == 1), names, strict=True
    ):
        try:
            image = load_image(path)
            (grounding,) = grounder([image], phrases=[texts]) if phrases else grounder([image], [texts])
            picture = draw_grounding(image, grounding)
        except (ValueError, RuntimeError, TypeError, ArithmeticError, IndexError, MemoryError) as error:
            failures += 1
            message = _printable(error) if str(path) in str(error) else f"{_printable(path)}: {_printable(error)}"
            log.error("error: %s", message)
            write(folder / f"{name}.json", _as_json({"image": _printable(path), "error": message}))
            continue
        write(folder / f"{name}.png", _as_png(picture))
        write(folder / f"{name}.json", _as_json({"image": _printable(path), **grounding.to_dict()}))
        console.print(_table(path, grounding))
        if len(tasks) <= SHEET:
            pictures.append(picture)
    if len(pictures) > 1:
        (name,) = _names([Path("all")], folder)
        write(folder / f"{name}.png", _as_png(draw_sheet(pictures)))
    log.info("%d of %d photos grounded; pictures and JSON are in %s", len(tasks) - failures, len(tasks), folder)
    return failures


def pair(images: list[str], captions: list[str], phrases: list[str]) -> list[tuple[Path, list[str]]]:
    """Which captions, or phrases, belong to which photo.

    One photo has all captions; several photos share one caption, or have one each. Phrases are for every photo. Without
    any of them: the example photos.

    Raises:
        ValueError: numbers do not fit, one of the two is missing, or a photo is.
    """
    from grounding.images import find_images

    if not images and not captions and not phrases:
        from skimage.data import data_dir

        return [(Path(data_dir) / name, [caption]) for name, caption in EXAMPLES.items()]
    if not images:
        raise ValueError("no photo: add image=PATH (a file, a folder or a glob; several times for several)")
    if captions and phrases:
        raise ValueError("give caption= or phrases=, one of the two")
    if not captions and not phrases:
        raise ValueError('no caption: add caption="…", or the phrases themselves with phrases="…"')
    paths = find_images(images)
    if phrases:
        return [(path, phrases) for path in paths]
    if len(paths) == 1:
        return [(paths[0], captions)]
    if len(captions) == 1:
        return [(path, captions) for path in paths]
    if len(captions) == len(paths):
        return [(path, [caption]) for path, caption in zip(paths, captions, strict=True)]
    raise ValueError(f"{len(paths)} photos and {len(captions)} captions: give one caption, or one for each photo")


def _names(paths: list[Path], folder: Path) -> list[str]:
    """A name for each photo's results, its own, and of nothing that is in the folder already."""
    taken = {"all"} if len(paths) > 1 else set()
    taken |= {path.stem.casefold() for path in folder.iterdir()}
    names = []
    for path in paths:
        stem = _printable(path.stem)[:80]
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _printable(text: object) -> str:
    """Text without what UTF-8 cannot say, as in the names of some files."""
    return str(text).encode("utf-8", "replace").decode()


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


def _as_json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()


def _as_png(picture: "Image") -> bytes:
    import io

    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _table(path: Path, grounding: "Grounding") -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from grounding.draw import colour_of

    table = Table(title=Text(path.name), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in ("phrase", "best box (x1 y1 x2 y2)", "score", "words not known"):
        table.add_column(column, overflow="fold")
    for index, phrase in enumerate(grounding.phrases):
        corners = " ".join(f"{edge:.0f}" for edge in phrase.regions.boxes[0].tolist())
        score = f"{phrase.regions.scores[0]:.3g}" if phrase.is_attended else "a guess"
        table.add_row(Text(phrase.text, colour_of(index)), corners, score, Text(", ".join(phrase.skipped_words)))
    if not grounding.phrases:
        table.add_row(Text("no noun phrase in the caption"), "", "", "")
    return table


if __name__ == "__main__":
    main()
