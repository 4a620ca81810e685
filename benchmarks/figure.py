"""A measurement with its bound: one line of a table that judges itself, or one entry of a JSON document."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    """One measurement. `wanted` is a bound such as ">= 3", None where a figure is for information."""

    part: str
    what: str
    value: float
    unit: str = ""
    wanted: str | None = None

    @property
    def met(self) -> bool | None:
        """Whether the bound holds; None without one."""
        if self.wanted is None:
            return None
        sign, bound = self.wanted.split()
        # a value may be numpy's, whose comparisons are no bool
        return bool(self.value >= float(bound) if sign == ">=" else self.value <= float(bound))


def show(figure: Figure) -> None:
    """One line of the table."""
    mark = {None: "", True: "ok", False: "MISSED"}[figure.met]
    wanted = f"{figure.wanted or '':>8s}"
    print(
        f"{figure.part:11s} {figure.what:58s} {figure.value:9.3f} {figure.unit:14s} {wanted} {mark}",
        flush=True,
    )


def document(figures: Iterable[Figure]) -> str:
    """All of them as JSON, each with whether its bound is met."""
    return json.dumps([{**asdict(figure), "met": figure.met} for figure in figures], indent=2)
