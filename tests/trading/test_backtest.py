"""The signal backtest on frames."""

import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from trading.backtest import PositionRule, buy_and_hold, run_signal, summary
from trading.costs import Costs

FREE = Costs(0, 0)


@pytest.fixture
def bars() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n = 400
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))
    opens = close * np.exp(rng.normal(0, 0.003, n))
    return pd.DataFrame(
        {
            "open": opens,
            "high": np.maximum(opens, close) * 1.002,
            "low": np.minimum(opens, close) * 0.998,
            "close": close,
            "volume": np.full(n, 1000.0),
        },
        index=pd.date_range("2020-01-01 21:00", periods=n, freq="D", tz="UTC", name="timestamp"),
    )


def predictions(bars: pd.DataFrame, seed: int = 0) -> pd.Series:
    return pd.Series(np.random.default_rng(seed).uniform(0.3, 0.7, len(bars)), bars.index)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (PositionRule(0.6, 0.4), [1, 0, 0, 0, 0, 1]),
        (PositionRule(0.6, 0.4, allow_short=True), [1, 0, -1, 0, 0, 1]),
        (PositionRule(0.6, 0.4, between="keep"), [1, 1, 0, 0, 0, 1]),
        (PositionRule(0.6, 0.4, allow_short=True, between="keep"), [1, 1, -1, -1, 0, 1]),
    ],
)
def test_targets(rule, expected):
    p = np.array([0.6, 0.5, 0.4, 0.5, np.nan, 0.9])
    assert rule.targets(p).tolist() == expected


def test_thresholds_in_the_wrong_order():
    with pytest.raises(DataError, match="must be below buy"):
        PositionRule(0.4, 0.6).targets(np.array([0.5]))


def test_buy_and_hold_is_first_fill_to_last_close(bars):
    p = predictions(bars)
    result = buy_and_hold(bars, p, Costs(5, 5))
    rate = 0.001
    expected = bars["close"].iloc[-1] / bars["open"].iloc[1] * (1 - rate) / (1 + rate)
    assert result.equity.iloc[-1] == pytest.approx(expected)
    assert len(result.trades) == 1
    assert result.position.eq(1).all()
    assert result.returns.index.equals(bars.index[1:])


def test_span_is_that_of_the_predictions(bars):
    p = predictions(bars).iloc[50:300]
    result = run_signal(bars, p, PositionRule(), FREE)
    assert result.returns.index.equals(bars.index[51:300])


def test_bars_without_prediction_are_flat(bars):
    p = pd.Series(0.9, bars.index)
    p.iloc[100:110] = np.nan
    p = p.drop(bars.index[200:205])
    position = run_signal(bars, p, PositionRule(), FREE).position.to_numpy()
    assert (position[100:110] == 0).all()
    assert (position[200:205] == 0).all()
    assert position.sum() == len(position) - 15


def test_costs_lower_the_result_and_leave_gross_alone(bars):
    rule = PositionRule(allow_short=True)
    free = run_signal(bars, predictions(bars), rule, FREE)
    paid = run_signal(bars, predictions(bars), rule, Costs(2, 3))
    np.testing.assert_allclose(paid.gross, free.returns, atol=1e-12)
    assert (paid.returns <= free.returns + 1e-12).all()
    assert paid.equity.iloc[-1] < free.equity.iloc[-1]


def test_trades_table(bars):
    result = run_signal(bars, predictions(bars), PositionRule(allow_short=True), Costs())
    trades = result.trades
    assert trades["profit"].sum() == pytest.approx(result.equity.iloc[-1] - 1)
    np.testing.assert_array_equal(trades["entry_price"], bars.loc[trades["entry_time"], "open"])
    inside = trades.iloc[:-1]
    np.testing.assert_array_equal(inside["exit_price"], bars.loc[inside["exit_time"], "open"])
    assert (trades["entry_time"] <= trades["exit_time"]).all()
    rate = Costs().rate
    move = trades["side"] * (trades["exit_price"] / trades["entry_price"] - 1)
    expected = (1 + move - rate * trades["exit_price"] / trades["entry_price"]) / (1 + rate) - 1
    np.testing.assert_allclose(trades["return"], expected, atol=1e-12)


def test_summary_of_a_signal_that_never_trades(bars):
    result = run_signal(bars, pd.Series(0.5, bars.index), PositionRule(), Costs())
    figures = summary(result, 252)
    assert figures["trades"] == 0
    assert figures["total_return"] == 0
    assert np.isnan(figures["sharpe"])
    assert np.isnan(figures["trade_win_rate"])


def test_summary_figures(bars):
    result = run_signal(bars, predictions(bars), PositionRule(), Costs())
    figures = summary(result, 252)
    r = result.returns
    assert figures["sharpe"] == pytest.approx(r.mean() / r.std() * 252**0.5)
    assert figures["gross_sharpe"] > figures["sharpe"]
    assert figures["trades"] == len(result.trades)
    assert figures["exposure"] == pytest.approx((result.position != 0).mean())
    assert figures["costs"] == pytest.approx(result.trades["cost"].sum())


def test_inputs_are_not_mutated(bars):
    p, copy = predictions(bars), bars.copy()
    kept = p.copy()
    run_signal(bars, p, PositionRule(), Costs())
    pd.testing.assert_frame_equal(bars, copy)
    pd.testing.assert_series_equal(p, kept)


def test_bad_predictions_are_refused(bars):
    p = predictions(bars)
    wrong = p.copy()
    wrong.iloc[7] = 1.2
    with pytest.raises(DataError, match=r"probability 1\.2 at 2020-01-08"):
        run_signal(bars, wrong, PositionRule(), Costs())
    with pytest.raises(DataError, match="has no bar"):
        run_signal(bars, p.shift(freq="h"), PositionRule(), Costs())
    with pytest.raises(DataError, match="2 or more"):
        run_signal(bars, p.iloc[:1], PositionRule(), Costs())
