"""Boxes as text."""

import re
from pathlib import Path

import numpy as np

from proposals.published.conversion import Floats, finite_numbers


def read_text(path: Path) -> Floats:
    """The boxes of a text file, one a line: (N, 4), or (N, 5) with scores.

    Numbers are separated by spaces, tabs or commas; ``#`` begins a comment, and the first line may be a header.

    Raises:
        ValueError: the file is no text, or a line has not 4 or 5 numbers, or not as many as the lines before it.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read as text: {error}") from None
    contents = [(number, line.partition("#")[0].strip()) for number, line in enumerate(lines, 1)]
    entries = [(number, re.split(r"\s*,\s*|\s+", content)) for number, content in contents if content]
    if entries and len(entries[0][1]) in (4, 5) and all(word[:1].isalpha() for word in entries[0][1]):
        del entries[0]  # a header
    rows: list[list[float]] = []
    for number, words in entries:
        try:
            row = [float(word) for word in words]
        except ValueError as error:
            raise ValueError(f"line {number}: expected 4 or 5 numbers: {error}") from None
        if len(row) not in ((len(rows[0]),) if rows else (4, 5)):
            raise ValueError(f"line {number}: expected 4 or 5 numbers, as many in each line, got {len(row)}")
        rows.append(finite_numbers(np.array(row), f"line {number}").tolist())
    return np.array(rows, np.float64) if rows else np.zeros((0, 4))
