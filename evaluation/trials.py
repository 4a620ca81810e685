"""What was tried: sets of candidates with their records, counted once each, for the deflated Sharpe."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from statistics import variance

Record = tuple[float, int]
"""Sharpe per period after costs, and the number of returns it was measured on."""


@dataclass(frozen=True)
class TrialSet:
    """Candidates tried together. Equal `key`s are the same candidates on the same rows and count once.

    `count` is how many there were; `records` are those of them whose record is known.
    """

    key: str
    count: int
    records: tuple[Record, ...] = ()


@dataclass(frozen=True)
class Tried:
    """Everything tried: how many, and the variance of their Sharpes per period; 0 where it is not known."""

    count: int = 0
    variance: float = 0.0


def gather(sets: Iterable[TrialSet], n: int) -> Tried:
    """Count every set once and pool the Sharpes, restated for a record of `n` returns.

    Without skill a Sharpe over m returns has variance 1/m, so √(m/n) times it varies as one over n does: a
    short record of a tuning trial would otherwise pass for a trial that did remarkably well or badly.
    """
    held: dict[str, TrialSet] = {}
    for each in sets:
        known = held.get(each.key)
        if known is None or (each.count, len(each.records)) > (known.count, len(known.records)):
            held[each.key] = each
    sharpes = [sharpe * sqrt(m / n) for each in held.values() for sharpe, m in each.records] if n else []
    spread = variance(sharpes) if len(sharpes) > 1 else 0.0
    return Tried(sum(each.count for each in held.values()), spread)
