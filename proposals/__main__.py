"""``python -m proposals``: propose regions of photos, and store them in one file."""

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
    from proposals.store.workers import Work
    from proposals.store.writing import Writer

log = logging.getLogger("proposals")

WEIGHTS = {"edges", "ranker", "weights"}  # settings of methods that may name a file
FAILURES_LISTED = 20  # at the end


def main() -> None:
    """Run the command line."""
    run_command(run, "propose_settings", ProposeSettings)


@hydra.main(config_path=CONFIG_DIR, config_name="propose", version_base="1.3")
def run(settings: Any) -> None:
    """Propose regions as the settings say; an error is logged, and a sweep continues."""
    attempt(
        lambda: propose_all(settings) == 0,
        log,
        if_interrupted="finished photos are kept, and the same command continues from there",
    )


def propose_all(settings: Any) -> int:
    """Propose regions in every photo that the store lacks, and add them to it.

    Returns:
        The number of photos that failed.

    Raises:
        ValueError: a setting is wrong, there is no photo, or the store has other settings.
        OSError: the store cannot be written to, or a process died.
    """
    _check(settings)
    method = plain_settings("proposals", settings.proposals)
    photos = find_photos(settings)
    output = Path(settings.output).expanduser()
    from rich.console import Console

    from proposals.store.writing import Writer

    console = Console(stderr=True)
    with Writer(output, with_hashes(method)) as writer:
        failed, missing = _fill(writer, photos, method, settings.workers, console)
        with console.status("writing the store"):
            writer.finish(failed)
    stored_before = len(photos.names) - missing
    log.info(
        "%s: %d of %d photos%s, %.1f MB", printable(output), len(photos.names) - len(failed), len(photos.names),
        f" ({stored_before} stored before)" if stored_before else "", output.stat().st_size / 1e6,
    )  # fmt: skip
    if settings.draw > 0:
        readable = replace(photos, names=[name for name in photos.names if name not in failed])
        _draw(readable, output, method, settings.draw, console)
    if failed:
        few = ", ".join(map(printable, list(failed)[:FAILURES_LISTED]))
        more = ", …" if len(failed) > FAILURES_LISTED else ""
        log.error(
            "error: %d of %d photos failed, another run tries them again: %s%s", len(failed), missing, few, more
        )  # fmt: skip
    return len(failed)


def _check(settings: Any) -> None:
    """Raise a `ValueError` where a setting is out of its range."""
    if not settings.output.strip():
        raise ValueError("output= is empty")
    if settings.workers is not None and settings.workers < 0:
        raise ValueError(f"workers must be at least 0, got {settings.workers}")
    if settings.draw < 0:
        raise ValueError(f"draw must be at least 0, got {settings.draw}")


def with_hashes(method: dict[str, Any]) -> dict[str, Any]:
    """Settings of a method in which the names of weights are followed by a hash of their content.

    So a store knows whether weights have changed since.
    """
    signed = dict(method)
    for name in WEIGHTS & method.keys():
        path = Path(str(method[name]))
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


def _fill(
    writer: "Writer", photos: "Photos", method: dict[str, Any], workers: int | None, console: "Console"
) -> tuple[dict[str, str], int]:
    """Add the photos that a store lacks.

    Returns:
        The error of each photo that failed, by its name, and the number of photos that the store lacked.
    """
    from grounding.processes import cores
    from proposals.store.workers import Work, stretched_stamp

    names = photos.names
    if writer.stamps:  # otherwise there is no need to look at every file
        stamps = (stretched_stamp(photos.folder / name, photos.sizes.get(name)) for name in names)
        names = [name for name, stamp in zip(names, stamps, strict=True) if stamp not in writer.stamps]
    if not names:
        return {}, 0
    processes = min(cores() if workers is None else workers, len(names))
    store = writer.path if writer.path.exists() else None
    work = Work(method, photos.folder, store, photos.sizes)
    return _propose(writer, names, work, processes, console), len(names)


def _propose(writer: "Writer", names: list[str], work: "Work", processes: int, console: "Console") -> dict[str, str]:
    """Propose regions in photos and add them to a store; the error of each photo that failed, by its name."""
    from proposals.store.workers import Failure, propose_each

    failed: dict[str, str] = {}
    photos = regions = 0
    started = time.monotonic()
    with _progress(len(names), console) as advance:
        for result in propose_each(names, work, processes=processes):
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
        log.info("%.0f regions a photo on average, %.3g seconds a photo", regions / photos, seconds)
    return failed


def _draw(photos: "Photos", store: Path, method: dict[str, Any], count: int, console: "Console") -> None:
    """Draw the best regions of each photo, in the run's folder."""
    from rich.progress import track

    from grounding.images import load_image, stretch
    from proposals import Stored
    from proposals.draw import draw_regions

    folder = Path(HydraConfig.get().runtime.output_dir)
    stored, propose = Stored(store), build_part(method)
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
    """Show a bar with photos, photos a second and the time left; the function that is yielded advances it by one."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}"), TimeRemainingColumn())
    started = time.monotonic()
    with Progress("proposing", *columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total, pace="")

        def advance() -> None:
            done = bar.tasks[0].completed + 1
            bar.update(task, advance=1, pace=f"{done / (time.monotonic() - started):.3g} photos/s")

        # The bar has replaced sys.stderr: what is logged to it appears above the bar.
        handlers = [] if bar.disable else [h for h in log.root.handlers if type(h) is logging.StreamHandler]
        before = [handler.setStream(sys.stderr) for handler in handlers]
        try:
            yield advance
        finally:
            for handler, stream in zip(handlers, before, strict=True):
                handler.setStream(stream or sys.stderr)


if __name__ == "__main__":
    main()
