"""Results in files: written as JSON, and read and checked again. A file that is no result is refused by name."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from grounding.files import write_file

R = TypeVar("R")


@dataclass(frozen=True)
class Form(Generic[R]):
    """The form in which results of one kind are saved.

    Args:
        adapter: checks the values of a result.
        version: the value of the field ``format``.
        command: the command that saves such results.
        implied: parts of a field's path that the file does not have, each with its place; error messages omit them.
    """

    adapter: TypeAdapter[R]
    version: int
    command: str
    implied: frozenset[tuple[int, str]] = frozenset()

    def to_dict(self, result: R) -> dict[str, Any]:
        """A result as plain values, ready for JSON."""
        values: dict[str, Any] = self.adapter.dump_python(result, mode="json")
        return values

    def from_dict(self, values: Any) -> R:
        """The result that `to_dict` made plain.

        Raises:
            ValueError: the values are not a result; the message names the field.
        """
        if not isinstance(values, dict):
            raise ValueError(f"expected an object, got {type(values).__name__}")
        if values.get("format") != self.version:
            found = values.get("format")
            raise ValueError(f"expected a result of format {self.version}, got {found!r}; run {self.command} again")
        try:
            return self.adapter.validate_json(json.dumps(values))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(str(part) for index, part in enumerate(first["loc"]) if (index, part) not in self.implied)
            problem = f"{first['msg'][0].lower()}{first['msg'][1:]}"
            got = "" if first["type"] == "missing" or isinstance(first["input"], dict) else f", got {first['input']!r}"
            raise ValueError(f"{field}: {problem}{got}") from None

    def read(self, path: Path) -> R:
        """The result that a file holds.

        Raises:
            ValueError: the file does not exist or is not a result; the message names the file and the field.
        """
        try:
            return self.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}") from None
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"{path}: not JSON: {error}") from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def read_folder(self, folder: str | Path) -> list[R]:
        """The results that were saved in a folder, in the order of their files' names.

        Raises:
            ValueError: there is no such folder, no result in it, or a file is not a result; the message names it.
        """
        found = Path(folder).expanduser()
        paths: Sequence[Path] = sorted(found.glob("*.json")) if found.is_dir() else []
        if not paths:
            problem = "no result (.json) in it" if found.is_dir() else "no such folder"
            raise ValueError(f"{folder}: {problem}; run {self.command} first, which saves results")
        return [self.read(path) for path in paths]

    def save(self, result: R, folder: Path, *words: str) -> Path:
        """Write a result to a folder, to a file that is named by these words; an earlier one of that name gives way.

        Raises:
            OSError: the disk is full or the folder cannot be written to.
        """
        folder.mkdir(parents=True, exist_ok=True)
        name = "_".join(re.sub(r"[^\w.-]+", "_", word).strip("_") for word in words if word)
        path = folder / f"{name}.json"
        content = json.dumps(self.to_dict(result), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_file(path, content.encode())
        return path
