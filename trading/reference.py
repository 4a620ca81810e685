"""The account of `trading.kernel`, told trade by trade in plain Python.

Slow and readable: the definition that the compiled kernel is tested against. It covers accounts that
are not ruined; the kernel's docstring says what ruin does.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple


class Trade(NamedTuple):
    """The columns of the kernel's trade rows, in their order."""

    entry: int
    exit: int
    side: int
    profit: float
    cost: float
    equity: float
    exit_price: float


def simulate(
    opens: Sequence[float], closes: Sequence[float], targets: Sequence[int], rate: float
) -> tuple[list[float], list[float], list[int], list[Trade]]:
    """Net returns, gross returns, positions of bars 1..n−1, and trades, as `kernel.simulate` gives them."""
    last = len(opens) - 1
    gross, kept = [1.0] * (last + 1), [1.0] * (last + 1)  # growth, and the share costs leave, per bar
    wealth, trades = 1.0, []
    for first, stop, side in _holdings(targets):
        at_close = stop > last
        exit_row, exit_price = (last, closes[last]) if at_close else (stop, opens[stop])
        prices = [opens[first], *closes[first:stop], *([] if at_close else [exit_price])]
        worth = [1 + side * (price / opens[first] - 1) for price in prices]
        for offset, (now, later) in enumerate(pairwise(worth)):
            gross[first + offset] *= later / now
        invested = wealth / (1 + rate)
        exit_cost = rate * invested * exit_price / opens[first]
        left = invested * worth[-1] - exit_cost
        kept[first] *= invested / wealth
        kept[exit_row] *= left / (invested * worth[-1])
        trades.append(
            Trade(first, exit_row, side, left - wealth, wealth - invested + exit_cost, wealth, exit_price)
        )
        wealth = left
    net = [growth * share - 1 for growth, share in zip(gross, kept, strict=True)]
    positions = [0, *targets[:-1]]
    return net[1:], [growth - 1 for growth in gross[1:]], positions[1:], trades


def _holdings(targets: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Bars [first, stop) over which one side is held, one bar after it was decided."""
    row = 1
    for side, run in groupby(targets[:-1]):
        length = len(list(run))
        if side:
            yield row, row + length, side
        row += length
