"""``python -m grounding data=manifest``: ground the captions of an archive, with progress and a summary."""

import logging
from pathlib import Path
from typing import Any

from grounding.batch.parts import read_answers
from grounding.batch.run import Archive, Progress, ground_archive
from grounding.config import grounder_settings, plain_settings
from grounding.export.writing import Exports, read_exports, write_exports
from grounding.messages import printable

log = logging.getLogger("grounding")


def ground_data(settings: Any, choice: str, folder: Path) -> bool:
    """Ground the archive that settings name, show the progress, and log a summary.

    Args:
        settings: the settings of the command.
        choice: the option of ``data=``.
        folder: the folder of the run, for pictures.

    Returns:
        True: every row has its answer, which may be an error.

    Raises:
        ValueError: a setting is wrong or missing, or the output has answers of other settings.
        OSError: answers cannot be written.
    """
    check_archive(settings, choice)
    exports = read_exports(settings)
    done = ground_with_ray(settings) if settings.runner == "ray" else ground_here(settings, folder)
    log.info("%s rows, %s; the answers are in %s", f"{done.rows:,}", told(done), printable(settings.output))
    if exports is not None:
        export_answers(Path(settings.output).expanduser(), exports)
    return True


def ground_here(settings: Any, folder: Path) -> Progress:
    """Ground an archive on this machine, with a bar of progress; see `ground_data`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from grounding.batch.reading import count_rows

    archive = read_archive(settings)
    total = count_rows(archive.path)
    columns = (
        TextColumn("rows"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"), TimeRemainingColumn()
    )  # fmt: skip
    done = None
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("rows", total=total, told="loading the model")
        for done in ground_archive(archive, grounder_settings(settings), folder / "pictures"):
            bar.update(task, completed=done.rows, told=told(done))
    assert done is not None
    return done


def export_answers(output: Path, exports: Exports) -> None:
    """Write the answers of an archive, one row at a time, to the files of other formats.

    Args:
        output: the file of answers; the exports go to a folder beside it.
        exports: the formats.

    Raises:
        ValueError: the file of answers cannot be read.
        OSError: the exports cannot be written.
    """
    folder = output.with_name(f"{output.name}.export")
    write_exports(read_answers(output), exports, folder)
    log.info("the exports are in %s", printable(folder))


def ground_with_ray(settings: Any) -> Progress:
    """Ground an archive on a cluster, see `ground_data`; Ray shows the progress."""
    from grounding.batch.cluster import Cluster, ground_on_cluster

    for name, default in (("export", None), ("workers", None), ("pictures", 0)):
        if settings[name] != default:
            raise ValueError(f"{name}= is a setting of runner=local alone")
    cluster = Cluster(**plain_settings("cluster", settings.cluster), part_rows=settings.part_rows)
    path = str(plain_settings("data", settings.data)["path"])
    return ground_on_cluster(path, settings.output, grounder_settings(settings), cluster)


def told(progress: Progress) -> str:
    """The rate and the errors so far.

    >>> told(Progress(rows=50, errors=1, answered=30, seconds=20.0))
    '1.5 photos/s, 1 error'
    """
    rate = f"{progress.answered / progress.seconds:.3g} photos/s, " if progress.seconds else ""
    return f"{rate}{progress.errors:,} error{'' if progress.errors == 1 else 's'}"


def check_archive(settings: Any, choice: str) -> None:
    """Check the settings that any runner needs.

    Raises:
        ValueError: one is wrong or missing.
    """
    if choice != "manifest":
        raise ValueError(f"data={choice} has no captions: choose data=manifest data.path=captions.jsonl")
    if settings.image or settings.caption or settings.phrases:
        raise ValueError("the rows of data=manifest have photos and captions: leave out image=, caption= and phrases=")
    if not settings.output:
        raise ValueError("name the file of answers: output=regions.parquet, or output=regions.jsonl")
    if settings.runner not in ("local", "ray"):
        raise ValueError(f"runner={settings.runner}: choose runner=local or runner=ray")


def read_archive(settings: Any) -> Archive:
    """The archive that settings name.

    Raises:
        ValueError: a setting is wrong or missing.
    """
    return Archive(
        path=str(plain_settings("data", settings.data)["path"]),
        output=Path(settings.output).expanduser(),
        part_rows=settings.part_rows,
        workers=settings.workers,
        pictures=settings.pictures,
    )
