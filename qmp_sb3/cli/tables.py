"""Tables as a terminal, a pipe or a file shows them: nothing is cut."""

from __future__ import annotations

from rich.console import Console
from rich.measure import measure_renderables
from rich.table import Table

BORDERS = 3
"""Characters between two columns of a table in a box."""


def show(console: Console, table: Table) -> None:
    """Print a table in a box whose cells break between words.

    Where the longest words need more than there is, a terminal breaks these, and lines of a pipe or a file get longer.
    """
    anything = console.options.update(max_width=10_000)
    sizes = [measure_renderables(console, anything, [column.header, *column.cells]) for column in table.columns]
    widths = [size.maximum if one.no_wrap else size.minimum for one, size in zip(table.columns, sizes, strict=True)]
    wanted = [size.maximum - width for size, width in zip(sizes, widths, strict=True)]
    room = console.width - BORDERS * len(sizes) - (1 if table.show_edge else -1) - sum(widths)
    if room < 0 and console.is_terminal:
        for column, width in zip(table.columns, widths, strict=True):
            column.no_wrap, column.overflow = column.no_wrap and 2 * width <= console.width, "fold"
    else:
        # Whoever wants less than an equal part leaves the rest to the others.
        for turn, place in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
            more = min(wanted[place], max(0, room) // (len(wanted) - turn))
            table.columns[place].width = widths[place] + more
            room -= more
        table.width = console.measure(table, options=anything).maximum
    console.print(table, crop=False)


def show_lines(console: Console, table: Table) -> None:
    """Print a table with a line for each row, however long, so that any of it can be copied."""
    table.box, table.pad_edge = None, False
    for column in table.columns:
        column.no_wrap = True
    table.width = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    console.print(table, crop=False, soft_wrap=True)
