"""``python -m grounding explain``: show where in a photo the evidence for the classes of a classifier is."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig

from grounding.command_line import attempt, free_texts, run_command
from grounding.config import CONFIG_DIR, ExplainSettings, attention_settings, build_part, plain_settings
from grounding.files import png_bytes, unused_names, write_file
from grounding.messages import describe_failure, printable

if TYPE_CHECKING:
    from torch import Tensor

    from grounding.explanation.records import Explanation

log = logging.getLogger("explain")


def main() -> None:
    """The command line, without its verb."""
    run_command(run, "explain_settings", ExplainSettings)


@hydra.main(config_path=CONFIG_DIR, config_name="explain", version_base="1.3")
def run(settings: Any) -> None:
    """Explain the photos that the settings name. Errors are logged, and a sweep continues."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    attempt(
        lambda: explain_all(settings, folder) == 0, log, if_interrupted=f"what is finished lies in {printable(folder)}"
    )


def explain_all(settings: Any, folder: Path) -> int:
    """Explain every photo, write a picture and an ``.npz`` file for each into the folder, and print a table for each.

    Returns:
        The number of photos that failed.

    Raises:
        ValueError: there is no photo, no such class, or a setting is wrong.
        OSError: the folder cannot be written to.
    """
    images, classes = free_texts(settings, "image"), free_texts(settings, "classes")
    if not images:
        raise ValueError("no photo: add image=PATH (a file, a folder or a glob; several times for several)")
    if settings.top < 1:
        raise ValueError(f"top must be at least 1, got {settings.top}")
    used = {
        "model": plain_settings("model", settings.model),
        "attention": attention_settings(settings.attention),
        "classes": classes,
        "top": settings.top,
    }
    from rich.console import Console

    from grounding.images import find_images, load_image

    paths = find_images(images)
    console = Console()
    with console.status("loading the model"):
        from grounding.explanation.classes import find_class
        from grounding.explanation.explainer import Explainer

        classifier = build_part(used["model"])
        for text in classes:  # before any photo is read
            find_class(text, classifier.vocabulary)
        explainer = Explainer(classifier, build_part(used["attention"]), device=settings.device)
    failures = 0
    for path, name in zip(paths, unused_names(paths, folder), strict=True):
        try:
            photo = load_image(path)
            explanation = explainer(photo, classes, top=settings.top)
            write_explanation(path, photo, explanation, used, folder / name)
        except OSError:
            raise
        except Exception as error:  # of any type: libraries that decode photos raise many
            log.error("error: %s", describe_failure(path, error))
            failures += 1
        else:
            console.print(_table(path, explanation))
    done = len(paths) - failures
    log.info("%d of %d photos explained; pictures and .npz files are in %s", done, len(paths), folder)
    return failures


def write_explanation(
    path: Path, photo: "Tensor", explanation: "Explanation", settings: dict[str, Any], target: Path
) -> None:
    """Write the picture and the ``.npz`` file of a photo.

    Args:
        path: the path of the photo.
        photo: (3, H, W), in [0, 1].
        explanation: its classes and their maps.
        settings: plain settings, which the ``.npz`` file records.
        target: the path of the files, without their suffix.
    """
    from grounding.explanation.picture import draw_explanation
    from grounding.explanation.records import npz_bytes

    picture = draw_explanation(photo, explanation, title=printable(path.name))
    write_file(target.with_name(f"{target.name}.png"), png_bytes(picture))
    write_file(target.with_name(f"{target.name}.npz"), npz_bytes(explanation, {"image": printable(path), **settings}))


def _table(path: Path, explanation: "Explanation") -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from grounding.draw import colour_of
    from grounding.vocabulary import as_ranges

    table = Table(title=Text(path.name), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in ("class", "units", "probability", "reached"):
        table.add_column(column, overflow="fold")
    for index, (name, units) in enumerate(zip(explanation.names, explanation.units, strict=True)):
        reached = "" if explanation.reached is None else f"{explanation.reached[index]:.3f}"
        probability = f"{explanation.probabilities[index]:.3f}"
        table.add_row(Text(name, colour_of(index)), as_ranges(units), probability, reached)
    return table
