"""Speed of the whole pipeline, from photos and captions to regions: by stage, as an archive, beside others; its growth.

    python benchmarks/pipeline.py captions.jsonl [proposals=stored proposals.path=mcg.h5] [--photos 8]
        [--parts stages archive peers growth] [--plot docs/pipeline.png]

- stages: the photos one by one in this process, with the seconds of each stage; those of a stage within another one are
  not counted twice.
- archive: the same photos by ``python -m grounding data=manifest``, which reads them in several processes; photos/s
  without its start, and peak memory.
- peers: maps for the words of a photo on GoogLeNet with random weights (speed does not depend on them) at 300×400, the
  photo's file read each time: c-MWP of this repository, and what other libraries offer on that network, word by word
  (pip install -e ".[parity,peers]"; those that are missing are left out). All take turns in one run. Grad-CAM, LRP and
  MWP are other methods than c-MWP; TorchRay's is the same.
- growth: CPU seconds by photos, words a photo, proposals and resolution.

Words of random networks are units: the first word is unit 0. Figures of a machine with other work are higher; CPU
seconds and ratios suffer less from it. On a CPU each photo has one core;
peers have torch's number of threads (OMP_NUM_THREADS).
"""

import argparse
import copy
import json
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torchvision
from attention import folded, released
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import interpolate, one_hot

import grounding.batch.rows as rows_module
import grounding.scoring as scoring_module
from grounding.attention import ExcitationBackprop
from grounding.attention.signals import Recorder
from grounding.batch.rows import Reader, answer_to, ground_rows
from grounding.batch.run import Archive, ground_archive
from grounding.config import GrounderSettings, compose_grounder
from grounding.files import write_file
from grounding.images import load_image
from grounding.inputs import CaptionedPhoto, ReadPhoto
from grounding.maps import WordAttention
from grounding.phrases import whole_phrase
from grounding.pipeline import Grounder

PARTS = ("stages", "archive", "peers", "growth")
SIZE = (300, 400)  # of photos for GoogLeNet, (height, width)
GROWTH = {
    "photos": (1, 2, 4),
    "words a photo": (1, 5, 10, 20, 40),
    "proposals": (100, 250, 500),
    "short side, pixels": (200, 400, 600),
}
Row = dict[str, Any]


@dataclass
class Stopwatch:
    """Wall-clock and CPU seconds by name; those of a stage within another one count for the inner one alone."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _within: list[str] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done in a ``with`` block."""
        self._within.append(name)
        start = time.perf_counter(), time.process_time()
        yield
        wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
        self._within.pop()
        for names, times in ((self.seconds, wall), (self.cpu, cpu)):
            names[name] += times
            if self._within:
                names[self._within[-1]] -= times

    def timed(self, name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, each call timed as a stage."""

        def call(*arguments: Any, **named: Any) -> Any:
            with self.stage(name):
                return run(*arguments, **named)

        return call

    @contextmanager
    def watching(self, *functions: tuple[object, str, str]) -> Iterator[None]:
        """Time functions, each given by its owner, its name and its stage."""
        patches = [
            mock.patch.object(owner, name, self.timed(stage, getattr(owner, name))) for owner, name, stage in functions
        ]
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in patches:
                patch.stop()


def table(title: str, *heads: str) -> Table:
    """An empty table, text on the left and numbers on the right."""
    found = Table(box=box.SIMPLE, title=title, title_justify="left")
    for index, head in enumerate(heads):
        found.add_column(head, justify="right" if index else "left")
    return found


def stages(rows: Sequence[Row], grounder: Grounder, folder: Path) -> Table:
    """Ground rows in this process, and time every stage."""
    watch = Stopwatch()
    reader = Reader(
        watch.timed("prepare", grounder.attention.classifier.prepare), watch.timed("proposals", grounder.propose)
    )
    words = 0

    def ground(number: int, row: Row) -> None:
        nonlocal words
        read = reader(row)
        ((_, grounding),) = ground_rows(grounder, [read])
        if isinstance(grounding, str):
            raise SystemExit(f"error: {grounding}")
        words += len({word for phrase in grounding.phrases for word in phrase.words})
        with watch.stage("writing"):
            write_file(folder / f"{number}.json", json.dumps(answer_to(read, grounding)).encode())

    with watch.watching(
        (rows_module, "load_row_image", "decode"),
        (rows_module, "read_texts", "captions"),
        (Recorder, "run", "forward"),
        (WordAttention, "attend", "attention"),
        (Grounder, "_rank", "scoring"),
        (scoring_module, "unsuppressed", "suppression"),
    ):
        ground(0, rows[0])  # a warm-up
        watch.seconds.clear()
        watch.cpu.clear()
        words, start = 0, time.perf_counter()
        for number, row in enumerate(rows):
            ground(number, row)
        whole = time.perf_counter() - start
    found = table(
        f"{len(rows)} photos, {words / len(rows):.1f} different known words each: {len(rows) / whole:.2f} photos/s, "
        f"{words / whole:.1f} words/s, one photo after the other",
        "stage", "ms a photo", "CPU ms a photo", "share of CPU",
    )  # fmt: skip
    total = sum(watch.cpu.values())
    for name, seconds in watch.seconds.items():
        each = 1e3 / len(rows)
        found.add_row(name, f"{seconds * each:.1f}", f"{watch.cpu[name] * each:.1f}", f"{watch.cpu[name] / total:.1%}")
    return found


def archive(rows: Sequence[Row], settings: GrounderSettings, folder: Path, repeats: int = 3) -> Table:
    """Ground the rows, several times over, as an archive, from the first answer on."""
    manifest = folder / "rows.jsonl"
    texts = [{name: value for name, value in row.items() if name != "id"} for row in rows]  # an id occurs once
    manifest.write_text("".join(json.dumps(row) + "\n" for _ in range(repeats) for row in texts), encoding="utf-8")
    first = last = (0.0, 0)
    for progress in ground_archive(Archive(str(manifest), folder / "regions.jsonl"), settings, folder):
        first, last = (
            first if first[1] else (time.perf_counter(), progress.answered),
            (time.perf_counter(), progress.answered),
        )
    found = table("as an archive, in several processes", "photos", "photos/s", "peak MB of this process", "of a reader")
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    rate = (last[1] - first[1]) / (last[0] - first[0])
    found.add_row(str(last[1]), f"{rate:.2f}", *(f"{peak:.0f}" for peak in peaks))
    return found


def peers(rows: Sequence[Row], words: int, rounds: int) -> Table:
    """Maps of a photo's words, by this repository and by others, everything from the file on."""
    torch.manual_seed(0)
    network = torchvision.models.googlenet(weights=None, init_weights=False, aux_logits=False).eval()
    attend = ExcitationBackprop(network, "maxpool2")
    contestants = {"c-MWP, all words at once": lambda image: attend.attend_with_mass(image, [torch.arange(words)])}
    for name, make in {
        "TorchRay, c-MWP": torchray_maps,
        "captum, LRP": captum_maps,
        "zennit, MWP": zennit_maps,
        "pytorch-grad-cam, Grad-CAM": grad_cam_maps,
    }.items():
        try:
            each = make(copy.deepcopy(network))
        except ImportError:
            print(f"{name}: not installed")
            continue
        contestants[name] = lambda image, each=each: [each(image, unit) for unit in range(words)]
    times: dict[str, list[float]] = defaultdict(list)
    for turn in range(rounds + 1):
        path = rows[turn % len(rows)]["image"]
        for name, run in contestants.items():
            start = time.perf_counter()
            image = interpolate(load_image(path)[None], SIZE, mode="bilinear", antialias=True)
            run(image)
            if turn:  # the first one is a warm-up
                times[name].append(time.perf_counter() - start)
    found = table(
        f"GoogLeNet, 300×400, {words} words a photo, {rounds} photos", "method", "words/s", "photos/s", "our speed"
    )
    best = {name: min(seconds) for name, seconds in times.items()}
    ours = best["c-MWP, all words at once"]
    for name, seconds in best.items():
        found.add_row(name, f"{words / seconds:.1f}", f"{1 / seconds:.2f}", f"{seconds / ours:.1f}×")
    return found


Peer = Callable[[Tensor, int], Any]  # the map of one unit in a photo (1, 3, h, w)


def torchray_maps(network: nn.Module) -> Peer:
    """c-MWP by torchray, which does not know batch norm, so that it is folded."""
    import torchray  # noqa: F401

    plain = folded(network)
    return lambda image, unit: released(plain, image)(unit)  # type: ignore[misc]


def captum_maps(network: nn.Module) -> Peer:
    """LRP by captum at maxpool2. It knows batch norm, and no rule for the identity in the place of a folded one."""
    from captum.attr import LayerLRP

    lrp = LayerLRP(network, network.maxpool2)
    return lambda image, unit: lrp.attribute(image, target=unit)


def zennit_maps(network: nn.Module) -> Peer:
    """MWP by zennit's composite at maxpool2; it has no contrast."""
    from zennit.composites import ExcitationBackprop as Composite

    plain = folded(network)
    seen: list[Tensor] = []
    plain.maxpool2.register_forward_hook(lambda module, inputs, output: seen.append(output))  # type: ignore[union-attr]

    def maps(image: Tensor, unit: int) -> Tensor:
        seen.clear()
        with Composite().context(plain) as changed:
            output = changed(image.clone().requires_grad_())
            start = one_hot(torch.tensor([unit]), output.shape[1]).to(output)
            (evidence,) = torch.autograd.grad(output, seen[0], start)
        return evidence

    return maps


def grad_cam_maps(network: nn.Module) -> Peer:
    """Grad-CAM of the last map by pytorch-grad-cam."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    plain = folded(network)
    cam = GradCAM(model=plain, target_layers=[plain.inception5b])
    return lambda image, unit: cam(input_tensor=image, targets=[ClassifierOutputTarget(unit)])


def growth(row: Row, grounder: Grounder) -> dict[str, list[tuple[int, float]]]:
    """CPU seconds of network, attention and scoring, by photos, words a photo, proposals and resolution."""
    classifier = grounder.attention.classifier
    read = Reader(classifier.prepare, grounder.propose)(row)
    if read.captioned is None:
        raise SystemExit(f"error: {read.error}")
    photo, vocabulary = read.captioned.photo, list(classifier.vocabulary.units)
    step = len(vocabulary) // max(GROWTH["words a photo"])
    vocabulary = vocabulary[::step]
    short = min(photo.prepared.shape[-2:])

    def best(photo: ReadPhoto, words: int = 20, photos: int = 1) -> float:
        phrases = tuple(whole_phrase(word, index=index) for index, word in enumerate(vocabulary[:words]))
        seconds = []
        for _ in range(2):
            start = time.process_time()
            for _ in range(photos):
                list(grounder.ground_read([CaptionedPhoto(photo, tuple(vocabulary[:words]), phrases)]))
            seconds.append(time.process_time() - start)
        return min(seconds)

    def resized(side: int) -> ReadPhoto:
        size = [round(length * side / short) for length in photo.prepared.shape[-2:]]
        prepared = interpolate(photo.prepared[None], size, mode="bilinear", antialias=True)[0]
        return replace(photo, prepared=prepared)

    best(photo)
    runs: dict[str, Callable[[int], float]] = {
        "photos": lambda count: best(photo, photos=count),
        "words a photo": lambda count: best(photo, words=count),
        "proposals": lambda count: best(replace(photo, proposals=photo.proposals[:count])),
        "short side, pixels": lambda side: best(resized(side)),
    }
    return {name: [(value, run(value)) for value in GROWTH[name]] for name, run in runs.items()}


def growth_table(found: dict[str, list[tuple[int, float]]]) -> Table:
    """A row for each value of each quantity."""
    shown = table(
        "CPU seconds of network, attention and scoring; 20 words, if not said otherwise", "quantity", "value", "s"
    )
    for name, points in found.items():
        for value, seconds in points:
            shown.add_row(name, str(value), f"{seconds:.2f}")
    return shown


def plot(found: dict[str, list[tuple[int, float]]], path: Path) -> None:
    """A small picture with a panel for each quantity."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.2), layout="constrained")
    for axes, (name, points) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3)
        axes.set(xlabel=name, xlim=(0, None), ylim=(0, None))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("CPU seconds")
    figure.savefig(path, dpi=80)


def main() -> None:
    """Measure the parts that are asked for, and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captions", type=Path, help="rows with image and captions, as JSON lines")
    parser.add_argument("settings", nargs="*", help="of the grounder, as on the command line")
    parser.add_argument("--photos", type=int, default=8)
    parser.add_argument("--words", type=int, default=20, help="a photo, for the peers")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_intermixed_args()
    lines = arguments.captions.read_text(encoding="utf-8").splitlines()[: arguments.photos]
    rows = [json.loads(line) for line in lines]
    for row in rows:
        row["image"] = str(arguments.captions.parent / row["image"])
    settings = compose_grounder(list(arguments.settings))
    grounder = Grounder.from_settings(settings)
    console = Console()
    console.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {grounder.attention.device}")
    with tempfile.TemporaryDirectory() as folder:
        if "stages" in arguments.parts:
            console.print(stages(rows, grounder, Path(folder)))
        if "archive" in arguments.parts:
            console.print(archive(rows, settings, Path(folder)))
    if "peers" in arguments.parts:
        console.print(peers(rows, arguments.words, rounds=3))
    if "growth" in arguments.parts:
        found = growth(rows[0], grounder)
        console.print(growth_table(found))
        if arguments.plot:
            plot(found, arguments.plot)


if __name__ == "__main__":
    main()
