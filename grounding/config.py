"""Settings as plain values, and the parts that are built from them.

Only this file and the command lines use Hydra; everything else takes plain arguments.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from grounding.quoting import quote

_HERE = Path(__file__).resolve().parent
# An installed wheel carries conf/ inside the package; a checkout keeps it beside the package.
CONFIG_DIR = str(next(folder for folder in (_HERE / "conf", _HERE.parent / "conf") if folder.is_dir()))


@dataclass
class ScoringSettings:
    """Settings of scoring and suppression (see `grounding.scoring.Scoring`)."""

    area_exponent: Any  # γ: a number, or one each for segments and boxes; None for those of the attention option
    area_exponent_by_kind: Any  # what kinds of things add to γ; None for that of the attention option
    overlap: float
    count: int
    clothing_weight: float | None  # None for that of the attention option
    least_probability: float
    least_presence: float
    understand: str  # how far to go for unknown words, one of `grounding.understanding.LEVELS`


@dataclass
class ClusterSettings:
    """Settings of ``runner=ray`` (see `grounding.batch.cluster.Cluster`)."""

    address: str | None
    actors: int | None
    gpus: float


@dataclass
class GroundSettings:
    """Settings of ``python -m grounding``. Misspelt or mistyped settings fail before a model is loaded."""

    model: Any
    attention: Any
    proposals: Any
    scoring: ScoringSettings
    cluster: ClusterSettings
    image: list[str] = field(default_factory=list)
    caption: list[str] = field(default_factory=list)
    phrases: list[str] = field(default_factory=list)
    data: Any = None
    output: str | None = None
    part_rows: int = 200
    workers: int | None = None
    pictures: int = 0
    export: str | None = None
    export_count: int = 1
    export_guesses: bool = False
    runner: str = "local"
    device: str = "auto"


@dataclass
class ExplainSettings:
    """Settings of ``python -m grounding explain``."""

    model: Any
    attention: Any
    image: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    top: int = 5
    device: str = "auto"


@dataclass
class CompareSettings:
    """Settings of ``python -m grounding compare``."""

    model: Any
    attention: Any
    methods: list[str]
    image: list[str] = field(default_factory=list)
    phrases: list[str] = field(default_factory=list)
    alpha: float | None = None
    peaks: bool = True
    width: int = 256
    device: str = "auto"


@dataclass
class OnnxSettings:
    """Settings of ``python -m grounding.onnx``."""

    model: Any
    attention: Any
    output: str
    size: list[int] | None = None


@dataclass
class DemoSettings:
    """Settings of ``python -m grounding.demo``."""

    model: Any
    methods: list[str]
    proposal_methods: list[str]
    host: str
    port: int
    most_megabytes: float
    most_megapixels: float
    longest_caption: int
    most_uploads: int
    queue: int
    device: str = "auto"


def settings_error(error: BaseException) -> str:
    """The message of an error of Hydra or OmegaConf as one line, without their hints for developers."""
    message = str(error)
    if error.__cause__ is not None and message.startswith("Error merging override"):  # the reason is in its cause
        message += f": {error.__cause__}"
    for hint in ("\nConfig search path", "\n    full_key", "\nSet the environment"):
        message = message.split(hint)[0]
    return " ".join(message.split())


def plain_settings(name: str, settings: Any) -> dict[str, Any]:
    """The settings of a group, such as ``proposals``, as plain values.

    Raises:
        ValueError: no option of the group is chosen, or a value is missing.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    if settings is None:
        raise ValueError(f"no {name}: choose one with {name}=…")
    try:
        values = OmegaConf.to_container(settings, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ValueError(f"Missing mandatory value: {error.full_key}") from error
    except OmegaConfBaseException as error:
        raise ValueError(settings_error(error)) from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def build_part(settings: dict[str, Any]) -> Any:
    """Build the part, such as a proposer, that the plain settings of a group describe.

    ``_target_`` names the class or function that is called with the other settings as keyword arguments. With
    ``_partial_: true``, the result is a function that still waits for further arguments.

    Raises:
        ValueError: the part cannot be built from its settings.

    >>> build_part({"_target_": "grounding.scoring.AreaExponents", "segments": 0.4, "boxes": 0.25})
    AreaExponents(segments=0.4, boxes=0.25, by_kind={})
    """
    from hydra.utils import get_method

    # Hydra's own `instantiate` would resolve texts a second time, and take "${" in a path for an interpolation.
    values = {name: _build_nested(value) for name, value in settings.items()}
    is_partial = values.pop("_partial_", False)
    try:
        target = get_method(values.pop("_target_"))
        return partial(target, **values) if is_partial else target(**values)
    except Exception as error:
        raise ValueError(settings_error(error)) from error


def _build_nested(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return build_part(value) if "_target_" in value else {name: _build_nested(part) for name, part in value.items()}


def part_modules(settings: dict[str, Any]) -> list[str]:
    """The modules that define the parts, nested ones too, that the plain settings of a group describe.

    Raises:
        ValueError: there is no such part.
    """
    from hydra.utils import get_method

    found = [module for value in settings.values() if isinstance(value, dict) for module in part_modules(value)]
    if "_target_" not in settings:
        return found
    try:
        return [*found, str(get_method(settings["_target_"]).__module__)]
    except Exception as error:
        raise ValueError(settings_error(error)) from error


@dataclass(frozen=True)
class GrounderSettings:
    """Plain settings from which `grounding.pipeline.Grounder.from_settings` builds a grounder."""

    model: dict[str, Any]
    attention: dict[str, Any]
    proposals: dict[str, Any]
    area_exponents: dict[str, Any]  # γ for segments and for boxes
    area_exponent_by_kind: dict[str, Any]  # what kinds of things add to γ
    overlap: float
    count: int
    clothing_weight: float
    least_probability: float
    least_presence: float
    understand: str  # how far to go for unknown words
    device: str


def grounder_settings(settings: Any) -> GrounderSettings:
    """Derive the plain settings of a grounder from the composed settings of a command.

    Values that are None in ``scoring`` are taken from the attention option, which has a ``scoring`` of its own with the
    values that were chosen for it.

    Raises:
        ValueError: no option of a group is chosen, or a value is missing or malformed.
    """
    attention = plain_settings("attention", settings.attention)
    chosen = attention.get("scoring", {})
    scoring = plain_settings("scoring", settings.scoring)
    by_kind, clothing_weight = scoring["area_exponent_by_kind"], scoring["clothing_weight"]
    return GrounderSettings(
        model=plain_settings("model", settings.model),
        attention=attention_settings(settings.attention),
        proposals=plain_settings("proposals", settings.proposals),
        area_exponents=_by_form(scoring["area_exponent"], chosen.get("area_exponent")),
        area_exponent_by_kind=_by_kind(chosen.get("area_exponent_by_kind", {}) if by_kind is None else by_kind),
        overlap=scoring["overlap"],
        count=scoring.get("count", 1),
        clothing_weight=chosen.get("clothing_weight", 0.0) if clothing_weight is None else clothing_weight,
        least_probability=scoring.get("least_probability", 0.0),
        least_presence=scoring.get("least_presence", 0.0),
        understand=scoring.get("understand", "exact"),
        device=settings.device,
    )


def _by_form(given: Any, chosen: Any) -> dict[str, Any]:
    """γ for segments and for boxes: the given one, or else the one chosen for the attention option."""
    exponent = chosen if given is None else given
    if exponent is None:
        raise ValueError("scoring.area_exponent must be given, because the attention option has none of its own")
    values = exponent if isinstance(exponent, dict) else {"segments": exponent, "boxes": exponent}
    if values.keys() != {"segments", "boxes"}:
        raise ValueError(f"scoring.area_exponent is a number, or one each for segments and boxes, got {exponent!r}")
    return values


def _by_kind(given: Any) -> dict[str, Any]:
    """What kinds of things add to γ."""
    if not isinstance(given, dict):
        raise ValueError(
            "scoring.area_exponent_by_kind is a number for each kind of thing, such as {part: 0.2}, or {} for none, "
            f"got {given!r}"
        )
    return given


def attention_settings(settings: Any) -> dict[str, Any]:
    """The plain settings of an attention method alone, without the scoring that was chosen for it.

    Raises:
        ValueError: no method is chosen, or a value is missing.
    """
    return _without_scoring(plain_settings("attention", settings))


def _without_scoring(attention: dict[str, Any]) -> dict[str, Any]:
    """The settings of an attention method, and of those that it consists of, without their ``scoring``."""
    return {
        name: _without_scoring(value) if isinstance(value, dict) else value
        for name, value in attention.items()
        if name != "scoring"
    }


def choose_model(model: str | Path) -> list[str]:
    """The overrides that choose a model by name, or a checkpoint by its folder.

    Raises:
        ValueError: there is no such model and no such folder.

    >>> choose_model("googlenet")
    ['model=googlenet']
    """
    names = sorted(path.stem for path in Path(CONFIG_DIR).glob("model/*.yaml"))
    if model in names:
        return [f"model={model}"]
    if str(model) and (folder := Path(model).expanduser().absolute()).is_dir():
        return ["model=checkpoint", f"model.checkpoint={quote(str(folder))}"]
    raise ValueError(f"{str(model)!r} is neither a model ({', '.join(names)}) nor the folder of a checkpoint")


def compose_grounder(overrides: list[str]) -> GrounderSettings:
    """Compose the settings of a grounder from the defaults and overrides such as ``attention=cmwp``.

    Raises:
        ValueError: there is no such setting.
    """
    return grounder_settings(compose_command("ground", GroundSettings, overrides))


def compose_command(name: str, settings_type: type, overrides: list[str]) -> Any:
    """Compose the settings of a command, such as ``ground``, from its defaults and overrides such as ``device=cpu``.

    Raises:
        ValueError: there is no such setting, or a value is malformed.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    ConfigStore.instance().store(name=f"{name}_settings", node=settings_type)
    outer = GlobalHydra.instance().hydra  # of a command that is running, ours or a caller's
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
            return compose(name, overrides=overrides)
    except HydraException as error:
        raise ValueError(settings_error(error)) from error
    finally:
        GlobalHydra.instance().hydra = outer
