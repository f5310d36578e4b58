"""A section of a page: paragraphs, lists and tables below a title, in Markdown or as plain text."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eval.tables.cells import Table
from eval.tables.console import print_table, say
from eval.tables.markdown import escape_prose, titled_table

if TYPE_CHECKING:
    from rich.console import Console


Part = str | tuple[str, ...] | Table  # a paragraph, a list, or a table


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a page. Texts may have code between backticks, and no other markup."""

    title: str
    parts: tuple[Part, ...]


def section_markdown(section: Section) -> str:
    """Write a section in Markdown.

    >>> print(section_markdown(Section("Results", ("In per cent.", ("`cmd`", "a_b")))))
    ## Results
    <BLANKLINE>
    In per cent.
    <BLANKLINE>
    * `cmd`
    * a\\_b
    <BLANKLINE>
    """
    return "\n".join([f"## {section.title}\n", *map(_part_markdown, section.parts)])


def print_section(console: "Console", section: Section) -> None:
    """Print a section: lines are wrapped, cells of tables never are."""
    say(console, section.title, "bold")
    for part in section.parts:
        if isinstance(part, Table):
            print_table(console, part)
        else:
            for line in [part] if isinstance(part, str) else [f"- {item}" for item in part]:
                say(console, line)
            say(console, "")


def plain_text(show: Callable[["Console"], None], *, width: int) -> str:
    """What a function prints to a console, as plain text of this width."""
    from rich.console import Console

    page = io.StringIO()
    show(Console(file=page, width=width, color_system=None, legacy_windows=False))
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines()) + "\n"


def _part_markdown(part: Part) -> str:
    if isinstance(part, Table):
        return titled_table(part)
    if isinstance(part, str):
        return f"{escape_prose(part)}\n"
    return "".join(f"* {escape_prose(item)}\n" for item in part)
