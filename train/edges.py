"""Train the edge network on BSDS500: ``python -m train task=edges task.bsds=FOLDER``.

The backbone starts from EfficientNet-Lite2's ImageNet weights, which come as a package. A step looks at crops turned,
scaled and mirrored at random; people's segments are turned with them, and their boundaries drawn anew, one pixel thin.
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grounding.files import write_file
from grounding.images import load_image, to_pixels
from grounding.limits import check_limits
from proposals.bsds import find_photos, read_annotated
from proposals.edges.network import EdgeNetwork, side_losses

NEAR = 2  # pixels, within which people mean the same edge
OUTPUT_WEIGHTS = (1.0, 0.5, 0.3, 0.3, 0.3, 0.3)  # of the losses: fused, finest, and the sides from coarse to fine
SAVE_EVERY = 200  # steps


@dataclass(frozen=True)
class EdgeTraining:
    """How the edge network is trained."""

    steps: int = 4000
    batch: int = 4
    crop: int = 320  # pixels
    rate: float = 2e-3  # highest learning rate, of the new layers; the backbone's is a fifth
    decay: float = 1e-4
    positive: float = 10.0  # weight of an edge pixel
    averaging: float = 0.998  # of the weights over the steps
    seed: int = 0

    def __post_init__(self) -> None:
        check_limits(
            "EdgeTraining",
            steps=(self.steps, 1, 10_000_000),
            batch=(self.batch, 1, 10_000),
            crop=(self.crop, 32, 4096),
            rate=(self.rate, 1e-9, 10),
            positive=(self.positive, 1e-3, 1e6),
            averaging=(self.averaging, 0, 1),
        )


def train_edges(
    bsds: str,
    output: str,
    *,
    training: EdgeTraining = EdgeTraining(),
    splits: Sequence[str] = ("train", "val"),
    device: str = "cpu",
) -> Path:
    """Train, and write the averaged weights; a killed run goes on from its last checkpoint, ``OUTPUT.state``.

    Args:
        bsds: the folder that holds BSDS500's ``images`` and ``groundTruth``.
        output: the file for the weights, safetensors of half precision.
        training: how.
        splits: of BSDS500 to train on.
        device: where to.

    Raises:
        ValueError: BSDS500 is not there, or the state belongs to other settings.
    """
    photos = [_load(path) for path in find_photos(bsds, *splits)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = _with_imagenet_weights(EdgeNetwork())
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    backbone = [*network.stem.parameters(), *network.stages.parameters()]
    own = {id(p) for p in backbone}
    new = [p for p in network.parameters() if id(p) not in own]
    optimiser = torch.optim.AdamW(
        [{"params": new, "lr": training.rate}, {"params": backbone, "lr": training.rate / 5}],
        weight_decay=training.decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, [training.rate, training.rate / 5], total_steps=training.steps, pct_start=0.1
    )
    target = Path(output)
    target.parent.mkdir(parents=True, exist_ok=True)
    state = target.with_name(target.name + ".state")
    signature = json.dumps({**asdict(training), "splits": list(splits), "photos": len(photos)})
    first = _resume(state, signature, network, average, optimiser, schedule) if state.exists() else 0
    network.train()
    from rich.progress import Progress, TextColumn

    with Progress(*Progress.get_default_columns(), TextColumn("{task.fields[loss]}")) as progress:
        bar = progress.add_task("edges", total=training.steps, completed=first, loss="")
        running = 0.0
        for step in range(first, training.steps):
            images, consensus = _batch(photos, training, step)
            logits = network(images.to(device, memory_format=torch.channels_last))
            loss = side_losses(logits, consensus.to(device), positive=training.positive, weights=OUTPUT_WEIGHTS)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            keep = min(training.averaging, (1 + step) / (10 + step))
            with torch.no_grad():
                for name, value in network.state_dict().items():
                    average[name].lerp_(value.to(average[name].dtype), 1 - keep) if value.is_floating_point() else None
            running = loss.item() if step == first else 0.98 * running + 0.02 * loss.item()
            progress.update(bar, advance=1, loss=f"loss {running:.4f}")
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == training.steps:
                write_file(target, _half(average, step + 1, signature))
                _save_state(state, signature, step + 1, network, average, optimiser)
    if not target.exists():  # finished before, and lost since
        write_file(target, _half(average, first, signature))
    return target


def _half(average: dict[str, Tensor], step: int, signature: str) -> bytes:
    """Weights in half precision, as safetensors."""
    from safetensors.torch import save

    half = {name: value.half().contiguous() for name, value in average.items() if value.is_floating_point()}
    return save(half, {"steps": str(step), "settings": signature})


def _with_imagenet_weights(network: EdgeNetwork) -> EdgeNetwork:
    """The backbone with the weights of the packaged EfficientNet-Lite2."""
    from grounding.models import efficientnet_lite2

    whole = efficientnet_lite2()
    network.stem.load_state_dict(torch.nn.Sequential(whole.conv_stem, whole.bn1).state_dict())
    network.stages.load_state_dict(torch.nn.ModuleList(whole.blocks[:4]).state_dict())
    return network


@dataclass(frozen=True, eq=False)
class _Photo:
    pixels: NDArray[np.uint8]  # (H, W, 3)
    segments: NDArray[np.int16]  # (H, W, people), from 1


def _load(path: Path) -> _Photo:
    pixels = to_pixels(load_image(path))
    return _Photo(pixels, np.ascontiguousarray(read_annotated(path).segments.transpose(1, 2, 0).astype(np.int16)))


def _batch(photos: list[_Photo], training: EdgeTraining, step: int) -> tuple[Tensor, Tensor]:
    """The crops of a step, the same whenever it is taken: every photo once before any comes again."""
    crops = []
    for position in range(step * training.batch, (step + 1) * training.batch):
        epoch, index = divmod(position, len(photos))
        photo = photos[np.random.default_rng((training.seed, epoch)).permutation(len(photos))[index]]
        crops.append(_crop(photo, training.crop, np.random.default_rng((training.seed, 1, position))))
    images = torch.from_numpy(np.stack([pixels for pixels, _ in crops])).permute(0, 3, 1, 2).float() / 255
    return images, torch.from_numpy(np.stack([consensus for _, consensus in crops]))[:, None]


def _crop(photo: _Photo, size: int, random: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A square of the photo, turned, scaled and mirrored, and the consensus of its edges, -1 outside the photo."""
    height, width = photo.pixels.shape[:2]
    scale = 2 ** random.uniform(-0.8, 0.8)
    angle = random.choice([0, 90, 180, 270]) + random.choice([0, random.uniform(-45, 45)])
    mirror = random.choice([-1, 1])
    # A window whose centre keeps it inside the photo where it fits.
    reach = min(size / 2 / scale, height / 2, width / 2)
    centre = random.uniform([reach, reach], [width - reach + 1e-6, height - reach + 1e-6])
    turn = scale * np.array(
        [
            [np.cos(np.radians(angle)), -np.sin(np.radians(angle))],
            [np.sin(np.radians(angle)), np.cos(np.radians(angle))],
        ]
    )
    turn[:, 0] *= mirror
    matrix = np.hstack([turn, ((size - 1) / 2 - turn @ centre)[:, None]])
    shape = (size, size)
    source = cv2.GaussianBlur(photo.pixels, (0, 0), 0.4 / scale) if scale < 0.7 else photo.pixels
    turned = cv2.warpAffine(source, matrix, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    segments = np.stack(
        [
            cv2.warpAffine(
                np.ascontiguousarray(photo.segments[..., person]), matrix, shape, flags=cv2.INTER_NEAREST, borderValue=0
            )
            for person in range(photo.segments.shape[2])
        ]
    )
    return _recolour(turned, random), consensus_of(segments)


def _recolour(pixels: NDArray[Any], random: np.random.Generator) -> NDArray[np.uint8]:
    gain, offset = random.uniform(0.7, 1.3), random.uniform(-20, 20)
    colour = random.uniform(0, 1.3)
    grey = pixels.astype(np.float32).mean(2, keepdims=True)
    mixed: NDArray[np.float32] = (grey + colour * (pixels - grey)) * gain + offset
    return mixed.clip(0, 255).astype(np.uint8)


def consensus_of(segments: NDArray[Any]) -> NDArray[np.float32]:
    """How many of the people drew an edge near each pixel of somebody's edge.

    Shapes:
        segments: (people, H, W), from 1; 0 where there is no photo.
        returns: (H, W), the share of people, 0 where nobody drew an edge and -1 where there is no photo.
    """
    outside = (segments == 0).any(0)
    drawn = np.zeros(segments.shape, np.uint8)
    drawn[:, :-1] |= segments[:, :-1] != segments[:, 1:]
    drawn[:, :, :-1] |= segments[:, :, :-1] != segments[:, :, 1:]
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * NEAR + 1, 2 * NEAR + 1))
    support = np.mean([cv2.dilate(person, disc) for person in drawn], axis=0)
    consensus = np.where(drawn.any(0), support, 0).astype(np.float32)
    consensus[cv2.dilate(outside.astype(np.uint8), disc) > 0] = -1
    return consensus


def _save_state(
    path: Path,
    signature: str,
    step: int,
    network: EdgeNetwork,
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
) -> None:
    from safetensors.torch import save

    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in moments.items()}
    write_file(path, save({n: v.contiguous() for n, v in tensors.items()}, {"step": str(step), "settings": signature}))


def _resume(
    path: Path,
    signature: str,
    network: EdgeNetwork,
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> int:
    """Put everything back as it was after the last checkpoint; which step comes next."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            header = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: no state of a training run ({error}); delete it to begin anew") from None
    if header.get("settings") != signature:
        raise ValueError(f"{path} belongs to other settings; delete it, or choose another output")
    part = {kind: {} for kind in ("network", "average", "optimiser")}  # type: ignore[var-annotated]
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        part[kind][rest] = value
    network.load_state_dict(part["network"])
    for name, value in part["average"].items():
        average[name].copy_(value)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in part["optimiser"].items():
        index, _, moment = name.partition(".")
        state.setdefault(int(index), {})[moment] = value
    step = int(header["step"])
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the optimiser has taken no step before the schedule's: it did
        for _ in range(step):
            schedule.step()
    return step
