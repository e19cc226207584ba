"""Tables: coloured and fitted on a terminal, aligned text everywhere else."""

from __future__ import annotations

import os
import sys

_GAP = "   "
_LEAST_WIDTH = 24  # of a column whose text is wrapped
_MOST_WIDTH = 100  # of a column of text: what is longer moves its own row, not all


def show_table(headings: list[str], rows: list[list[str]], styles: dict[str, str] | None = None, *, wrapped: int = 1) -> None:
    """Writes a table to standard output. styles: a cell's text -> the style it has on a terminal. wrapped: so many last columns may be wrapped there."""
    shown = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        _show_rich(headings, shown, styles or {}, wrapped)
    else:
        sys.stdout.write(aligned(headings, shown))


def aligned(headings: list[str], rows: list[list[str]]) -> str:
    """The table as text: columns as wide as their widest cell that is no paragraph, no blanks at the ends of lines."""
    cells = [headings, *rows]
    widths = [max(width for row in cells if (width := len(row[i])) <= _MOST_WIDTH) for i in range(len(headings))]
    return "".join(_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in cells)


def printable(text: str) -> str:
    """The text without anything that a terminal would act on: names and arguments are a program's own choice."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode() for letter in text)


def _show_rich(headings: list[str], rows: list[list[str]], styles: dict[str, str], wrapped: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    fixed = len(headings) - wrapped
    for index, heading in enumerate(headings):
        table.add_column(heading, no_wrap=index < fixed, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=styles.get(cell, "")) for cell in row))
    needed = sum(max(len(row[i]) for row in [headings, *rows]) + len(_GAP) for i in range(fixed)) + wrapped * _LEAST_WIDTH
    # A narrower terminal folds the lines: an id that is cut off could not be copied.
    Console(width=max(needed, Console().width)).print(table)
