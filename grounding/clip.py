"""CLIP with a convolutional image tower, as a classifier whose output units are words or phrases.

CLIP (Radford et al. 2021) compares one embedding of a photo with embeddings of texts. In its ResNets, the photo's
embedding comes from an attention pool: a query that is made of the mean feature weights the places of the last map, and
the weighted mean passes through two linear layers, ``v_proj`` and ``c_proj``. With equal weights instead of the
query's, everything above the last map is linear, and so is the product with a text's embedding: one linear classifier
after a global average, as in any other ResNet. Excitation Backprop, CAM and the rest apply as they stand
(docs/open_clip.md tells what equal weights leave out).
"""

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from grounding.messages import one_line
from grounding.models import Classifier
from grounding.vocabulary import Vocabulary, read_vocabulary

DEFAULT_WORDS = Path(__file__).resolve().parent / "weights" / "efficientnet_lite2_places" / "vocabulary.tsv"
TOGETHER = 256  # texts that are embedded at once
LONGEST_REASON = 300  # characters of the library's message about weights that do not fit, which lists all tensors


def clip_classifier(
    *,
    name: str = "RN50",
    weights: str | None,
    words: Sequence[str] | str | None = None,
    template: str = "a photo of a {}.",
    layer: str = "layer3",
    window: int | None = 7,
    short_side: int = 300,
) -> Classifier:
    """Build a classifier of a convolutional CLIP of the package ``open_clip_torch``, with one unit for each word.

    Args:
        name: a network of the package, ``RN50``, ``RN101``, ``RN50x4``, ``RN50x16`` or ``RN50x64``; with
            ``-quickgelu`` at its end if the text tower was trained with that activation, as OpenAI's were.
        weights: the path of a safetensors file, or a tag of the package such as ``openai``, whose weights the package
            downloads and whose activation is taken; None for random weights.
        words: words and phrases, as lemmas, or the path of a text file with one a line; None: those of the default
            model (`DEFAULT_WORDS`).
        template: the text that is embedded for a word, which takes the place of ``{}``.
        layer: the module at which attention stops.
        window: width of the sliding classifier's window in cells, or None (see `Classifier`).
        short_side: pixels to which a photo's shorter side is scaled.

    Raises:
        ValueError: the extra [open_clip] is not installed; there is no such network, or it is no ResNet; its weights
            cannot be read without unpickling, or do not fit; or there are no words or no ``{}``.
    """
    if find_spec("open_clip") is None:
        raise ValueError('model=open_clip needs the extra [open_clip]: pip install "phrase-grounding[open_clip]"')
    import open_clip

    vocabulary = name_words(words)
    if template.count("{}") != 1:
        raise ValueError(f"model.template has one {{}}, the place of a word, got {template!r}")
    clip = create_clip(name, weights)
    tokens = open_clip.get_tokenizer(name)([template.replace("{}", word) for word in vocabulary.units])
    network = clip.visual
    network.attnpool = linear_pool(network.attnpool, embed_texts(clip, tokens))
    return Classifier(
        network,
        vocabulary,
        layer=layer,
        window=window,
        mean=tuple(network.image_mean),
        std=tuple(network.image_std),
        short_side=short_side,
    )


def name_words(words: Sequence[str] | str | None) -> Vocabulary:
    """The vocabulary in which each word or phrase has a unit of its own, in order.

    Args:
        words: the words, the path of a text file with one a line, or None for those of the default model, of which
            some are known only where they are nouns.

    Raises:
        ValueError: the file cannot be read, there are no words, or one comes twice.

    >>> name_words(["dog", "Red  cup"]).units
    {'dog': (0,), 'red cup': (1,)}
    """
    nouns: frozenset[str] = frozenset()
    if words is None:
        default = read_vocabulary(DEFAULT_WORDS)
        words, nouns = list(default.units), default.nouns
    elif isinstance(words, str):
        try:
            words = Path(words).expanduser().read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"model.words is a list of words or the path of a text file: {one_line(error)}") from None
    counts = Counter(" ".join(str(word).lower().split()) for word in words)
    del counts[""]  # empty lines
    if not counts:
        raise ValueError("model.words has no words")
    word, times = counts.most_common(1)[0]
    if times > 1:
        raise ValueError(f"model.words has {word!r} more than once")
    return Vocabulary({word: (unit,) for unit, word in enumerate(counts)}, len(counts), nouns)


def create_clip(name: str, weights: str | None) -> Any:
    """Build a CLIP of the package ``open_clip_torch`` with a ResNet as its image tower, in evaluation mode.

    Args:
        name: the name of the network in the package.
        weights: the path of a safetensors file, a tag of the package, or None for random weights.

    Raises:
        ValueError: there is no such network, its image tower is no ResNet, or its weights cannot be read without
            unpickling, or do not fit.
    """
    import open_clip
    from safetensors import SafetensorError

    _check_name(name)
    tag = open_clip.get_pretrained_cfg(name, weights) if weights else {}
    path = None if weights is None else _find_weights(name, weights, tag)
    try:
        clip = open_clip.create_model(name, pretrained=path, force_quick_gelu=bool(tag.get("quick_gelu")))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = one_line(error)[:LONGEST_REASON]
        raise ValueError(f"{path}: truncated, or weights of another network than {name}: {reason}") from None
    return clip.eval().requires_grad_(False)


def _check_name(name: str) -> None:
    """Refuse what is not the name of a ResNet, before it is built.

    Raises:
        ValueError: there is no such network, or its image tower is no ResNet.
    """
    import open_clip

    networks = {other: open_clip.get_model_config(other)["vision_cfg"] for other in open_clip.list_models()}
    resnets = [other for other, vision in networks.items() if isinstance(vision.get("layers"), list)]
    if name not in networks:
        near = get_close_matches(name, resnets, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use {', '.join(resnets)}"
        raise ValueError(f"open_clip has no network {name!r}: {hint}")
    if name not in resnets:
        raise ValueError(
            f"open_clip's {name} has no image tower of convolutions and ReLU up to one linear layer, of which alone "
            f"attention is found: use {', '.join(resnets)}"
        )


def _find_weights(name: str, weights: str, tag: dict[str, Any]) -> str:
    """The path of a file of weights, or that of a tag's file, which the package downloads at its first use.

    Raises:
        ValueError: there is no such file or tag, it cannot be downloaded, or it would have to be unpickled.
    """
    import open_clip

    if tag:
        try:
            path = Path(open_clip.download_pretrained(tag))
        except (OSError, RuntimeError) as error:
            raise ValueError(f"open_clip's weights {weights!r} of {name} cannot be downloaded: {error}") from None
    else:
        path = Path(weights).expanduser()
    if not path.is_file():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "no tags"
        raise ValueError(
            f"model.weights is a safetensors file or a tag of open_clip's {name} ({tags}), got {weights!r}"
        )
    if path.suffix != ".safetensors":
        raise ValueError(
            f"{path}: this would be unpickled, which may run any code; convert its tensors to .safetensors first"
        )
    return str(path)


@torch.no_grad()
def embed_texts(clip: Any, tokens: Tensor) -> Tensor:
    """The embeddings of texts, (T, D), each of length 1.

    Args:
        clip: the network, whose text tower is causal and reads a text's embedding at its last token.
        tokens: (T, places), as the package's tokenizer returns them.
    """
    return torch.cat([_embed(clip, part) for part in torch.split(tokens, TOGETHER)])


def _embed(clip: Any, tokens: Tensor) -> Tensor:
    """Embed texts without the places after the end of the longest of them, of which none reads anything."""
    length = int(tokens.argmax(1).max()) + 1  # the end has the highest number of all tokens
    places, mask = clip.positional_embedding, clip.attn_mask
    clip.positional_embedding, clip.attn_mask = nn.Parameter(places[:length]), mask[:length, :length]
    try:
        embeddings: Tensor = clip.encode_text(tokens[:, :length], normalize=True)
        return embeddings
    finally:
        clip.positional_embedding, clip.attn_mask = places, mask


@torch.no_grad()
def linear_pool(pool: Any, texts: Tensor) -> nn.Sequential:
    """The attention pool of CLIP's ResNets with equal weights, and the products with texts after it, as one layer.

    With equal weights for all places of a map and for the class token, whose feature is their mean, the pool's answer
    is ``c_proj(v_proj(mean feature + mean positional embedding))``. The positional embeddings, whose mean over all
    places of training is taken for maps of any size, and the biases are a constant of each text.

    Args:
        pool: the package's ``AttentionPool2d``, of maps with C channels and embeddings with D numbers.
        texts: embeddings of texts, (T, D).

    Returns:
        The mean over places and a fully connected layer, from maps (B, C, h, w) to responses (B, T).
    """
    head = nn.Linear(pool.v_proj.in_features, len(texts), dtype=texts.dtype)
    head.weight.copy_(texts @ pool.c_proj.weight @ pool.v_proj.weight)
    head.bias.copy_(texts @ pool.c_proj(pool.v_proj(pool.positional_embedding.mean(0))))
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), head.requires_grad_(False)).eval()
