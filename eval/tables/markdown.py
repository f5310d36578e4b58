"""Tables in Markdown."""

import re

from eval.tables.cells import Table


def markdown_table(table: Table) -> str:
    """Write a table in Markdown, without its title.

    >>> print(markdown_table(Table("Recall", ("method", "R@1"), (("c-MWP (MCG)", "26.2"),))))
    | method | R@1 |
    |---|---:|
    | c-MWP (MCG) | 26.2 |
    <BLANKLINE>
    """
    rule = "".join("---|" if index in table.left else "---:|" for index in range(len(table.heads)))
    lines = [_line(table.heads), f"|{rule}", *(_line(row) for row in table.rows)]
    return "\n".join(lines) + "\n"


def titled_table(table: Table) -> str:
    """Write a table in Markdown below its title in bold."""
    return f"**{escape(table.title)}**\n\n{markdown_table(table)}"


def escape(text: str) -> str:
    r"""Escape the characters of a text that Markdown would take for markup, and put it on one line.

    >>> escape("MCG_base | <i>")
    'MCG\\_base \\| \\<i>'
    """
    return re.sub(r"([\\|*_`<\[])", r"\\\1", " ".join(text.split()))


def escape_prose(text: str) -> str:
    r"""Escape the same characters of a text that has code between backticks, which stays as it is.

    >>> escape_prose("c-MWP* by `attention=cmwp_star`")
    'c-MWP\\* by `attention=cmwp_star`'
    """
    return re.sub(r"(`[^`]*`)|([\\|*_<\[])", lambda match: match[1] or f"\\{match[2]}", text)


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(escape(cell) for cell in cells)} |"
