"""Speed of training a tag classifier: photos per second end to end, with bare steps, and of the loader alone.

    python benchmarks/training.py [--model googlenet] [--steps 3] [--photos FOLDER] [--device cuda] [--compile]

The table has these rows:

loader alone     the batches of `train.batches` with the trainer's workers, without training; also per second of a
                 core's time, which does not depend on the load of the machine, and the number of cores that keep up
                 with the bare steps
bare steps       forward, loss, backward and optimiser on one batch that stays on the device: the upper limit
end to end       `train.loop.train_tags`, from its own log; and its share of the upper limit
the vocabulary   a bare step with 100 units beside one with all, and the loss alone, forward and backward

Photos are random windows of scikit-image's, 64 JPEGs of 500×375 pixels, or those of a folder, repeated; weights are
random where torchvision's would be downloaded (speed does not depend on them). Each number is the median of up to five
rounds after a warm-up; bare steps take turns, so that a busy machine slows them all alike. A GPU computes in single
precision and in bfloat16.
"""

import argparse
import csv
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from rich import box
from rich.console import Console
from rich.table import Table

import train.loop
from grounding.examples import example_photos
from grounding.models import Classifier, efficientnet_lite2_imagenet, torchvision_classifier, with_units
from grounding.photos import Photos, photos_below
from grounding.vocabulary import Vocabulary
from train.batches import Batch, default_workers, photo_batches
from train.data import TaggedPhoto, TaggedPhotos
from train.loop import train_tags
from train.loss import tag_loss
from train.recipe import TagTraining
from train.vocabulary import TagVocabulary, build_vocabulary

FEW_UNITS = 100
ROUNDS = 5

Step = Callable[[], None]


@dataclass(frozen=True, eq=False)
class LoaderSpeed:
    """The speed of the loader alone."""

    photos_per_second: float
    photos_per_core_second: float
    batch: Batch  # one of its batches


@dataclass(frozen=True)
class Speed:
    """The speed of one way of training."""

    training: TagTraining
    step: float  # seconds of a bare step
    step_with_few_units: float  # with FEW_UNITS units
    loss: float  # seconds of the loss alone
    end_to_end: float  # photos per second

    @property
    def limit(self) -> float:
        """Photos per second of bare steps."""
        return self.training.batch_size / self.step


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


def tag_photos(photos: Photos, count: int, units: int) -> TaggedPhotos:
    """``count`` photos with five tags each, or more where it takes more until all ``units`` words are used."""
    each = max(5, -(-units // count))
    tagged = [
        TaggedPhoto(
            photos.names[number % len(photos.names)],
            tuple(f"word{(each * number + tag) % units}" for tag in range(each)),
        )
        for number in range(count)
    ]
    return TaggedPhotos(photos.folder, tagged, missing=())


def measure_loader(data: TaggedPhotos, vocabulary: TagVocabulary, training: TagTraining, workers: int) -> LoaderSpeed:
    """The speed of reading and decoding photos, without training."""
    who = resource.RUSAGE_CHILDREN if workers else resource.RUSAGE_SELF
    before = resource.getrusage(who)
    batches = photo_batches(
        data, vocabulary, training.view, batch_size=training.batch_size, seed=0, epoch=0, workers=workers
    )
    for _ in range(max(1, workers)):  # after which all workers have started
        kept = next(batches)
    start = time.perf_counter()
    photos = sum(len(batch) for batch in batches)
    seconds = time.perf_counter() - start
    after = resource.getrusage(who)
    core_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return LoaderSpeed(photos / seconds, len(data) / core_seconds, kept)


def bare_step(classifier: Classifier, units: int, batch: Batch, training: TagTraining, device: torch.device) -> Step:
    """A step of a network with ``units`` units on a batch that stays on the device."""
    network = with_units(classifier, Vocabulary({}, units)).network
    network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(
        network.parameters(), training.learning_rate, training.momentum, weight_decay=training.weight_decay
    )
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
    """Seconds per step of each contestant: the median of rounds of ``each`` steps, after a warm-up round."""
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
    """Photos per second of the trainer: the median of its log's rows of ``each`` steps after the first row."""
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


def parse_arguments() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("googlenet", "lite2"), default="googlenet")
    parser.add_argument("--units", type=int, default=18_000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, help="beside a warm-up (3, on a GPU 500)")
    parser.add_argument("--photos", metavar="FOLDER")
    parser.add_argument("--workers", type=int, default=default_workers(), help="of the loader (%(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="also bfloat16 with torch.compile")
    return parser.parse_args()


def choose_trainings(arguments: argparse.Namespace, device: torch.device) -> list[TagTraining]:
    """The ways of training that are compared."""
    # The learning rate is low, and its schedule needs no validation, since nothing is to be learned.
    training = TagTraining(
        epochs=1,
        batch_size=arguments.batch_size,
        learning_rate=1e-4,
        schedule="cosine",
        workers=arguments.workers,
        save_every=10**9,
    )
    trainings = [replace(training, precision="single")]
    if device.type == "cuda":
        trainings.append(replace(training, precision="bfloat16"))
    if arguments.compile:
        trainings.append(replace(training, precision="bfloat16", compile=True))
    return trainings


def measure(
    arguments: argparse.Namespace, trainings: Sequence[TagTraining], *, rounds: int, each: int, device: torch.device
) -> tuple[LoaderSpeed, list[Speed]]:
    """The speed of the loader and of every way of training, in rounds of ``each`` steps."""
    classifier = chosen_model(arguments.model)
    speeds = []
    with tempfile.TemporaryDirectory() as made:
        if arguments.photos is None:
            make_photos(Path(made))
        photos = photos_below(arguments.photos or made)
        loaded = tag_photos(photos, arguments.batch_size * 8 * max(1, arguments.workers), arguments.units)
        trained = tag_photos(photos, arguments.batch_size * (rounds + 1) * each, arguments.units)
        tags = (photo.tags for photo in loaded.photos)
        vocabulary = build_vocabulary(tags, size=arguments.units, least=1, lemmatise=False)
        loader = measure_loader(loaded, vocabulary, trainings[0], arguments.workers)
        for training in trainings:
            contestants = [
                bare_step(classifier, arguments.units, loader.batch, training, device),
                bare_step(classifier, FEW_UNITS, loader.batch, training, device),
                bare_loss(arguments.units, loader.batch, device),
            ]
            step, step_with_few_units, loss = median_seconds(contestants, rounds, each, device)
            del contestants  # frees the device's memory
            end_to_end = measure_trainer(classifier, trained, arguments.units, training, each, device)
            speeds.append(Speed(training, step, step_with_few_units, loss, end_to_end))
    return loader, speeds


def speed_table(loader: LoaderSpeed, speeds: Sequence[Speed], *, workers: int, units: int) -> Table:
    """The table of all measurements, a column for each way of training."""
    table = Table(box=box.SIMPLE)
    table.add_column("")
    for speed in speeds:
        training = speed.training
        table.add_column(training.precision + (", compiled" if training.compile else ""), justify="right")

    def add(title: str, text: Callable[[Speed], str]) -> None:
        table.add_row(title, *(text(speed) for speed in speeds))

    add(f"loader alone ({workers} workers), photos/s", lambda _: f"{loader.photos_per_second:.0f}")
    add("  per second of a core", lambda _: f"{loader.photos_per_core_second:.0f}")
    add("  cores that keep up with bare steps", lambda speed: f"{speed.limit / loader.photos_per_core_second:.2f}")
    add("bare steps, photos/s", lambda speed: f"{speed.limit:.1f}")
    add("end to end, photos/s", lambda speed: f"{speed.end_to_end:.1f}")
    add("  share of bare steps", lambda speed: f"{speed.end_to_end / speed.limit:.2f}")
    add(f"a bare step, {units} units, ms", lambda speed: f"{1e3 * speed.step:.1f}")
    add(f"a bare step, {FEW_UNITS} units, ms", lambda speed: f"{1e3 * speed.step_with_few_units:.1f}")
    add("  ratio", lambda speed: f"{speed.step / speed.step_with_few_units:.2f}")
    add("the loss alone, ms", lambda speed: f"{1e3 * speed.loss:.2f}")
    add("  share of a step", lambda speed: f"{100 * speed.loss / speed.step:.2f} %")
    return table


def main() -> None:
    """Measure and print the table."""
    arguments = parse_arguments()
    device = torch.device(arguments.device)
    steps = arguments.steps or (500 if device.type == "cuda" else 3)
    rounds, each = min(ROUNDS, steps), max(1, steps // ROUNDS)
    torch.manual_seed(0)
    torch.set_flush_denormal(True)  # as the trainer does
    trainings = choose_trainings(arguments, device)
    loader, speeds = measure(arguments, trainings, rounds=rounds, each=each, device=device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    console = Console(width=100, highlight=False)
    console.print(
        f"{arguments.model}, {arguments.units} units, batches of {arguments.batch_size}, crop {trainings[0].crop}\n"
        f"torch {torch.__version__} on {device}, {where}; {rounds} rounds, steps in each: {each}"
    )
    console.print(speed_table(loader, speeds, workers=arguments.workers, units=arguments.units))


if __name__ == "__main__":
    main()
