"""Train the edge network on BSDS500: ``python -m train task=edges task.bsds=FOLDER``.

The backbone starts from EfficientNet-Lite2's ImageNet weights, which come with a package. A step sees crops that are
turned, scaled and mirrored at random (`train.crops`).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from grounding.files import write_file
from grounding.limits import check_limits
from grounding.models import efficientnet_lite2
from proposals.edges.network import EdgeNetwork, side_losses
from train.averaging import averaged_model
from train.bsds import find_photos
from train.crops import SegmentedPhoto, crop_batch, load_photo
from train.progress import progress_bar
from train.state import TrainingState, resume_training, save_training

OUTPUT_WEIGHTS = (1.0, 0.5, 0.3, 0.3, 0.3, 0.3)  # of the losses: fused, finest, and the sides from coarse to fine
MAX_GRADIENT = 5.0  # highest norm
SAVE_EVERY = 200  # steps


@dataclass(frozen=True)
class EdgeTraining:
    """Hyperparameters of the edge network's training.

    Args:
        steps: number of steps.
        batch_size: crops in a step.
        crop: side of a crop in pixels.
        learning_rate: the highest, of the new layers; the backbone's is a fifth of it.
        weight_decay: weight decay of the optimiser.
        positive: weight of an edge pixel, relative to one without an edge.
        ema_decay: decay of the running average of weights over steps.
        seed: determines everything that is random.
    """

    steps: int = 4000
    batch_size: int = 4
    crop: int = 320
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    positive: float = 10.0
    ema_decay: float = 0.998
    seed: int = 0

    def __post_init__(self) -> None:
        check_limits(
            "EdgeTraining",
            steps=(self.steps, 1, 10_000_000),
            batch_size=(self.batch_size, 1, 10_000),
            crop=(self.crop, 32, 4096),
            learning_rate=(self.learning_rate, 1e-9, 10),
            weight_decay=(self.weight_decay, 0, 10),
            positive=(self.positive, 1e-3, 1e6),
            ema_decay=(self.ema_decay, 0, 1),
            seed=(self.seed, 0, 2**31),
        )


def train_edges(
    bsds: str,
    output: str,
    *,
    training: EdgeTraining = EdgeTraining(),
    splits: Sequence[str] = ("train", "val"),
    device: str = "cpu",
) -> Path:
    """Train the network, and write its averaged weights; a stopped run is resumed from its state, ``OUTPUT.state``.

    Args:
        bsds: the folder that holds BSDS500's ``images`` and ``groundTruth``.
        output: the file for the weights, safetensors in half precision.
        training: hyperparameters.
        splits: the splits of BSDS500 that are trained on.
        device: on which the network is trained.

    Returns:
        the file.

    Raises:
        ValueError: BSDS500 is not there, or the state belongs to other settings.
        OSError: the disk is full.
    """
    photos = [load_photo(path) for path in find_photos(bsds, *splits)]
    settings = {**asdict(training), "splits": list(splits), "photos": len(photos)}
    state = _initial_state(training, device)
    target = Path(output)
    target.parent.mkdir(parents=True, exist_ok=True)
    state_path = target.with_name(target.name + ".state")
    if state_path.exists():
        resume_training(state_path, state, settings, run=state_path)
    with progress_bar(is_shown=True) as progress:
        bar = progress.add_task("edges", total=training.steps, completed=state.step, about="")
        losses: list[float] = []
        while state.step < training.steps:
            losses = [*losses[-49:], _take_step(photos, training, state, device)]
            progress.update(bar, completed=state.step, about=f"loss {fmean(losses):.4f}")
            if state.step % SAVE_EVERY == 0 or state.step == training.steps:
                write_file(target, _averaged_weights(state, settings))
                save_training(state_path, state, settings)
    if not target.exists():  # the run had ended before, and its weights were lost since
        write_file(target, _averaged_weights(state, settings))
    return target


def _initial_state(training: EdgeTraining, device: str) -> TrainingState:
    """The network with ImageNet's weights in its backbone, its running average, its optimiser and schedule."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = _with_imagenet_weights(EdgeNetwork())
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = averaged_model(network, training.ema_decay)
    backbone = [*network.stem.parameters(), *network.stages.parameters()]
    in_backbone = {id(weight) for weight in backbone}
    new = [weight for weight in network.parameters() if id(weight) not in in_backbone]
    rates = [training.learning_rate, training.learning_rate / 5]
    optimiser = torch.optim.AdamW(
        [{"params": new, "lr": rates[0]}, {"params": backbone, "lr": rates[1]}], weight_decay=training.weight_decay
    )
    schedule = OneCycleLR(optimiser, rates, total_steps=training.steps, pct_start=0.1)
    return TrainingState(network.train(), optimiser, schedule, average)


def _with_imagenet_weights(network: EdgeNetwork) -> EdgeNetwork:
    """The network with the weights of the packaged EfficientNet-Lite2 in its backbone."""
    whole = efficientnet_lite2()
    network.stem.load_state_dict(nn.Sequential(whole.conv_stem, whole.bn1).state_dict())
    network.stages.load_state_dict(nn.ModuleList(whole.blocks[:4]).state_dict())
    return network


def _take_step(photos: list[SegmentedPhoto], training: EdgeTraining, state: TrainingState, device: str) -> float:
    """Change the weights by one batch of crops; returns its loss."""
    assert state.average is not None
    images, consensus = crop_batch(
        photos, step=state.step, batch_size=training.batch_size, size=training.crop, seed=training.seed
    )
    logits = state.network(images.to(device, memory_format=torch.channels_last))
    loss = side_losses(logits, consensus.to(device), positive=training.positive, weights=OUTPUT_WEIGHTS)
    state.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), MAX_GRADIENT)
    state.optimiser.step()
    state.schedule.step()
    state.average.update_parameters(state.network)
    state.step += 1
    return loss.item()


def _averaged_weights(state: TrainingState, settings: dict[str, Any]) -> bytes:
    """The averaged weights in half precision, as the content of a safetensors file."""
    from safetensors.torch import save

    assert state.average is not None
    weights = state.average.module.state_dict()
    half = {name: value.half().contiguous() for name, value in weights.items() if value.is_floating_point()}
    return save(half, {"steps": str(state.step), "settings": json.dumps(settings)})
