"""``python -m grounding``: ground captions in photos, and show where each phrase is."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig

from grounding.command_line import attempt, free_texts, run_command
from grounding.config import CONFIG_DIR, GroundSettings, grounder_settings
from grounding.examples import example_photos
from grounding.files import png_bytes, unused_names, write_file
from grounding.messages import describe_failure, printable
from grounding.quoting import FREE_TEXT

if TYPE_CHECKING:
    from PIL.Image import Image

    from grounding.records import Grounding

log = logging.getLogger("grounding")

SHEET = 12  # pictures at most that are also shown together on one sheet


def main() -> None:
    """The command line."""
    run_command(run, "ground_settings", GroundSettings)


@hydra.main(config_path=CONFIG_DIR, config_name="ground", version_base="1.3")
def run(settings: Any) -> None:
    """Ground what the settings name; what goes wrong is logged, and a sweep goes on."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    attempt(
        lambda: ground_all(settings, folder) == 0, log, if_interrupted=f"what is finished lies in {printable(folder)}"
    )


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
        from grounding.pipeline import Grounder

        grounder = Grounder.from_settings(grounder_settings(settings))
        from grounding.draw import draw_grounding, draw_sheet
        from grounding.images import load_image
    pictures: list[Image] = []
    failures = 0
    names = unused_names([path for path, _ in tasks], folder)
    for (path, texts), name in zip(
        track(tasks, "grounding", console=console, transient=True, disable=len(tasks) == 1), names, strict=True
    ):
        try:
            image = load_image(path)
            (grounding,) = grounder([image], phrases=[texts]) if phrases else grounder([image], [texts])
            picture = draw_grounding(image, grounding)
        except (ValueError, RuntimeError, TypeError, ArithmeticError, IndexError, MemoryError) as error:
            failures += 1
            message = describe_failure(path, error)
            log.error("error: %s", message)
            write_file(folder / f"{name}.json", _as_json({"image": printable(path), "error": message}))
            continue
        write_file(folder / f"{name}.png", png_bytes(picture))
        write_file(folder / f"{name}.json", _as_json({"image": printable(path), **grounding.to_dict()}))
        console.print(_table(path, grounding))
        if len(tasks) <= SHEET:
            pictures.append(picture)
    if len(pictures) > 1:
        (name,) = unused_names([Path("all")], folder)
        write_file(folder / f"{name}.png", png_bytes(draw_sheet(pictures)))
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
        return [(path, [caption]) for path, caption in example_photos().items()]
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


def _as_json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()


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
