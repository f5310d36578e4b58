"""``python -m grounding compare``: the maps of several attention methods, side by side on the same photos."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig

from grounding.command_line import attempt, free_texts, run_command
from grounding.comparison.methods import read_methods
from grounding.config import CONFIG_DIR, CompareSettings
from grounding.files import json_bytes, png_bytes, unused_names, write_file
from grounding.messages import describe_failure, printable

if TYPE_CHECKING:
    from torch import Tensor

    from grounding.comparison.records import Comparison

log = logging.getLogger("compare")

NARROWEST, WIDEST = 64, 4096  # a column of the picture, in pixels


def main() -> None:
    """The command line, without its verb."""
    run_command(run, "compare_settings", CompareSettings)


@hydra.main(config_path=CONFIG_DIR, config_name="compare", version_base="1.3")
def run(settings: Any) -> None:
    """Compare methods in the photos that the settings name. Errors are logged, and a sweep continues."""
    hydra_settings = HydraConfig.get()
    folder, overrides = Path(hydra_settings.runtime.output_dir), list(hydra_settings.overrides.task)
    attempt(
        lambda: compare_all(settings, overrides, folder) == 0,
        log,
        if_interrupted=f"what is finished lies in {printable(folder)}",
    )


def compare_all(settings: Any, overrides: Sequence[str], folder: Path) -> int:
    """Compare the methods in every photo; write a picture, an ``.npz`` and a JSON file for each into the folder.

    Args:
        settings: the composed settings of the command.
        overrides: the overrides that they were composed with, from which each method begins.
        folder: of the results.

    Returns:
        The number of methods and photos that failed; the others are compared.

    Raises:
        ValueError: there is no photo, no phrase or no method, or a setting is wrong.
        OSError: the folder cannot be written to.
    """
    images, phrases = free_texts(settings, "image"), free_texts(settings, "phrases")
    if not images:
        raise ValueError("no photo: add image=PATH (a file, a folder or a glob; several times for several)")
    if not phrases:
        raise ValueError('no phrase: add phrases="a dog", several times for several')
    if not NARROWEST <= settings.width <= WIDEST:
        raise ValueError(f"width must be from {NARROWEST} to {WIDEST} pixels, got {settings.width}")
    methods = read_methods(free_texts(settings, "methods"), overrides)
    from rich.console import Console
    from rich.progress import track

    from grounding.images import find_images, load_image

    paths = find_images(images)
    console = Console()
    with console.status("loading the models"):
        from grounding.comparison.comparer import Comparer

        comparer = Comparer(methods, phrases, device=settings.device)
    for error in comparer.refused:
        log.error("error: %s", printable(error))
    failures = 0
    named = list(zip(paths, unused_names(paths, folder), strict=True))
    for path, name in track(named, "comparing", console=console, transient=True):
        try:
            photo = load_image(path)
            write_comparison(path, photo, comparer(photo), folder / name, width=settings.width, peaks=settings.peaks)
        except OSError:
            raise
        except Exception as error:  # of any type: libraries that decode photos raise many
            log.error("error: %s", describe_failure(path, error))
            failures += 1
    compared = f"{len(methods) - len(comparer.refused)} of {len(methods)} methods"
    done = f"{len(paths) - failures} of {len(paths)} photos"
    log.info("%s compared in %s; files are in %s", compared, done, folder)
    return failures + len(comparer.refused)


def write_comparison(
    path: Path, photo: "Tensor", comparison: "Comparison", target: Path, *, width: int, peaks: bool
) -> None:
    """Write the picture, the ``.npz`` and the JSON file of a photo.

    Args:
        path: the path of the photo.
        photo: (3, H, W), in [0, 1].
        comparison: the maps of this photo.
        target: the path of the files, without their suffix.
        width: pixels of a column of the picture.
        peaks: whether the picture marks the greatest point of each map.
    """
    from grounding.comparison.picture import draw_comparison
    from grounding.comparison.records import npz_bytes

    picture = draw_comparison(photo, comparison, title=printable(path.name), width=width, peaks=peaks)
    write_file(target.with_name(f"{target.name}.png"), png_bytes(picture))
    write_file(target.with_name(f"{target.name}.npz"), npz_bytes(comparison))
    values = {"image": printable(path), **comparison.to_dict()}
    write_file(target.with_name(f"{target.name}.json"), json_bytes(values))
