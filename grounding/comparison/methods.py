"""The methods to compare, each read from overrides of settings, such as ``attention=cmwp model.layer=layer2``."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grounding.config import CompareSettings, attention_settings, compose_command, plain_settings
from grounding.names import METHODS
from grounding.quoting import quote_free_text

OF_A_METHOD = ("model", "attention", "alpha")  # settings in which methods may differ


@dataclass(frozen=True)
class Method:
    """A column of the comparison, as plain settings.

    Args:
        title: the paper's name of the method, or else what sets it apart.
        details: what else sets it apart.
        model: the settings of the classifier.
        attention: the settings of the attention method.
        alpha: α of the box around what exceeds α times the mean of a map; None for no box.
    """

    title: str
    details: str
    model: dict[str, Any]
    attention: dict[str, Any]
    alpha: float | None

    @property
    def name(self) -> str:
        """Title and details in one line."""
        return f"{self.title}, {self.details}" if self.details else self.title


def read_methods(texts: Sequence[str], shared: Sequence[str]) -> list[Method]:
    """Read methods, each from overrides that are separated by spaces.

    Args:
        texts: the overrides of each method; quotes keep a value with spaces together, as in a shell.
        shared: overrides, as Hydra takes them, that all methods begin with.

    Raises:
        ValueError: there is no method, or one has no such setting.
    """
    if not texts:
        raise ValueError('no method: add methods="attention=cmwp", several times for several')
    methods = []
    for text in texts:
        try:
            methods.append(_read_method(text, shared))
        except ValueError as error:
            raise ValueError(f"methods={text}: {error}") from error
    return methods


def _read_method(text: str, shared: Sequence[str]) -> Method:
    words = shlex.split(text)
    if not words:
        raise ValueError('it is empty: give settings such as "attention=cmwp model.layer=blocks.4.0.bn1"')
    for word in words:
        name, equals, _ = word.partition("=")
        if not equals or name.lstrip("+~").partition(".")[0] not in OF_A_METHOD:
            raise ValueError(f"methods differ in {', '.join(f'{each}=' for each in OF_A_METHOD)}, got {word!r}")
    settings = compose_command("compare", CompareSettings, [*shared, *quote_free_text(words)])
    if settings.alpha is not None and not 0 <= settings.alpha < math.inf:
        raise ValueError(f"alpha must be at least 0, got {settings.alpha}")
    title, details = name_method(words, settings.alpha)
    model, attention = plain_settings("model", settings.model), attention_settings(settings.attention)
    return Method(title, details, model, attention, settings.alpha)


def name_method(words: Sequence[str], alpha: float | None = None) -> tuple[str, str]:
    """Name a method by the overrides that make it, the attention option by its name in the paper: title and details.

    >>> name_method(["model=resnet50", "model.layer=layer2", "attention=cmwp"], 1.5)
    ('c-MWP', 'resnet50, layer layer2, α 1.5')
    >>> name_method(["model.layer=blocks.4.0.bn1"])
    ('layer blocks.4.0.bn1', '')
    """
    pairs = (word.partition("=") for word in words)
    values = {name: value.strip("'") for name, _, value in pairs}  # without quotes that are meant for Hydra
    option = values.pop("attention", None)
    values.pop("alpha", None)
    parts = [value if name == "model" else f"{name.rpartition('.')[2]} {value}" for name, value in values.items()]
    if option is not None:
        parts.insert(0, METHODS.get(option, option))
    if alpha is not None:
        parts.append(f"α {alpha:g}")
    return parts[0], ", ".join(parts[1:])
