"""Reading checkpoints."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from grounding.checkpoint.network import build_network, describe_mismatch, head_tensors, storable_tensors
from grounding.checkpoint.settings import SETTINGS, VOCABULARY, WEIGHTS, CheckpointSettings, read_settings
from grounding.messages import one_line
from grounding.models import Classifier, head_of
from grounding.vocabulary import read_vocabulary

PACKAGED = Path(__file__).resolve().parent.parent / "weights"  # checkpoints that come with the package, by name


def load_checkpoint(
    *,
    checkpoint: str | Path,
    layer: str | None = None,
    window: int | Literal["as trained"] | None = "as trained",
    short_side: int | None = None,
    output_stride: int | Literal["as trained"] | None = "as trained",
) -> Classifier:
    """Load the classifier of a checkpoint, in evaluation mode.

    Args:
        checkpoint: the folder, or the name of a checkpoint that comes with the package.
        layer: the module at which attention stops; None for the one in the checkpoint.
        window: width of the sliding classifier's window in cells; None for a classifier that sees the whole photo.
        short_side: pixels to which a photo's shorter side is scaled; None for the size in the checkpoint.
        output_stride: pixels a cell of the last map, 8, 16 or 32; None for the network's own stride.

    Raises:
        ValueError: there is no such checkpoint, or it is damaged.

    >>> classifier = load_checkpoint(checkpoint="efficientnet_lite2_tags")
    >>> classifier.layer, classifier.short_side, "dog" in classifier.vocabulary
    ('blocks.5.0.bn1', 400, True)
    """
    folder = _find(checkpoint)
    settings = read_settings(folder / SETTINGS)
    if output_stride != "as trained":
        settings = replace(settings, architecture=replace(settings.architecture, output_stride=output_stride))
    vocabulary = read_vocabulary(folder / VOCABULARY)
    tensors = _read_weights(folder / WEIGHTS)
    try:
        network = build_network(settings, vocabulary.size)
    except ValueError as error:
        raise ValueError(f"{folder / SETTINGS}: {error}") from None
    try:
        _set_weights(network, tensors, vocabulary.size, settings)
    except ValueError as error:
        raise ValueError(f"{folder / WEIGHTS}: {error}") from None
    return Classifier(
        network.eval(),
        vocabulary,
        layer=settings.layer if layer is None else layer,
        window=settings.window if window == "as trained" else window,
        mean=settings.mean,
        std=settings.std,
        short_side=settings.short_side if short_side is None else short_side,
        architecture=settings.architecture,
        pooling=settings.pooling,
        exclusive=settings.kept,
    )


def _find(checkpoint: str | Path) -> Path:
    name = str(checkpoint)
    is_name = name == Path(name).name
    packaged = PACKAGED / name
    folder = packaged if is_name and (packaged / SETTINGS).is_file() else Path(name).expanduser()
    if not name or not folder.is_dir():
        names = sorted(path.parent.name for path in PACKAGED.glob(f"*/{SETTINGS}"))
        raise ValueError(
            f"no checkpoint {name!r}: there is no such folder, and the package has {', '.join(names) or 'none'}"
        )
    missing = [part for part in (SETTINGS, VOCABULARY, WEIGHTS) if not (folder / part).is_file()]
    if missing:
        raise ValueError(f"{folder} is not a checkpoint (python -m train writes them): it lacks {', '.join(missing)}")
    return folder


def _read_weights(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: truncated, or not safetensors: {one_line(error)}") from None


def _set_weights(network: nn.Module, tensors: dict[str, Tensor], units: int, settings: CheckpointSettings) -> None:
    """Copy the stored tensors into a network of `build_network`; those that are not stored are the base's.

    Raises:
        ValueError: the tensors are those of another network, or are not finite.
    """
    storable = storable_tensors(network, units, settings)  # views of the network's own tensors
    needed = storable.keys() if settings.base is None else {*head_tensors(network, units), *tensors}
    expected = {name: value for name, value in storable.items() if name in needed}
    head = head_of(network, units)[0] + ".weight"
    found = tensors[head].shape if head in tensors else expected[head].shape
    if found != expected[head].shape and found[1:] == expected[head].shape[1:]:
        count = found[0] + settings.kept
        raise ValueError(f"the network has {count} units, but {VOCABULARY} has {units}: a wrong vocabulary?")
    mismatch = describe_mismatch(tensors, expected)
    if mismatch:
        raise ValueError(f"{mismatch}; a checkpoint of another architecture?")
    state = network.state_dict()
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinity")
        expected[name].copy_(value)
        if settings.kept and name in head_tensors(network, units):
            # The packaged rows get the precision of the stored ones, with which they compete.
            rows = state[name][-settings.kept :]
            rows.copy_(rows.to(value.dtype))
