"""What every command does around its own work: quoting for Hydra, settings' types, exit codes, one-line errors."""

import logging
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from grounding.config import settings_error
from grounding.messages import printable
from grounding.quoting import quote_free_text

_outcomes: list[bool] = []  # of each run of a sweep, since Hydra hands on no return value


def run_command(run: Callable[[], None], settings_name: str, settings_type: type) -> None:
    """Run a command that Hydra wraps, and exit: 0, 1 after an error (one line), or 130 after Ctrl-C.

    Args:
        run: the function that ``hydra.main`` decorates.
        settings_name: under which the YAML's defaults list refers to the settings' type.
        settings_type: a dataclass; misspelt or mistyped settings fail before a model is loaded.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors in settings reach us, and leave as one line
    sys.argv[1:] = quote_free_text(sys.argv[1:])
    register_settings(settings_name, settings_type)
    try:
        run()
        if not all(_outcomes):
            sys.exit(1)
    except (HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        sys.exit(f"error: {settings_error(error)}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        _exit_interrupted()


def register_settings(name: str, settings_type: type) -> None:
    """Make the type of a command's settings known to Hydra."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name=name, node=settings_type)


def attempt(body: Callable[[], bool], log: logging.Logger, *, if_interrupted: str) -> None:
    """Run the body of a command, which returns whether all went well.

    An error becomes one line in the log, and a sweep continues with its next run.
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
    """Exit with 130 at once. Where an import was interrupted, Python would otherwise end by the signal."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(130)


def free_texts(settings: Any, name: str) -> list[str]:
    """The texts of a setting as typed, even where one is OmegaConf's mark of a missing value ("???")."""
    from omegaconf import OmegaConf

    texts = OmegaConf.to_container(settings[name], resolve=True)
    assert isinstance(texts, list)
    return texts
