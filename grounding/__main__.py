"""``python -m grounding``: ground captions in photos, and show where each phrase is.

``python -m grounding explain`` and ``compare`` are other commands, those of `grounding.explanation.command_line` and
`grounding.comparison.command_line`.
"""

import logging
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig

from grounding.command_line import attempt, free_texts, run_command
from grounding.completion import take_verb
from grounding.config import CONFIG_DIR, GroundSettings, grounder_settings
from grounding.examples import example_photos
from grounding.files import json_bytes, png_bytes, unused_names, write_file
from grounding.messages import describe_failure, printable

if TYPE_CHECKING:
    from PIL.Image import Image

    from grounding.records import Grounding

log = logging.getLogger("grounding")

PHOTOS_ON_SHEET = 12  # at most that are also shown together in one picture


def main() -> None:
    """The command line."""
    verb = take_verb("explain", "compare")
    if verb == "explain":
        from grounding.explanation import command_line as explanation

        explanation.main()
    elif verb == "compare":
        from grounding.comparison import command_line as comparison

        comparison.main()
    else:
        run_command(run, "ground_settings", GroundSettings)


@hydra.main(config_path=CONFIG_DIR, config_name="ground", version_base="1.3")
def run(settings: Any) -> None:
    """Ground the photos that the settings name. Errors are logged, and a sweep continues."""
    hydra_run = HydraConfig.get()
    folder = Path(hydra_run.runtime.output_dir)
    if settings.data is None:
        attempt(
            lambda: ground_all(settings, folder) == 0,
            log,
            if_interrupted=f"what is finished lies in {printable(folder)}",
        )
    else:
        from grounding.batch.command import ground_data

        choice = str(hydra_run.runtime.choices["data"])
        attempt(
            lambda: ground_data(settings, choice, folder),
            log,
            if_interrupted="finished parts are kept, and the same command continues from there",
        )


def ground_all(settings: Any, folder: Path) -> int:
    """Ground every photo, write a picture and a JSON file for each into the folder, and print a table for each.

    Returns:
        The number of photos that failed.

    Raises:
        ValueError: photos and captions do not fit together, or a setting is wrong.
        OSError: the folder cannot be written to.
    """
    images, captions, phrases = (free_texts(settings, name) for name in ("image", "caption", "phrases"))
    tasks = pair(images, captions, phrases)
    from grounding.export.writing import exported, read_exports

    exports = read_exports(settings)
    from rich.console import Console
    from rich.progress import track

    console = Console()
    with console.status("loading the model"):
        from grounding.batch.run import ground_each, processes_for
        from grounding.pipeline import Grounder

        used = grounder_settings(settings)
        grounder = Grounder.from_settings(used)
        from grounding.draw import draw_sheet
    paths = [path for path, _ in tasks]
    names = list(unused_names(paths, folder))
    column = "phrases" if phrases else "captions"
    rows = [{"id": index, "image": str(path), column: texts} for index, (path, texts) in enumerate(tasks)]
    results = ground_each(enumerate(rows), used, grounder, processes=processes_for(rows))
    export_folder = _unused_folder(folder / "export")
    results = exported(results, paths, exports, export_folder)
    bar = track(results, "grounding", len(tasks), console=console, transient=True, disable=len(tasks) == 1)
    pictures: list[Image] = []
    failures = 0
    for index, _, result in bar:
        picture = write_result(paths[index], result, folder / names[index])
        if picture is None or isinstance(result, str):
            failures += 1
            continue
        console.print(_table(paths[index], result))
        if len(tasks) <= PHOTOS_ON_SHEET:
            pictures.append(picture)
    if len(pictures) > 1:
        (name,) = unused_names([Path("all")], folder)
        write_file(folder / f"{name}.png", png_bytes(draw_sheet(pictures)))
    log.info("%d of %d photos grounded; pictures and JSON are in %s", len(tasks) - failures, len(tasks), folder)
    if exports is not None:
        log.info("the exports are in %s", printable(export_folder))
    return failures


def _unused_folder(folder: Path) -> Path:
    """The folder, or one with a number where it exists."""
    names = (folder.with_name(f"{folder.name}_{number}") for number in count(2))
    return next(name for name in chain([folder], names) if not name.exists())


def write_result(path: Path, result: "Grounding | str", target: Path) -> "Image | None":
    """Write the picture and the JSON of a photo, or the JSON of its error, which is also logged.

    Args:
        path: the path of the photo.
        result: its grounding, or the error that prevented it.
        target: the path of the files, without their suffix.

    Returns:
        The picture; None where the photo failed.
    """
    from grounding.draw import draw_grounding
    from grounding.images import load_image

    picture = None
    if not isinstance(result, str):
        try:
            picture = draw_grounding(load_image(path), result)
        except ValueError as error:  # the photo was changed or removed meanwhile
            result = describe_failure(path, error)
    if picture is None or isinstance(result, str):
        log.error("error: %s", result)
        values = {"error": result}
    else:
        values = result.to_dict()
        write_file(target.with_name(f"{target.name}.png"), png_bytes(picture))
    write_file(target.with_name(f"{target.name}.json"), json_bytes({"image": printable(path), **values}))
    return picture


def pair(images: list[str], captions: list[str], phrases: list[str]) -> list[tuple[Path, list[str]]]:
    """Pair each photo with its captions, or phrases.

    A single photo gets all captions; several photos share one caption, or have one each. Phrases apply to every photo.
    Without photos, captions and phrases, the example photos are used.

    Raises:
        ValueError: the numbers do not fit, photos or captions are missing, or a photo does not exist.
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


def _table(path: Path, grounding: "Grounding") -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from grounding.draw import colour_of

    table = Table(title=Text(path.name), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in ("phrase", "best box", "score", "probability", "unknown words"):
        table.add_column(column, overflow="fold")
    for index, phrase in enumerate(grounding.phrases):
        corners = " ".join(f"{edge:.0f}" for edge in phrase.regions.boxes[0].tolist())
        understood = [f"{word} as {', '.join(known)}" for word, known in phrase.understood.items()]
        table.add_row(
            Text(phrase.text, f"{colour_of(index)} strike" if phrase.is_rejected else colour_of(index)),
            f"rejected: {phrase.presence:.0%} there" if phrase.is_rejected else corners,
            f"{phrase.regions.scores[0]:.3g}" if phrase.is_attended else "a guess",
            "" if phrase.probability is None else f"{phrase.probability:.2f}",
            Text("; ".join([*phrase.skipped_words, *understood])),
        )
    if not grounding.phrases:
        table.add_row(Text("no noun phrase in the caption"), "", "", "", "")
    return table


if __name__ == "__main__":
    main()
