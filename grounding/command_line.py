"""The frame of every command: quoting for Hydra, types of settings, exit codes, errors in one line."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from grounding.completion import LINE, completable, is_completing
from grounding.config import settings_error
from grounding.messages import printable
from grounding.quoting import quote_free_text

_outcomes: list[bool] = []  # whether each run of a sweep succeeded; Hydra does not return it


def run_command(run: Callable[[], None], settings_name: str, settings_type: type) -> None:
    """Run a command that Hydra wraps, and exit: 0, 1 after an error (one line), or 130 after Ctrl-C.

    Args:
        run: the function that ``hydra.main`` decorates.
        settings_name: the name of the type of the settings in the defaults list of the YAML file.
        settings_type: a dataclass, so that misspelt or mistyped settings fail before a model is loaded.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises errors in settings instead of printing them
    sys.argv[1:] = quote_free_text(sys.argv[1:])
    if is_completing():
        os.environ[LINE] = completable(os.environ[LINE])
    register_settings(settings_name, settings_type)
    try:
        run()
        if not all(_outcomes):
            sys.exit(1)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        sys.exit(1 if is_completing() else f"error: {settings_error(error)}")  # no message between what is typed
    except OSError as error:  # `attempt` reports those of the command itself
        place = "the folder of the run" if error.filename is None else Path(error.filename).absolute()
        sys.exit(
            f"error: {printable(place)}: {error.strerror or error}; "
            "work in a folder that you can write to, or name one with hydra.run.dir=FOLDER"
        )
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        _exit_interrupted()


def register_settings(name: str, settings_type: type) -> None:
    """Register the type of a command's settings with Hydra."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name=name, node=settings_type)


def attempt(body: Callable[[], bool], log: logging.Logger, *, if_interrupted: str) -> None:
    """Run the body of a command once, and remember whether it succeeded.

    An error is logged as one line, and a sweep continues with its next run.

    Args:
        body: the work of the command; returns whether it succeeded completely.
        log: the logger of errors.
        if_interrupted: the message to the user after Ctrl-C, such as where the results so far are.
    """
    try:
        is_complete = body()
    except (ValueError, OSError) as error:
        log.error("error: %s", printable(error))
        is_complete = False
    except KeyboardInterrupt:
        log.error("interrupted; %s", if_interrupted)
        _exit_interrupted()
    _outcomes.append(is_complete)


def _exit_interrupted() -> NoReturn:
    """Exit with code 130 at once; after an interrupt during an import, Python itself would die by the signal."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(130)


def free_texts(settings: Any, name: str) -> list[str]:
    """The texts of a setting as they were typed, even if one is ``???``, which means a missing value to OmegaConf."""
    from omegaconf import OmegaConf

    texts = OmegaConf.to_container(settings[name], resolve=True)
    assert isinstance(texts, list)
    return texts
