"""Printing: one console for people, one JSON document for machines."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from core.files import canonical_json

_WIDE = 200  # a file or a pipe has no width to wrap at
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)
notes = Console(stderr=True, highlight=False, soft_wrap=True)


def emit_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(canonical_json(value))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> Table:
    """A plain table; columns named in `right` are aligned to the right."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        grid.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*row)
    return grid


def number(value: float | None, digits: int = 3) -> str:
    """A number with fixed digits; a dash when there is none."""
    return "–" if value is None else f"{value:.{digits}f}"
