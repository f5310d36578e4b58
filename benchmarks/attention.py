"""Speed of c-MWP: milliseconds a word, beside another implementation and beside plain forward passes.

    python benchmarks/attention.py [--words 1 5 20 40] [--device cpu]

One photo of 300×400 pixels goes through torchvision's GoogLeNet with random weights (speed does not depend on them),
and attention stops at maxpool2. Our times include everything from the image to the maps, the forward pass as well;
"reached" is the factor by which a call takes longer that also returns the probability that reached the maps. They
stand beside

a. ``torchray``, one word after the other (pip install -e ".[parity]"; left out if it is missing), and
b. the floor: one plain forward pass of the layers above maxpool2, batch norm folded, with as many photos in the batch
   as there are words. It is timed in torch's default memory layout, as a user would run it, and channels last, which is
   faster.

After a warm-up all take turns, and the best round of each counts, so that other work on the machine harms all alike.
"""

import argparse
import copy
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from grounding.attention import ExcitationBackprop

ABOVE = [f"inception3{letter}" for letter in "ab"] + ["maxpool3"]
ABOVE += [f"inception4{letter}" for letter in "abcde"] + ["maxpool4", "inception5a", "inception5b", "avgpool"]


def folded(network: nn.Module) -> nn.Module:
    """A copy of GoogLeNet with batch norm folded into its convolutions."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if type(module).__name__ == "BasicConv2d":
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)  # type: ignore[arg-type]
            module.bn = nn.Identity()
    return network


def released(network: nn.Module, image: Tensor) -> Callable[[int], Any] | None:
    """c-MWP of one unit by torchray; None if it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from torchray.attribution.excitation_backprop import contrastive_excitation_backprop
        except ImportError:
            return None
    return lambda unit: contrastive_excitation_backprop(
        network, image, unit, saliency_layer="maxpool2", contrast_layer="avgpool", classifier_layer="fc"
    )


def best_times(contestants: dict[str, Callable[[], Any]], rounds: int, device: torch.device) -> dict[str, float]:
    """Seconds of the best of several rounds in which all take turns."""
    best = dict.fromkeys(contestants, float("inf"))
    for turn in range(rounds + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def main() -> None:
    """Time and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, nargs="+", default=[1, 5, 20, 40])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)

    torch.manual_seed(0)
    network = torchvision.models.googlenet(weights=None, init_weights=False, aux_logits=False).eval()
    plain = folded(network).to(device)
    above = nn.Sequential(*(plain.get_submodule(name) for name in ABOVE))
    above_last = copy.deepcopy(above).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.rand(1, 3, 300, 400, device=device)
    attend = ExcitationBackprop(network.to(device), "maxpool2")
    ray = released(copy.deepcopy(plain), image)

    print(f"torch {torch.__version__} on {device}, {torch.get_num_threads()} threads; milliseconds a word")
    print("words     ours  reached  torchray     (a)    floor    (b)  floor, channels last    (b)")
    for words in arguments.words:
        units = torch.arange(words, device=device)
        batch = torch.rand(words, 192, 37, 50, device=device)
        batch_last = batch.contiguous(memory_format=torch.channels_last)

        def forward(layers: nn.Module, x: Tensor) -> None:
            with torch.no_grad():
                layers(x)

        contestants: dict[str, Callable[[], Any]] = {
            "ours": lambda units=units: attend(image, [units]),  # type: ignore[misc]
            "reached": lambda units=units: attend.attend_with_mass(image, [units]),  # type: ignore[misc]
            "floor": lambda batch=batch: forward(above, batch),  # type: ignore[misc]
            "floor, channels last": lambda batch=batch_last: forward(above_last, batch),  # type: ignore[misc]
        }
        if ray:
            contestants["torchray"] = lambda: ray(0)
        best = best_times(contestants, arguments.rounds, device)
        each = {name: 1e3 * seconds / words for name, seconds in best.items()}
        theirs = 1e3 * best["torchray"] if ray else float("nan")
        last = each["floor, channels last"]
        print(
            f"{words:5d} {each['ours']:8.1f} {each['reached'] / each['ours']:7.2f}× "
            f"{theirs:9.1f} {theirs / each['ours']:6.1f}× {each['floor']:8.1f} "
            f"{each['ours'] / each['floor']:5.2f}× {last:21.1f} {each['ours'] / last:5.2f}×"
        )


if __name__ == "__main__":
    main()
