"""Time of attention by onnxruntime beside torch on the CPU, and the size of the file.

    python benchmarks/onnx_graph.py [--model default googlenet] [--words 1 5 20] [--threads 1] [--rounds 9]

A photo of noise, 400×400 pixels for the default model and 300×400 for GoogLeNet (random weights; speed does
not depend on them), goes through c-MWP from the photo to the maps and to the probability that reached them. After a
warm-up both take turns, with the same number of threads, and the median counts. The greatest difference between
their maps is given in the maps' greatest value.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import onnxruntime
import torch

from grounding.attention import ExcitationBackprop
from grounding.checkpoint import load_checkpoint
from grounding.models import Classifier, torchvision_classifier
from grounding.onnx import export_attention

CMWP = partial(ExcitationBackprop, contrastive=True, signed="clamp")


def default() -> tuple[Classifier, tuple[int, int]]:
    """The default model and the size of its photo."""
    return load_checkpoint(checkpoint="efficientnet_lite2_places"), (400, 400)


def googlenet() -> tuple[Classifier, tuple[int, int]]:
    """GoogLeNet and the size of its photo."""
    torch.manual_seed(0)
    return torchvision_classifier(name="googlenet", weights=None, layer="maxpool2", window=7, short_side=300), (
        300,
        400,
    )


MODELS = {"default": default, "googlenet": googlenet}


def median_times(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each contestant, over rounds in which all take turns."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if turn:  # the first one warms up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print one line for each model and number of words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--words", nargs="+", type=int, default=[1, 5, 20])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = options.threads
    print(f"{'model':10} {'MB':>6} {'words':>6} {'torch ms':>9} {'onnx ms':>9} {'difference':>11}")
    for name in options.model:
        classifier, size = MODELS[name]()
        content = export_attention(classifier, CMWP, size=size)
        session = onnxruntime.InferenceSession(content, session_options, providers=["CPUExecutionProvider"])
        attend = CMWP(classifier.network, layer=classifier.layer, window=classifier.window)
        mean, std = (torch.tensor(values)[:, None, None] for values in (classifier.mean, classifier.std))
        for count in options.words:
            photo = torch.rand(1, 3, *size)
            units = torch.randperm(classifier.vocabulary.size)[:count]
            inputs = {"photo": photo.numpy(), "units": units.numpy()}
            by_torch = partial(attend.attend_with_mass, (photo - mean) / std, [units])
            by_onnx = partial(session.run, ["maps", "reached"], inputs)
            times = median_times({"torch": by_torch, "onnx": by_onnx}, options.rounds)
            expected = by_torch()[0].maps
            difference = ((torch.from_numpy(by_onnx()[0]).clamp(min=0) - expected).abs().max() / expected.max()).item()
            milliseconds = f"{1000 * times['torch']:9.0f} {1000 * times['onnx']:9.0f}"
            print(f"{name:10} {len(content) / 1e6:6.1f} {count:6} {milliseconds} {difference:11.1e}", flush=True)


if __name__ == "__main__":
    main()
