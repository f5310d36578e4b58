"""Settings: where they are, and the grounder that they describe. Hydra's border; nothing beyond knows of it."""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grounding.pipeline import Grounder

_HERE = Path(__file__).resolve().parent
# An installed wheel carries conf/ inside the package; a checkout keeps it beside the package.
CONFIG_DIR = str(next(folder for folder in (_HERE / "conf", _HERE.parent / "conf") if folder.is_dir()))

FREE_TEXT = ("image", "caption", "phrases")  # settings whose values are anything a person types, any number of them
# … and one path; in a sweep Hydra splits it at commas.
PATHS = (
    *("output", "results", "predictions", "model.checkpoint", "proposals.path"),
    *(f"{group}.{name}" for group in ("data", "validation") for name in ("path", "folder", "tags", "entities")),
    *(f"task.{name}" for name in ("bsds", "coco", "output", "captions", "photos", "names", "sizes", "corel")),
)


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


@dataclass
class ProposeSettings:
    """What ``python -m proposals`` takes."""

    proposals: Any
    output: str
    data: Any = None
    image: list[str] = field(default_factory=list)
    workers: int | None = None
    draw: int = 0


@dataclass
class DoctorSettings:
    """What ``python -m eval.doctor`` takes."""

    data: Any = None
    workers: int | None = None


@dataclass
class TrainSettings:
    """What ``python -m train`` takes; photos and models are for the tag classifier."""

    task: Any = None
    model: Any = None
    data: Any = None
    validation: Any = None


@dataclass
class EvalSettings:
    """What ``python -m eval`` takes."""

    data: Any
    model: Any
    attention: Any
    proposals: Any
    presets: Any
    gammas: list[float]
    choose_by: str
    calibration: str
    overlap: float
    worn: float
    first: int
    export: bool
    output: str
    device: str
    gamma: float | None = None
    predictions: str | None = None
    name: str | None = None


@dataclass
class LeaderboardSettings:
    """What ``python -m eval.leaderboard`` takes."""

    results: str
    output: str


def register_settings() -> None:
    """Make the settings' types known to Hydra."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="ground_settings", node=GroundSettings)
    ConfigStore.instance().store(name="propose_settings", node=ProposeSettings)
    ConfigStore.instance().store(name="doctor_settings", node=DoctorSettings)
    ConfigStore.instance().store(name="train_settings", node=TrainSettings)
    ConfigStore.instance().store(name="eval_settings", node=EvalSettings)
    ConfigStore.instance().store(name="leaderboard_settings", node=LeaderboardSettings)


def run_command(run: Callable[[], None]) -> None:
    """Run a command that Hydra wraps, and leave with its exit code: 0, 1 after an error of one line, 130 on Ctrl-C."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from grounding.command import all_completed, leave_interrupted

    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors of settings reach us, and leave as one line
    sys.argv[1:] = quote_free_text(sys.argv[1:])
    register_settings()
    try:
        run()
        if not all_completed():
            sys.exit(1)
    except (HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        sys.exit(f"error: {one_line(error)}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        leave_interrupted()


def quote_free_text(arguments: list[str]) -> list[str]:
    """Quote texts and paths for Hydra, whose grammar would read them.

    ``image=``, ``caption=`` and ``phrases=`` may be given several times; the first occurrence then carries the list.

    >>> quote_free_text(["caption=A man, 40 (left)", "device=cpu", "caption=it's"])
    ["caption=['A man, 40 (left)','it\\\\'s']", 'device=cpu']
    """
    is_sweep = "-m" in arguments or "--multirun" in arguments
    texts: dict[str, list[str]] = {}
    others: list[str] = []
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if equals and name in FREE_TEXT:
            if name not in texts:
                others.append(name)
            texts.setdefault(name, []).append(text)
        elif equals and name in PATHS and not is_sweep:
            others.append(f"{name}={quote(text)}")
        else:
            others.append(argument)
    return [
        f"{other}=[{','.join(quote(text) for text in texts[other])}]" if other in texts else other for other in others
    ]


def quote(text: str) -> str:
    """Text as a value that Hydra and OmegaConf hand on unchanged.

    In a quoted string backslashes count only before a quote, and before ``${``, which would be an interpolation.
    """
    text = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + "\\${", text)
    text = re.sub(r"(\\*)'", lambda match: match[1] * 2 + "\\'", text)
    text = re.sub(r"(\\+)$", lambda match: match[1] * 2, text)
    return f"'{text}'"


def free_texts(settings: Any, name: str) -> list[str]:
    """The texts of a setting as typed, even where one is OmegaConf's word for a missing value ("???")."""
    from omegaconf import OmegaConf

    texts = OmegaConf.to_container(settings[name], resolve=True)
    assert isinstance(texts, list)
    return texts


def one_line(error: BaseException) -> str:
    """The message of one of Hydra's or OmegaConf's errors, which have several lines, as one."""
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
        raise ValueError(one_line(error)) from error
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
        raise ValueError(one_line(error)) from error


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
    from hydra.errors import HydraException

    register_settings()
    try:
        with initialize_config_dir(CONFIG_DIR, version_base="1.3"):
            settings = compose("ground", overrides=overrides)
    except HydraException as error:
        raise ValueError(one_line(error)) from error
    return build_grounder(settings)
