"""Command lines that are still being typed, for Hydra's shell completion (``ground -sc install=bash``)."""

import os
import re
import sys

from grounding.quoting import FREE_TEXT, PATHS

LINE = "COMP_LINE"  # the variable in which the shell hands over what has been typed so far

# A shell's word: plain and escaped characters and quoted texts, of which the last may still lack its end.
_WORD = re.compile(r"""(?:[^\s'"\\]|\\.|'[^']*'?|"(?:[^"\\]|\\.)*"?)+""", re.DOTALL)


def is_completing() -> bool:
    """Whether a shell asks this process how a line could go on."""
    return sys.argv[1:2] == ["-sc"] and LINE in os.environ


def take_verb(*verbs: str) -> str | None:
    """Take the verb, such as ``explain``, off the command line; None where the first word is no verb.

    Of a line that is being completed, the verb is only told: `completable` leaves it out.
    """
    words = os.environ[LINE].split() if is_completing() else sys.argv
    if words[1:2] and words[1] in verbs:
        return words.pop(1)
    return None


def completable(line: str) -> str:
    """The line that is being typed as Hydra's completion can parse it.

    Hydra splits it at spaces, whatever is quoted, and parses all words but the last. So only the settings that are
    neither texts nor paths nor quoted, and the last word, remain behind the command, whose name does not matter.

    >>> completable('~/bin/ground explain image="my cat.jpg" model=resnet50 att')
    'command model=resnet50 att'
    >>> completable('ground caption="A dog, wet (and')
    'command'
    """
    words = _WORD.findall(line)[1:]
    last = words.pop() if words and not line[-1].isspace() else ""
    settings = [word for word in words if "=" in word and word.partition("=")[0] not in (*FREE_TEXT, *PATHS)]
    plain = [word for word in (*settings, last) if not re.search(r"""^-|['"\\]""", word)]
    return " ".join(("command", *plain))
