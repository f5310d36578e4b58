"""Ground an archive on a cluster: `ground_batch` in actors of Ray Data, which keeps a checkpoint (docs/cluster.md).

The archive is in Parquet, and each row has an ``id``, a whole number that no other row has. The answers are a folder of
Parquet files with the columns of `grounding.batch.parts.schema`. Two things lie beside that folder: ``NAME.made.json``
tells what made the answers, and ``NAME.checkpoint-FINGERPRINT`` is Ray's checkpoint, the ids of the rows that are
answered.
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grounding.batch.parts import as_columns, schema
from grounding.batch.reading import resolve_image
from grounding.batch.rows import TEXTS, ground_batch
from grounding.batch.run import Progress, fingerprint, used_settings
from grounding.config import GrounderSettings
from grounding.messages import one_line
from grounding.pipeline import Grounder
from grounding.processes import cores

COLUMNS = ("id", "image", *TEXTS)  # of the archive; others are not read
LIGHT_TASKS = 3  # of Ray Data beside the actors, for each of which it counts a core: reading, skipping and writing rows


@dataclass(frozen=True)
class Cluster:
    """Where an archive is grounded, and in what portions.

    Args:
        address: address of a Ray cluster; None: a Ray of this machine, for this run alone.
        actors: number of actors, each with a grounder and one core; None: one for each core of this machine, or as many
            as the cluster has room for.
        gpus: share of a GPU that each actor has; 0.1 lets ten actors share one.
        part_rows: number of rows that an actor is given at once, whose answers are one file. What an actor that is
            killed has not answered of them is done again.

    Raises:
        ValueError: a number makes no sense.
    """

    address: str | None = None
    actors: int | None = None
    gpus: float = 0.0
    part_rows: int = 200

    def __post_init__(self) -> None:
        for name, least in (("actors", 1), ("gpus", 0), ("part_rows", 1)):
            value = getattr(self, name)
            if (name, value) != ("actors", None) and (isinstance(value, bool) or value < least):
                raise ValueError(f"{name} must be at least {least}, got {value!r}")


def ground_on_cluster(path: str, output: str, settings: GrounderSettings, cluster: Cluster) -> Progress:
    """Ground the captions of an archive on a cluster. Rows that earlier runs have answered are skipped.

    Args:
        path: the archive, a Parquet file or a folder of them; a path, or a URL of pyarrow such as ``s3://…``.
        output: the folder of answers; a path or a URL, too.
        settings: of the grounder.
        cluster: the machines.

    Returns:
        What is done. Each row of the archive has one answer, which is checked without Ray.

    Raises:
        ValueError: Ray is not installed, a row has no id of its own, or the output has answers of another archive, of
            another model or of other settings.
        OSError: answers cannot be written, or Ray failed. What is written is kept.
    """
    ray = _ray()
    archive, answers = Place.of(path), Place.of(output)
    wanted = read_ids(archive)
    on_cpu = replace(settings, device="cpu")
    name = fingerprint(on_cpu, Grounder.from_settings(on_cpu))
    made = {"fingerprint": name, "archive": archive.url, "settings": used_settings(settings)}
    told = _open(answers, made)
    if told.get("rows") == len(wanted):
        return Progress(told["rows"], told["errors"], 0, 0.0)
    checkpoint = answers.beside(f".checkpoint-{name}")
    earlier, started = checkpointed(checkpoint), time.monotonic()
    actor = {"settings": settings if cluster.gpus else on_cpu, "name": name, "folder": archive.folder}
    try:
        _start(ray, cluster)
        _run(ray, archive, answers, checkpoint, actor, cluster)
    except Exception as error:  # of any type: those of Ray, and those of actors and file systems that it hands on
        raise ChildProcessError(f"Ray stopped, and finished rows are kept: {_cause(error)}") from None
    finally:
        ray.shutdown()
    if not np.array_equal(read_ids(answers), wanted):
        raise OSError(f"{answers.url}: Ray has lost or doubled rows: remove this folder and {checkpoint.url}")
    errors = count_errors(answers)
    answers.beside(".made.json").write(_as_json(made | {"rows": len(wanted), "errors": errors}))
    return Progress(len(wanted), errors, len(wanted) - earlier, time.monotonic() - started)


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report each run to its makers
    try:
        import ray.data
    except ImportError:
        raise ValueError('runner=ray needs Ray: pip install "phrase-grounding[cluster]"') from None
    return ray


def _start(ray: Any, cluster: Cluster) -> None:
    """Join the cluster, or start a Ray of this machine."""
    if cluster.address is not None:
        ray.init(address=cluster.address, log_to_driver=False)
    else:
        actors = cluster.actors or cores()
        ray.init(address="local", num_cpus=actors + LIGHT_TASKS, include_dashboard=False, log_to_driver=False)


def _run(ray: Any, archive: "Place", answers: "Place", checkpoint: "Place", actor: Any, cluster: Cluster) -> None:
    """Read, ground and write all rows whose ids the checkpoint does not have."""
    from ray.data.checkpoint import CheckpointConfig

    context = ray.data.DataContext.get_current()
    # Kept after success: without it, the same command would write all answers a second time.
    context.checkpoint_config = CheckpointConfig("id", checkpoint.url, delete_checkpoint_on_success=False)
    actors = cluster.actors or (cores() if cluster.address is None else None)
    pool = ray.data.ActorPoolStrategy(size=actors) if actors else ray.data.ActorPoolStrategy(min_size=1)
    columns = [column for column in COLUMNS if column in archive.table().schema.names]
    rows = ray.data.read_parquet(archive.url).select_columns(columns)
    rows = rows.repartition(target_num_rows_per_block=cluster.part_rows)
    rows.map_batches(
        GroundBatch,
        fn_constructor_kwargs=actor,
        compute=pool,
        batch_size=cluster.part_rows,
        batch_format="pyarrow",
        num_cpus=1,
        num_gpus=cluster.gpus or None,
    ).write_parquet(answers.url, compression="zstd")


class GroundBatch:
    """An actor of Ray Data: it builds the grounder once, and answers the rows of one table after the other.

    Args:
        settings: of the grounder.
        name: fingerprint of model and settings where the run was started.
        folder: the folder that relative paths of photos start at.

    Raises:
        ValueError: this machine has other weights.
    """

    def __init__(self, settings: GrounderSettings, name: str, folder: str) -> None:
        import cv2

        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        self._grounder = Grounder.from_settings(settings)
        self._folder = folder
        if fingerprint(settings, self._grounder) != name:
            raise ValueError("a machine of the cluster has other weights than the one that the run was started on")

    def __call__(self, table: Any) -> Any:
        """The answers to the rows of a table of pyarrow, as such a table."""
        import pyarrow as pa

        rows = [row | {"image": resolve_image(row.get("image"), self._folder)} for row in table.to_pylist()]
        return pa.Table.from_pylist(
            list(map(as_columns, ground_batch(self._grounder, rows))), schema=schema(has_text_ids=False)
        )


def _cause(error: BaseException) -> str:
    """The last line of an error of Ray, in which the one of the actor is quoted after a long traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _open(answers: "Place", made: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make ready for answers, or for more of them.

    Returns:
        What is told beside the answers of an earlier run.

    Raises:
        ValueError: there are answers of another archive, model or setting.
    """
    summary = answers.beside(".made.json")
    if not answers.exists() and not summary.exists():
        summary.write(_as_json(made))
        return made
    try:
        told: dict[str, Any] = json.loads(summary.read())
        found = (told["fingerprint"], told["archive"])
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if found != (made["fingerprint"], made["archive"]):
        raise ValueError(
            f"{answers.url}: there are answers of another archive, model or setting: name another output=, or remove "
            f"{answers.url} and {summary.url}"
        )
    return told


def read_ids(table: "Place") -> np.ndarray:
    """The ids of all rows, sorted: (N,) int64.

    Raises:
        ValueError: there is no row, or an id is missing, is no whole number or is that of two rows.
    """
    import pyarrow as pa

    rows = table.table()
    kind = rows.schema.field("id").type if "id" in rows.schema.names else None
    if kind is None or not pa.types.is_signed_integer(kind):
        raise ValueError(f"{table.url}: runner=ray needs a column id of whole numbers (int64), found {kind}")
    ids = rows.to_table(columns=["id"]).column("id")
    if len(ids) == 0 or ids.null_count:
        raise ValueError(f"{table.url}: {'a row has no id' if len(ids) else 'no rows'}")
    found = np.sort(ids.to_numpy().astype(np.int64))
    if (same := np.flatnonzero(found[1:] == found[:-1])).size:
        raise ValueError(f"{table.url}: {same.size} rows have the id of another, such as {found[same[0]]}")
    return found


def count_errors(answers: "Place") -> int:
    """The number of answers that are errors."""
    from pyarrow import dataset

    return int(answers.table().count_rows(filter=dataset.field("error").is_valid()))


def checkpointed(checkpoint: "Place") -> int:
    """The number of rows that the checkpoint tells to be answered; files of unfinished ones have another name."""
    from pyarrow import dataset, fs

    filesystem, path = checkpoint.system()
    files = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    finished = [file.path for file in files if not file.path.endswith(".pending.parquet")]
    return int(dataset.dataset(finished, filesystem=filesystem, format="parquet").count_rows()) if finished else 0


@dataclass(frozen=True)
class Place:
    """A file or a folder, of this machine or of an object storage.

    Args:
        url: an absolute path, or a URL that pyarrow understands.
    """

    url: str

    @staticmethod
    def of(path: str) -> "Place":
        """The place of a path, which may be relative, or of a URL."""
        return Place(path.rstrip("/") if "://" in path else str(Path(path).expanduser().absolute()))

    def beside(self, ending: str) -> "Place":
        """The place whose name has a further ending."""
        return Place(self.url + ending)

    def system(self) -> tuple[Any, str]:
        """The file system of pyarrow, and the path in it.

        Raises:
            ValueError: pyarrow has no file system for this URL.
        """
        from pyarrow import ArrowException, fs

        try:
            filesystem, path = fs.FileSystem.from_uri(self.url)
        except (ArrowException, OSError, ValueError) as error:
            raise ValueError(f"{self.url}: {one_line(error)}") from None
        return filesystem, path

    @property
    def folder(self) -> str:
        """This folder, or the one of this file."""
        from pyarrow import fs

        filesystem, path = self.system()
        return self.url if filesystem.get_file_info(path).type == fs.FileType.Directory else self.url.rpartition("/")[0]

    def exists(self) -> bool:
        """Whether there is such a file, or a folder that is not empty."""
        from pyarrow import fs

        filesystem, path = self.system()
        kind = filesystem.get_file_info(path).type
        return kind == fs.FileType.File or (
            kind == fs.FileType.Directory and bool(filesystem.get_file_info(fs.FileSelector(path)))
        )

    def table(self) -> Any:
        """The rows of a Parquet file, or of a folder of them, as a dataset of pyarrow.

        Raises:
            ValueError: they cannot be read.
        """
        from pyarrow import ArrowException, dataset

        filesystem, path = self.system()
        try:
            return dataset.dataset(path, filesystem=filesystem, format="parquet")
        except (ArrowException, OSError) as error:
            raise ValueError(f"{self.url}: cannot be read as Parquet: {one_line(error)}") from None

    def read(self) -> bytes:
        """The content of a file."""
        filesystem, path = self.system()
        with filesystem.open_input_stream(path) as file:
            return bytes(file.read())

    def write(self, content: bytes) -> None:
        """Write a file, whole or not at all."""
        filesystem, path = self.system()
        filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        with filesystem.open_output_stream(f"{path}.part") as file:
            file.write(content)
        filesystem.move(f"{path}.part", path)


def _as_json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False, indent=1, allow_nan=False, default=str) + "\n").encode()
