"""Texts and paths from the command line, quoted so that Hydra hands them on as they were typed."""

import re

# Settings that take any text and may be given several times.
FREE_TEXT = ("image", "caption", "phrases", "classes", "methods")
# Settings whose value is one path or text, or one list of names with commas. In a sweep, Hydra splits them at commas.
PATHS = (
    "export",
    *("output", "results", "tables", "regions", "readme", "predictions", "proposals.path"),
    *("model.checkpoint", "model.weights_path", "model.template", "pointing.difficult", "dominant.held_out"),
    *(
        f"{group}.{name}"
        for group in ("data", "validation")
        for name in ("path", "folder", "tags", "entities", "boxes", "annotations")
    ),
    *(f"task.{name}" for name in ("bsds", "coco", "output", "captions", "photos", "names", "sizes", "corel")),
)


def quote_free_text(arguments: list[str]) -> list[str]:
    """Quote texts and paths for Hydra, whose grammar would otherwise parse them.

    Those of `FREE_TEXT` may be given several times; the first occurrence then carries the list.

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
    """Quote text as a value that Hydra and OmegaConf return unchanged.

    In a quoted string, a backslash is special only before a quote, or before ``${``, which would be an interpolation.

    >>> print(quote("it's $5, ${x}"))
    'it\\'s $5, \\${x}'
    """
    text = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + "\\${", text)
    text = re.sub(r"(\\*)'", lambda match: match[1] * 2 + "\\'", text)
    text = re.sub(r"(\\+)$", lambda match: match[1] * 2, text)
    return f"'{text}'"
