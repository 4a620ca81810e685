"""The accounting of one position that is long, flat or short, bar by bar, compiled.

`trading.reference` says the same in plain Python, trade by trade; the tests hold the two equal.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

Vector = npt.NDArray[np.float64]
Sides = npt.NDArray[np.int8]
# columns of the trade rows
ENTRY, EXIT, SIDE, PROFIT, COST, EQUITY, EXIT_PRICE = range(7)
_COLUMNS = 7


@njit(cache=True, error_model="numpy")  # type: ignore[misc]
def simulate(
    opens: Vector, closes: Vector, targets: Sides, rate: float
) -> tuple[Vector, Vector, Sides, Vector]:
    """Run the account from wealth 1.

    opens, closes: [n]. targets: [n] −1, 0 or 1, decided at the close of each bar and filled at the open
    of the next; the last one is never filled. rate: cost as a fraction of the notional traded.

    Returns net and gross return of bars 1..n−1, [n−1] each; the position held over each of them, int8
    [n−1]; and the trades, float64 [k, 7]: entry row, exit row, side, profit after costs, costs, equity
    before entry (money in units of the starting wealth), exit price.

    What is left after the entry cost buys the units, and they are not rebalanced within a trade. Wealth
    that reaches zero (a short against a doubling price) ends the account: no more than everything is
    lost, and nothing is traded after.
    """
    n = len(opens)
    net = np.zeros(n - 1)
    gross = np.zeros(n - 1)
    position = np.zeros(n - 1, dtype=np.int8)
    trades = np.zeros((n, _COLUMNS))
    count = 0
    equity, units, side = 1.0, 0.0, 0
    for i in range(1, n):
        start = equity
        kept = 1.0  # share of the wealth left by the costs of this bar
        equity = max(equity + units * (opens[i] - closes[i - 1]), 0.0)
        if side != 0 and (targets[i - 1] != side or equity == 0):
            equity, share = _leave(trades[count], i, equity, units, opens[i], rate)
            kept *= share
            count += 1
            side, units = 0, 0.0
        if equity == 0:
            net[i - 1] = gross[i - 1] = -1.0
            break
        if side == 0 and targets[i - 1] != 0:
            side = int(targets[i - 1])
            equity, units = _enter(trades[count], i, equity, side, opens[i], rate)
            kept /= 1 + rate
        position[i - 1] = side
        equity = max(equity + units * (closes[i] - opens[i]), 0.0)
        if side != 0 and (i == n - 1 or equity == 0):
            equity, share = _leave(trades[count], i, equity, units, closes[i], rate)
            kept *= share
            count += 1
        net[i - 1] = equity / start - 1
        gross[i - 1] = equity / start / kept - 1 if equity > 0 else -1.0
        if equity == 0:
            break
    return net, gross, position, trades[:count]


@njit(cache=True, error_model="numpy")  # type: ignore[misc]
def _enter(
    trade: Vector, row: int, equity: float, side: int, price: float, rate: float
) -> tuple[float, float]:
    """Equity after the entry cost, and the units it buys."""
    cost = equity * rate / (1 + rate)
    trade[ENTRY] = row
    trade[SIDE] = side
    trade[COST] = cost
    trade[EQUITY] = equity
    return equity - cost, side * (equity - cost) / price


@njit(cache=True, error_model="numpy")  # type: ignore[misc]
def _leave(
    trade: Vector, row: int, equity: float, units: float, price: float, rate: float
) -> tuple[float, float]:
    """Equity after the exit cost, never below zero, and the share of it that was kept."""
    paid = min(rate * abs(units) * price, equity)
    trade[EXIT] = row
    trade[EXIT_PRICE] = price
    trade[COST] += paid
    trade[PROFIT] = equity - paid - trade[EQUITY]
    return equity - paid, (1 - paid / equity if equity > 0 else 1.0)
