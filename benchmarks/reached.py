"""The share of the winning probability that reaches the maps, by phrase of the example photos and by layer.

    python benchmarks/reached.py [--model checkpoint] [--attention cmwp] [--layers LAYER ...]

The first table shows what each phrase's result says as ``reached``: the mean over its words of the probability that
arrives at the layer where attention stops. The second one shows the mean over the same words if attention stopped
higher up. The default layers are those of the default network through which all probability has to pass: skips lead
past the others. A minute on one core.
"""

import argparse

import torch

from grounding import Grounder
from grounding.attention import ExcitationBackprop, MassTracking
from grounding.examples import example_photos
from grounding.images import load_image
from grounding.maps import WordAttention

# From the top down: what the pooling averages, then of blocks 6 and 5 the depthwise convolution and what it reads.
LAYERS = ("bn2", "blocks.6.0.bn2", "blocks.6.0.bn1", "blocks.5.0.bn2", "blocks.5.0.bn1")


def print_phrases(grounder: Grounder) -> dict[str, list[str]]:
    """Print the share of each phrase, and return the words that were attended in each photo."""
    words: dict[str, list[str]] = {}
    print(f"{'photo':14} {'phrase':20} reached")
    for path, caption in example_photos().items():
        (grounding,) = grounder([path], [caption])
        for phrase in grounding.phrases:
            reached = "unknown" if phrase.reached is None else f"{phrase.reached:.3f}"
            print(f"{path.name:14} {phrase.text:20} {reached}")
        words[str(path)] = [word for phrase in grounding.phrases for word in phrase.words]
    return words


def print_layers(attention: WordAttention, layers: list[str], words: dict[str, list[str]]) -> None:
    """Print the mean share over words and photos at each of some layers, without contrast."""
    classifier = attention.classifier
    print(f"\n{'layer':20} reached")
    for layer in layers:
        method = ExcitationBackprop(classifier.network, layer, signed="clamp", window=classifier.window)
        shares = []
        for path, photo_words in words.items():
            photo = classifier.prepare(load_image(path))[None]
            priors = torch.stack([classifier.vocabulary.prior(word) for word in photo_words])
            (attended,) = method.attend_with_mass(photo.to(attention.device), [priors.to(attention.device)])
            assert attended.reached is not None
            shares.append(attended.reached)
        print(f"{layer:20} {torch.cat(shares).mean().item():.3f}")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="checkpoint")
    parser.add_argument("--attention", default="cmwp")
    parser.add_argument("--layers", nargs="*", default=list(LAYERS))
    arguments = parser.parse_args()

    grounder = Grounder.load(arguments.model, f"attention={arguments.attention}")
    if not isinstance(grounder.attention.method, MassTracking):
        parser.error(f"attention={arguments.attention} knows no winning probability: choose cmwp, mwp or best")
    words = print_phrases(grounder)
    if arguments.layers:
        print_layers(grounder.attention, arguments.layers, words)


if __name__ == "__main__":
    main()
