"""Backtest of a probability signal on one instrument.

Timing: the signal of the bar that closes at t sets the position; it is filled at the OPEN of the next
bar, never at the close that the signal was computed from. Costs are paid on every change of position.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from annotated_types import Ge, Le

from core.bars import check_bars
from core.errors import DataError
from evaluation import performance
from trading import kernel
from trading.costs import Costs


@dataclass(frozen=True)
class PositionRule:
    """Position from the calibrated probability of "up".

    Long at `buy` and above; at `sell` and below short, or flat unless `allow_short`. Between the two:
    "flat" holds nothing, "keep" stays with the last position. No prediction (NaN) is flat.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    buy: Annotated[float, Ge(0), Le(1)] = 0.55
    sell: Annotated[float, Ge(0), Le(1)] = 0.45
    allow_short: bool = False
    between: Literal["flat", "keep"] = "flat"

    def targets(self, probability: npt.NDArray[np.float64]) -> npt.NDArray[np.int8]:
        """Position wanted at each close, −1, 0 or 1, int8 [n]."""
        if not self.sell < self.buy:
            raise DataError(f"sell {self.sell} must be below buy {self.buy}: mend the thresholds")
        decided = np.zeros(len(probability), dtype=np.int8)
        decided[probability >= self.buy] = 1
        decided[probability <= self.sell] = -1 if self.allow_short else 0
        if self.between == "keep":
            waits = (probability > self.sell) & (probability < self.buy)
            last = np.maximum.accumulate(np.where(waits, 0, np.arange(len(decided))))
            decided = decided[last]
        return decided


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """Series per bar, from the second bar on: the first can only decide.

    returns, gross: simple return of the account after and before costs, float64.
    position: −1, 0 or 1 held from the open of the bar on, int8.
    trades: one row per round trip: entry_time and exit_time (close of the bar of the fill, UTC), side,
    entry_price, exit_price, profit (after costs) and cost in units of the starting wealth, return
    (profit over the equity at entry). The profits add up to the total return.
    turnover: notional traded per bar over the equity, one side of a round trip counted as 1, mean.
    """

    returns: pd.Series
    gross: pd.Series
    position: pd.Series
    trades: pd.DataFrame
    turnover: float

    @property
    def equity(self) -> pd.Series:
        """Wealth at each close after costs, starting from 1 before the first."""
        return (1 + self.returns).cumprod().rename("equity")


def run_signal(
    bars: pd.DataFrame, probability: pd.Series, rule: PositionRule, costs: Costs
) -> BacktestResult:
    """Trade one unit of wealth by `rule` from the first to the last bar that has a prediction.

    bars: canonical bars. probability: P(up) in [0, 1] indexed by bar close, a subset of the bars' index;
    a bar without one, or with NaN, is held flat. The last position is closed at the last close.
    """
    span = _span(bars, probability)
    p = probability.reindex(span.index).to_numpy(dtype=np.float64)
    if (~np.isnan(p) & ~((p >= 0) & (p <= 1))).any():
        row = int(np.flatnonzero(~np.isnan(p) & ~((p >= 0) & (p <= 1)))[0])
        raise DataError(f"probability {p[row]} at {span.index[row]}: must be in [0, 1]")
    return _run(span, rule.targets(p), costs)


def buy_and_hold(bars: pd.DataFrame, probability: pd.Series, costs: Costs) -> BacktestResult:
    """The benchmark on the span of `probability`: long throughout, with the same fills and costs."""
    span = _span(bars, probability)
    return _run(span, np.ones(len(span), dtype=np.int8), costs)


def summary(result: BacktestResult, periods: float) -> dict[str, float]:
    """Figures of `performance.summary` after costs, and what the trading took.

    Adds trades, trade_win_rate (NaN without trades), exposure (share of bars with a position), turnover,
    costs (in units of the starting wealth) and gross_sharpe (annualised, before costs).
    """
    trades = result.trades
    return {
        **performance.summary(result.returns.to_numpy(), periods),
        "gross_sharpe": performance.sharpe(result.gross.to_numpy(), periods),
        "trades": len(trades),
        "trade_win_rate": float((trades["profit"] > 0).mean()) if len(trades) else float("nan"),
        "exposure": float((result.position != 0).mean()),
        "turnover": result.turnover,
        "costs": float(trades["cost"].sum()),
    }


def _span(bars: pd.DataFrame, probability: pd.Series) -> pd.DataFrame:
    check_bars(bars)
    if len(probability) < 2 or not probability.index.is_unique:
        raise DataError(f"{len(probability)} predictions: a backtest needs 2 or more, one per bar")
    unknown = probability.index.difference(bars.index)
    if len(unknown):
        raise DataError(f"prediction at {unknown[0]} has no bar: index predictions by bar close")
    return bars.loc[probability.index.min() : probability.index.max()]


def _run(span: pd.DataFrame, targets: npt.NDArray[np.int8], costs: Costs) -> BacktestResult:
    opens, closes = (np.ascontiguousarray(span[name].to_numpy()) for name in ("open", "close"))
    net, gross, position, rows = kernel.simulate(opens, closes, targets, costs.rate)
    later = span.index[1:]
    trades = _trades(span, rows)
    return BacktestResult(
        returns=pd.Series(net, later, name="return"),
        gross=pd.Series(gross, later, name="gross_return"),
        position=pd.Series(position, later, name="position"),
        trades=trades,
        turnover=2 * len(trades) / len(later),
    )


def _trades(span: pd.DataFrame, rows: npt.NDArray[np.float64]) -> pd.DataFrame:
    entry, left = rows[:, kernel.ENTRY].astype(int), rows[:, kernel.EXIT].astype(int)
    profit = rows[:, kernel.PROFIT]
    return pd.DataFrame(
        {
            "entry_time": span.index[entry],
            "exit_time": span.index[left],
            "side": rows[:, kernel.SIDE].astype(np.int8),
            "entry_price": span["open"].to_numpy()[entry],
            "exit_price": rows[:, kernel.EXIT_PRICE],
            "profit": profit,
            "cost": rows[:, kernel.COST],
            "return": profit / rows[:, kernel.EQUITY],
        }
    )
