"""``python -m proposals``: propose regions of photos, and keep them in one file."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig

from grounding.command_line import attempt, free_texts, run_command
from grounding.config import CONFIG_DIR, build_part, plain_settings
from grounding.examples import example_photos
from grounding.files import png_bytes, unused_names, write_file
from grounding.messages import printable
from proposals.settings import ProposeSettings

if TYPE_CHECKING:
    from rich.console import Console

    from grounding.photos import Photos
    from proposals.workers import Work
    from proposals.writer import Writer

log = logging.getLogger("proposals")

WEIGHTS = {"edges", "ranker", "weights"}  # settings of proposals that may name a file
LISTED = 20  # photos that failed, at the end


def main() -> None:
    """The command line."""
    run_command(run, "propose_settings", ProposeSettings)


@hydra.main(config_path=CONFIG_DIR, config_name="propose", version_base="1.3")
def run(settings: Any) -> None:
    """Propose in what the settings name; what goes wrong is logged, and a sweep goes on."""
    attempt(
        lambda: propose_all(settings) == 0,
        log,
        if_interrupted="what is finished is kept, and the same command goes on from there",
    )


def propose_all(settings: Any) -> int:
    """Propose in every photo that the store lacks, and keep what was found; how many photos failed.

    Raises:
        ValueError: a setting is wrong, there is no photo, or the store has other settings.
        OSError: the store cannot be written to, or a process died.
    """
    if not settings.output.strip():
        raise ValueError("output= is empty")
    if settings.workers is not None and settings.workers < 0:
        raise ValueError(f"workers must be at least 0, got {settings.workers}")
    if settings.draw < 0:
        raise ValueError(f"draw must be at least 0, got {settings.draw}")
    proposals = plain_settings("proposals", settings.proposals)
    photos = find_photos(settings)
    from rich.console import Console

    from grounding.processes import cores
    from proposals.workers import Work, stamp_at
    from proposals.writer import Writer

    console = Console(stderr=True)
    output = Path(settings.output).expanduser()
    with Writer(output, with_contents(proposals)) as writer:
        work = Work(proposals, photos.folder, output if output.exists() else None, photos.sizes)
        is_there = writer.stamps  # stamps cost a look at every file, and tell nothing where there is none
        names = [
            name
            for name in photos.names
            if not is_there or stamp_at(photos.folder / name, photos.sizes.get(name)) not in is_there
        ]
        processes = min(cores() if settings.workers is None else settings.workers, len(names))
        failed = _fill(writer, names, work, processes, console) if names else {}
        with console.status("writing"):
            writer.finish(failed)
    there = len(photos.names) - len(names)
    log.info(
        "%s: %d of %d photos%s, %.1f MB", printable(output), len(photos.names) - len(failed), len(photos.names),
        f" ({there} had been there)" if there else "", output.stat().st_size / 1e6,
    )  # fmt: skip
    if settings.draw > 0:
        drawn = replace(photos, names=[name for name in photos.names if name not in failed])
        _draw(drawn, output, proposals, settings.draw, console)
    if failed:
        few = ", ".join(map(printable, list(failed)[:LISTED])) + (", …" if len(failed) > LISTED else "")
        log.error("error: %d of %d photos failed, another run tries them again: %s", len(failed), len(names), few)
    return len(failed)


def with_contents(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings in which files have a hash of what is in them: weights that changed are other weights."""
    signed = dict(settings)
    for name in WEIGHTS & settings.keys():
        path = Path(str(settings[name]))
        if path.is_file():
            signed[name] = f"{path} ({blake2b(path.read_bytes(), digest_size=8).hexdigest()})"
    return signed


def find_photos(settings: Any) -> "Photos":
    """The photos that ``image=`` or ``data=`` name, or the example photos.

    Raises:
        ValueError: both are given, or there is no photo.
    """
    from grounding.images import find_images
    from grounding.photos import Photos

    images = free_texts(settings, "image")
    if images and settings.data is not None:
        raise ValueError("give image= or data=, one of the two")
    if settings.data is not None:
        found = build_part(plain_settings("data", settings.data))
        assert isinstance(found, Photos)
        return found
    if images:
        return Photos(Path(), [str(path) for path in find_images(images)])
    examples = list(example_photos())
    return Photos(examples[0].parent, [path.name for path in examples])


def _fill(writer: "Writer", names: list[str], work: "Work", processes: int, console: "Console") -> dict[str, str]:
    """Add proposals of photos; those that failed, and why."""
    from proposals.workers import Failure, propose_in

    failed: dict[str, str] = {}
    photos = regions = 0
    started = time.monotonic()
    with _progress(len(names), console) as advance:
        for result in propose_in(names, work, processes=processes):
            if result is None:
                writer.flush()
                continue
            advance()
            if isinstance(result, Failure):
                failed[result.name] = result.error
                log.error("error: %s", result.error)
                continue
            writer.add(result)
            if result.arrays is not None:
                photos += 1
                regions += len(result.arrays["scores"])
    if photos:
        seconds = (time.monotonic() - started) / photos
        log.info("%.0f proposals of a photo on average, %.3g seconds a photo", regions / photos, seconds)
    return failed


def _draw(photos: "Photos", output: Path, settings: dict[str, Any], count: int, console: "Console") -> None:
    """A picture of the first regions of each photo, in the run's folder."""
    from rich.progress import track

    from grounding.images import load_image, stretch
    from proposals import Stored
    from proposals.draw import draw_regions

    folder = Path(HydraConfig.get().runtime.output_dir)
    stored, propose = Stored(output), build_part(settings)
    names = unused_names([photos.folder / name for name in photos.names], folder)
    pictures = zip(photos.names, names, strict=True)
    for photo, name in track(pictures, "drawing", total=len(names), console=console, transient=True):
        image = load_image(photos.folder / photo)
        if photo in photos.sizes:
            image = stretch(image, photos.sizes[photo])
        contours = propose.contour_map(image) if hasattr(propose, "contour_map") else None
        picture = draw_regions(image, stored(image), count=count, contours=contours)
        write_file(folder / f"{name}.png", png_bytes(picture))
    log.info("pictures are in %s", printable(folder))


@contextmanager
def _progress(total: int, console: "Console") -> Iterator[Callable[[], None]]:
    """A bar with photos, photos a second and the time left; what is yielded moves it on."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}"), TimeRemainingColumn())
    started = time.monotonic()
    with Progress("proposing", *columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total, pace="")

        def advance() -> None:
            done = bar.tasks[0].completed + 1
            bar.update(task, advance=1, pace=f"{done / (time.monotonic() - started):.3g} photos/s")

        handlers = [] if bar.disable else [h for h in log.root.handlers if type(h) is logging.StreamHandler]
        before = [handler.setStream(sys.stderr) for handler in handlers]  # the bar's: lines appear above it
        try:
            yield advance
        finally:
            for handler, stream in zip(handlers, before, strict=True):
                handler.setStream(stream or sys.stderr)


if __name__ == "__main__":
    main()
