"""Settings: where they are, and the grounder that they describe. Hydra's border; nothing beyond knows of it."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grounding.quoting import quote

if TYPE_CHECKING:
    from grounding.pipeline import Grounder

_HERE = Path(__file__).resolve().parent
# An installed wheel carries conf/ inside the package; a checkout keeps it beside the package.
CONFIG_DIR = str(next(folder for folder in (_HERE / "conf", _HERE.parent / "conf") if folder.is_dir()))


@dataclass
class ScoringSettings:
    """How regions are scored and thinned out."""

    area_exponent: float
    overlap: float
    count: int
    worn: float


@dataclass
class GroundSettings:
    """What ``python -m grounding`` takes; misspelt or mistyped settings fail before a model loads."""

    model: Any
    attention: Any
    proposals: Any
    scoring: ScoringSettings
    image: list[str] = field(default_factory=list)
    caption: list[str] = field(default_factory=list)
    phrases: list[str] = field(default_factory=list)
    device: str = "auto"


def settings_error(error: BaseException) -> str:
    """The message of an error of Hydra or OmegaConf, which has several lines, as one line."""
    message = str(error).split("\nConfig search path")[0].split("\n    full_key")[0].split("\nSet the environment")[0]
    return " ".join(message.split())


def plain_settings(name: str, settings: Any) -> dict[str, Any]:
    """The settings of a group, such as ``proposals``, as plain values.

    Raises:
        ValueError: none is chosen, or a value is missing.
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
    """The part, such as a proposer, that the plain settings of a group describe.

    Raises:
        ValueError: it cannot be made of its settings.
    """
    from hydra.utils import get_method

    # Hydra's own `instantiate` would resolve texts once more, and "${" in a path is no interpolation.
    values = {name: _built(value) for name, value in settings.items()}
    is_partial = values.pop("_partial_", False)
    try:
        target = get_method(values.pop("_target_"))
        return partial(target, **values) if is_partial else target(**values)
    except Exception as error:
        raise ValueError(settings_error(error)) from error


def _built(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return build_part(value) if "_target_" in value else {name: _built(part) for name, part in value.items()}


def build_grounder(settings: Any) -> "Grounder":
    """The grounder that settings describe.

    Raises:
        ValueError: a part cannot be made of its settings.
    """
    from grounding.pipeline import Grounder

    parts = [plain_settings(name, settings[name]) for name in ("model", "attention", "proposals")]
    scoring = settings.scoring
    return Grounder(
        *map(build_part, parts),
        area_exponent=scoring.area_exponent,
        overlap=scoring.overlap,
        count=scoring.count,
        worn=scoring.worn,
        device=settings.device,
    )


def choose_model(model: str | Path) -> list[str]:
    """The overrides that choose a model by its name, or a checkpoint by its folder.

    Raises:
        ValueError: it is neither.
    """
    names = sorted(path.stem for path in Path(CONFIG_DIR).glob("model/*.yaml"))
    if model in names:
        return [f"model={model}"]
    if str(model) and (folder := Path(model).expanduser().absolute()).is_dir():
        return ["model=checkpoint", f"model.checkpoint={quote(str(folder))}"]
    raise ValueError(f"{str(model)!r} is neither a model ({', '.join(names)}) nor the folder of a checkpoint")


def load_grounder(overrides: list[str]) -> "Grounder":
    """The default grounder, with settings changed as on the command line, such as ``attention=mwp``.

    Raises:
        ValueError: there is no such setting, or a part cannot be made.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException

    ConfigStore.instance().store(name="ground_settings", node=GroundSettings)
    try:
        with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
            settings = compose("ground", overrides=overrides)
    except HydraException as error:
        raise ValueError(settings_error(error)) from error
    return build_grounder(settings)
