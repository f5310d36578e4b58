"""Digests: short names of values, files and code, from which the keys of everything that is cached are made."""

import ast
import json
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PACKAGES = ("grounding", "proposals", "train", "eval")  # whose code is followed
ROOT = Path(__file__).resolve().parent.parent  # of these packages


def digest(*values: Any) -> str:
    """A digest of values, 16 hexadecimal digits: the same for equal content, and different for any other.

    Args:
        values: tensors, bytes, text, numbers, booleans, None, and lists, tuples and mappings of them. A tuple equals
            a list, and the order of a mapping's keys does not matter.

    Raises:
        TypeError: a value is of another kind.

    >>> digest({"count": 500, "scales": [1.0]}) == digest({"scales": (1.0,), "count": 500})
    True
    >>> digest("ab", "c") == digest("a", "bc")
    False
    """
    found = blake2b(digest_size=8)
    for value in values:
        for part in _parts(value):
            found.update(part)
    return found.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    """A value as bytes that no other value has."""
    if isinstance(value, Tensor):
        yield json.dumps([str(value.dtype), *value.shape]).encode()
        yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    elif isinstance(value, bytes):
        yield b"bytes %d:" % len(value)
        yield value
    elif isinstance(value, Mapping):
        yield b"{"
        for name in sorted(value):
            yield from _parts(name)
            yield from _parts(value[name])
        yield b"}"
    elif isinstance(value, list | tuple):
        yield b"["
        for part in value:
            yield from _parts(part)
        yield b"]"
    elif value is None or isinstance(value, str | int | float):
        yield json.dumps(value).encode() + b","
    else:
        raise TypeError(f"a {type(value).__name__} has no digest")


@cache
def code_digest(*modules: str, root: Path = ROOT) -> str:
    """A digest of the code of modules and of all modules of the project that they import, in turn.

    Comments, docstrings and layout do not count: what they change computes the same.

    Args:
        modules: full names, such as ``grounding.maps``. Those of other packages are left out.
        root: the folder of the project's packages.

    Raises:
        ValueError: the project has no such module.
    """
    files = imported_files(*modules, root=root)
    return digest({str(path.relative_to(root)): _code(path.read_bytes()) for path in files})


def _code(source: bytes) -> str:
    """The syntax tree of a source file, without docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = node.body[0 if ast.get_docstring(node) is None else 1 :]
    return ast.dump(tree)


def imported_files(*modules: str, root: Path = ROOT) -> list[Path]:
    """The files of modules and of all modules of the project that they import, in turn, sorted.

    Imports within functions and those for type checkers alone count, too: packages that import lazily have no others.
    A package's own ``__init__.py`` counts where a name is imported from it, not where only its modules are.

    Raises:
        ValueError: the project has no such module.
    """
    waiting = []
    for name in modules:
        if (path := _file_of(name, root)) is not None:
            waiting.append(path)
        elif _is_ours(name):
            raise ValueError(f"no module {name} in {root}")
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imports(path, root)
    return sorted(found)


def _imports(path: Path, root: Path) -> Iterator[Path]:
    """The files of the project's modules that one file imports."""
    package = path.parent.relative_to(root).parts
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join((*parents, *([node.module] if node.module else [])))
            names = [
                name if _file_of(name := f"{module}.{alias.name}", root) is not None else module for alias in node.names
            ]
        else:
            continue
        yield from filter(None, (_file_of(name, root) for name in names))


def _file_of(module: str, root: Path) -> Path | None:
    """The file of a module of the project; None for any other."""
    if not _is_ours(module):
        return None
    path = root.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _is_ours(module: str) -> bool:
    return module.split(".")[0] in PACKAGES
