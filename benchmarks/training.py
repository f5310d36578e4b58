"""Speed of training a tag classifier: photos a second end to end, against bare steps and against the loader alone.

    python benchmarks/training.py [--model googlenet] [--steps 3] [--photos FOLDER] [--device cuda] [--compile]

One line for each of:

loader alone     `train.loading`'s batches, which nothing trains on, with the trainer's workers; also for each second of
                 a core's time, which a busy machine does not change, and how many such cores the bare steps need
bare steps       forward, loss, backward and optimiser on one batch that stays on the device: the ceiling
end to end       `train.loop.train_tags` itself, by its own log; and its share of the ceiling
the vocabulary   a bare step with 100 units beside one with all, and the loss alone, forward and backward

Photos are random windows of scikit-image's, 64 JPEGs of 500×375 pixels, or those of a folder, over and over; weights
are random where torchvision's would be downloaded (speed does not depend on them). Each number is the median of up to
five rounds after a warm-up; bare steps take turns, so that a busy machine harms all alike. A GPU computes in single
precision and in bfloat16.
"""

import argparse
import csv
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from rich import box
from rich.console import Console
from rich.table import Table
from train.loading import Batch, batches_of_photos, usual_workers

import train.loop
from grounding.examples import example_photos
from grounding.models import Classifier, efficientnet_lite2_imagenet, torchvision_classifier, with_units
from grounding.photos import photos_below
from grounding.vocabulary import Vocabulary
from train.data import Tagged, TaggedPhotos
from train.loop import tag_loss, train_tags
from train.recipe import TagTraining
from train.vocabulary import TagVocabulary, build_vocabulary

FEW_UNITS = 100
ROUNDS = 5

Step = Callable[[], None]


@dataclass(frozen=True)
class Bare:
    """Seconds of what is done with a batch that is there."""

    step: float
    step_of_few: float  # with FEW_UNITS units
    loss: float


def make_photos(folder: Path) -> None:
    """Write 64 JPEGs of 500×375 pixels."""
    random = np.random.default_rng(0)
    photos = [Image.open(path).convert("RGB") for path in example_photos()]
    for number in range(64):
        photo = photos[number % len(photos)]
        width, height = photo.width * 3 // 4, photo.height * 3 // 4
        left, top = int(random.integers(photo.width - width)), int(random.integers(photo.height - height))
        window = photo.crop((left, top, left + width, top + height))
        ImageOps.fit(window, (500, 375)).save(folder / f"{number}.jpg", quality=90)


def tagged(folder: Path, names: list[str], count: int, units: int) -> TaggedPhotos:
    """So many photos; each has five tags, or more where it takes more for all ``units`` words to be some photo's."""
    each = max(5, -(-units // count))
    photos = [
        Tagged(names[k % len(names)], tuple(f"word{(each * k + i) % units}" for i in range(each))) for k in range(count)
    ]
    return TaggedPhotos(folder, photos, missing=())


def measure_loader(
    data: TaggedPhotos, vocabulary: TagVocabulary, training: TagTraining, workers: int
) -> tuple[float, float, Batch]:
    """Photos a second, photos for each second of a core's time, and a batch."""
    who = resource.RUSAGE_CHILDREN if workers else resource.RUSAGE_SELF
    before = resource.getrusage(who)
    batches = batches_of_photos(data, vocabulary, training.view, batch=training.batch, seed=0, epoch=0, workers=workers)
    for _ in range(max(1, workers)):  # by then each worker is at work
        kept = next(batches)
    start = time.perf_counter()
    photos = sum(len(batch) for batch in batches)
    seconds = time.perf_counter() - start
    after = resource.getrusage(who)
    of_cores = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return photos / seconds, len(data) / of_cores, kept


def bare_step(classifier: Classifier, units: int, batch: Batch, training: TagTraining, device: torch.device) -> Step:
    """A step of a network with so many units on a batch that stays on the device."""
    network = with_units(classifier, Vocabulary({}, units)).network
    network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(network.parameters(), training.rate, training.momentum, weight_decay=training.decay)
    inputs = (batch.inputs.to(device).float() / 128 - 1).contiguous(memory_format=torch.channels_last)
    present, weights = (batch.units % units).to(device), batch.weights.to(device)
    run = torch.compile(network) if training.compile else network
    is_half = training.precision == "bfloat16"

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=is_half):
            responses = run(inputs)
        tag_loss(responses.float(), present, weights).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def bare_loss(units: int, batch: Batch, device: torch.device) -> Step:
    """The loss of a batch and its gradient."""
    responses = torch.randn(len(batch), units, device=device, requires_grad=True)
    present, weights = batch.units.to(device), batch.weights.to(device)

    def step() -> None:
        responses.grad = None
        tag_loss(responses, present, weights).mean().backward()  # type: ignore[no-untyped-call]

    return step


def median_seconds(contestants: list[Step], rounds: int, each: int, device: torch.device) -> list[float]:
    """Seconds of a step of each contestant: the median of rounds of ``each`` steps, after one to warm up."""
    seconds: list[list[float]] = [[] for _ in contestants]
    for _ in range(rounds + 1):
        for step, own in zip(contestants, seconds, strict=True):
            start = time.perf_counter()
            for _ in range(each):
                step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            own.append((time.perf_counter() - start) / each)
    return [statistics.median(own[1:]) for own in seconds]


def measure_trainer(
    classifier: Classifier, data: TaggedPhotos, units: int, training: TagTraining, each: int, device: torch.device
) -> float:
    """Photos a second of the trainer, the median of its log's rows of ``each`` steps after the first."""
    train.loop.REPORT_EVERY = each
    with tempfile.TemporaryDirectory() as folder:
        written = train_tags(
            f"{folder}/tags",
            model=classifier,
            data=data,
            validation=replace(data, photos=data.photos[:2]),
            words=units,
            lemmatise=False,
            training=training,
            device=str(device),
        )
        with open(written / "training" / "log.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    return statistics.median(float(row["photos_per_second"]) for row in rows[1:])


def chosen_model(name: str) -> Classifier:
    """The classifier whose network is trained."""
    if name == "lite2":
        return efficientnet_lite2_imagenet(layer="blocks.5.0.bn1", window=8, short_side=400)
    return torchvision_classifier(name=name, weights=None, layer="maxpool2", window=7, short_side=300)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("googlenet", "lite2"), default="googlenet")
    parser.add_argument("--units", type=int, default=18_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, help="beside a warm-up (3, on a GPU 500)")
    parser.add_argument("--photos", metavar="FOLDER")
    parser.add_argument("--workers", type=int, default=usual_workers(), help="of the loader (%(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="bfloat16 with torch.compile, too")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    steps = arguments.steps or (500 if device.type == "cuda" else 3)
    rounds, each = min(ROUNDS, steps), max(1, steps // ROUNDS)
    # The trainer's size of photos; the rate is low and in no need of validation, as nothing is to be learned.
    training = TagTraining(
        epochs=1, batch=arguments.batch, rate=1e-4, schedule="cosine", workers=arguments.workers, save_every=10**9
    )
    ways = [replace(training, precision="single")]
    if device.type == "cuda":
        ways.append(replace(training, precision="bfloat16"))
    if arguments.compile:
        ways.append(replace(training, precision="bfloat16", compile=True))

    torch.manual_seed(0)
    torch.set_flush_denormal(True)  # as the trainer does
    classifier = chosen_model(arguments.model)
    with tempfile.TemporaryDirectory() as made:
        if arguments.photos is None:
            make_photos(Path(made))
        photos = photos_below(arguments.photos or made)
        loaded, trained = (
            tagged(photos.folder, photos.names, arguments.batch * batches, arguments.units)
            for batches in (8 * max(1, arguments.workers), (rounds + 1) * each)
        )
        vocabulary = build_vocabulary(
            (photo.tags for photo in loaded.photos), size=arguments.units, least=1, lemmatise=False
        )
        speed, of_core, batch = measure_loader(loaded, vocabulary, training, arguments.workers)
        bare, end_to_end = [], []
        for way in ways:
            contestants = [
                *(bare_step(classifier, units, batch, way, device) for units in (arguments.units, FEW_UNITS)),
                bare_loss(arguments.units, batch, device),
            ]
            bare.append(Bare(*median_seconds(contestants, rounds, each, device)))
            del contestants
            end_to_end.append(measure_trainer(classifier, trained, arguments.units, way, each, device))

    ceilings = [arguments.batch / one.step for one in bare]
    of_loader = f"loader alone ({arguments.workers} workers), photos/s"
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    console = Console(width=100, highlight=False)
    console.print(
        f"{arguments.model}, {arguments.units} units, batches of {arguments.batch}, crop {training.crop}\n"
        f"torch {torch.__version__} on {device}, {where}; {rounds} rounds, steps in each: {each}"
    )
    table = Table(box=box.SIMPLE)
    table.add_column("")
    for way in ways:
        table.add_column(way.precision + (", compiled" if way.compile else ""), justify="right")
    table.add_row(of_loader, *(f"{speed:.0f}" for _ in ways))
    table.add_row("  for each second of a core", *(f"{of_core:.0f}" for _ in ways))
    table.add_row("  cores that keep up with bare steps", *(f"{ceiling / of_core:.2f}" for ceiling in ceilings))
    table.add_row("bare steps, photos/s", *(f"{ceiling:.1f}" for ceiling in ceilings))
    table.add_row("end to end, photos/s", *(f"{one:.1f}" for one in end_to_end))
    shares = [one / ceiling for one, ceiling in zip(end_to_end, ceilings, strict=True)]
    table.add_row("  share of bare steps", *(f"{share:.2f}" for share in shares))
    table.add_row(f"a bare step, {arguments.units} units, ms", *(f"{1e3 * one.step:.1f}" for one in bare))
    table.add_row(f"a bare step, {FEW_UNITS} units, ms", *(f"{1e3 * one.step_of_few:.1f}" for one in bare))
    table.add_row("  ratio", *(f"{one.step / one.step_of_few:.2f}" for one in bare))
    table.add_row("the loss alone, ms", *(f"{1e3 * one.loss:.2f}" for one in bare))
    table.add_row("  share of a step", *(f"{100 * one.loss / one.step:.2f} %" for one in bare))
    console.print(table)


if __name__ == "__main__":
    main()
