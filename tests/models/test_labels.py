"""Labels against hand-worked vectors, a loop over bars, and symmetries that hold exactly."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigurationError, DataError
from models.labels import class_shares, make_labels, triple_barrier, volatility

CLOSE = [100.0, 101.0, 99.0, 102.5, 103.0, 97.0, 96.0, 98.0, 99.0, 100.0]


def make_bars(close: list[float], **columns: list[float]) -> pd.DataFrame:
    index = pd.date_range("2020-01-01 21:00", periods=len(close), freq="D", tz="UTC", name="timestamp")
    flat = dict.fromkeys(("open", "high", "low", "close"), close)
    return pd.DataFrame({**flat, "volume": [1.0] * len(close), **columns}, index=index)


def test_triple_barrier_reproduces_the_published_vector() -> None:
    bars = make_bars(CLOSE)
    labels = triple_barrier(bars, np.full(10, 0.02), 3, 1.0, 1.0)
    ends = bars.index.get_indexer(labels["t1"])
    assert ends[:6].tolist() == [3, 4, 3, 5, 5, 8]
    assert labels["barrier"].tolist()[:6] == [1, 0, 1, -1, -1, 1]
    expected = [0.025, 0.019802, 0.035354, -0.053659, -0.058252, 0.020619]
    assert labels["ret"].tolist()[:6] == pytest.approx(expected, abs=5e-7)
    assert labels["label"].tolist()[:6] == [1, 1, 1, 0, 0, 1]


def test_labels_whose_window_passes_the_end_are_dropped() -> None:
    bars = make_bars(CLOSE)
    assert len(triple_barrier(bars, np.full(10, 0.02), 3, 1.0, 1.0)) == 7
    assert make_labels(bars, horizon=3).index.equals(bars.index[:7])


def test_fixed_horizon_return_label_and_end() -> None:
    bars = make_bars([100.0, 101.0, 99.0, 99.0])
    labels = make_labels(bars, horizon=1)
    assert labels["ret"].tolist() == pytest.approx([0.01, -2 / 101, 0.0])
    assert labels["label"].tolist() == [1.0, 0.0, 0.0]
    assert labels["t1"].tolist() == bars.index[1:].tolist()


def test_a_bar_that_touches_both_barriers_is_the_stop() -> None:
    bars = make_bars([100.0, 100.0], high=[100.0, 103.0], low=[100.0, 97.0])
    labels = triple_barrier(bars, np.full(2, 0.02), 1, 1.0, 1.0, touch="range")
    assert labels[["barrier", "ret", "label"]].to_numpy().tolist() == [[-1.0, -0.02, 0.0]]


def test_a_bar_that_opens_beyond_a_barrier_returns_its_open() -> None:
    bars = make_bars([100.0, 105.0], open=[100.0, 104.0], high=[100.0, 106.0], low=[100.0, 103.0])
    assert triple_barrier(bars, np.full(2, 0.02), 1, 1.0, 1.0, touch="range")["ret"].item() == pytest.approx(
        0.04
    )


def test_closes_alone_do_not_see_a_high() -> None:
    bars = make_bars([100.0, 100.0], high=[100.0, 103.0], low=[100.0, 97.0])
    assert triple_barrier(bars, np.full(2, 0.02), 1, 1.0, 1.0, touch="close")["barrier"].item() == 0.0


def test_volatility_uses_nothing_after_its_bar() -> None:
    close = make_bars(CLOSE)["close"]
    changed = close.copy()
    changed.iloc[6:] *= 3.0
    np.testing.assert_array_equal(volatility(close, 3)[:6], volatility(changed, 3)[:6])


def test_bars_without_volatility_get_no_label() -> None:
    bars = make_bars(CLOSE)
    labels = make_labels(bars, kind="triple_barrier", horizon=2, volatility_span=3)
    assert labels.index[0] == bars.index[3]


def test_all_faults_of_the_parameters_are_reported_together() -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_labels(make_bars(CLOSE), horizon=0, stop_loss=-1.0, touch="wick")  # type: ignore[arg-type]
    assert len(caught.value.faults) == 3


def test_too_few_bars_name_the_number_needed() -> None:
    with pytest.raises(DataError, match="2 bars, 6 are needed"):
        make_labels(make_bars([1.0, 2.0]), horizon=5)


def random_bars(rows: int, seed: int) -> pd.DataFrame:
    """Bars whose ranges overlap the barriers often, so that one bar reaches both."""
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.01, rows)))
    opened = np.concatenate([[100.0], close[:-1]]) * np.exp(rng.normal(0, 0.004, rows))
    high = np.maximum(opened, close) * np.exp(np.abs(rng.normal(0, 0.012, rows)))
    low = np.minimum(opened, close) * np.exp(-np.abs(rng.normal(0, 0.012, rows)))
    return make_bars(close.tolist(), open=opened.tolist(), high=high.tolist(), low=low.tolist())


def walk(
    bars: pd.DataFrame,
    row: int,
    side: float,
    unit: float,
    horizon: int,
    profit: float,
    stop: float,
    touch: str,
) -> tuple[int, float, float]:
    """(row of the end, +1 profit / -1 stop / 0 neither, return) of a bet, looked for bar by bar."""
    entry = bars["close"].iloc[row]
    for end in range(row + 1, row + horizon + 1):
        bar = bars.iloc[end]
        best, worst = (bar["high"], bar["low"]) if side > 0 else (bar["low"], bar["high"])
        if touch == "close":
            best = worst = bar["close"]
        if side and side * (worst / entry - 1.0) <= -stop * unit:
            paid = bar["close"] / entry - 1.0
            if touch == "range":
                paid = side * min(side * (bar["open"] / entry - 1.0), -stop * unit)
            return end, -1.0, paid
        if side and side * (best / entry - 1.0) >= profit * unit:
            paid = bar["close"] / entry - 1.0
            if touch == "range":
                paid = side * max(side * (bar["open"] / entry - 1.0), profit * unit)
            return end, 1.0, paid
    return row + horizon, 0.0, bars["close"].iloc[row + horizon] / entry - 1.0


@pytest.mark.parametrize("touch", ["close", "range"])
@pytest.mark.parametrize(("take_profit", "stop_loss"), [(1.0, 1.0), (2.5, 0.7)])
def test_oriented_barriers_equal_a_loop_over_bars(touch: Any, take_profit: float, stop_loss: float) -> None:
    bars = random_bars(160, seed=4)
    side = np.random.default_rng(5).choice([-2.0, -1.0, 0.0, np.nan, 0.5], 160)
    shape: dict[str, Any] = {"horizon": 4, "take_profit": take_profit, "stop_loss": stop_loss, "touch": touch}
    labels = make_labels(bars, kind="triple_barrier", volatility_span=10, side=side, **shape)
    sigma = volatility(bars["close"], 10)
    sign = np.where(np.isnan(side), 0.0, np.sign(side))
    rows = bars.index.get_indexer(labels.index)
    assert rows.tolist() == list(range(10, 156))
    expected = [walk(bars, r, sign[r], sigma[r], 4, take_profit, stop_loss, touch) for r in rows]
    assert bars.index.get_indexer(labels["t1"]).tolist() == [end for end, _, _ in expected]
    assert labels["barrier"].tolist() == [barrier for _, barrier, _ in expected]
    assert labels["ret"].tolist() == pytest.approx([ret for _, _, ret in expected], rel=1e-12)
    assert labels["side"].tolist() == sign[rows].tolist()
    assert labels["label"].tolist() == [
        float(sign[r] * e[2] > 0) for r, e in zip(rows, expected, strict=True)
    ]
    assert set(labels["barrier"]) == {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("touch", ["close", "range"])
def test_three_classes_equal_a_loop_over_bars(touch: Any) -> None:
    bars = random_bars(200, seed=8)
    widths: dict[str, Any] = {"take_profit": 2.5, "stop_loss": 2.0}
    labels = make_labels(
        bars, kind="triple_barrier", horizon=2, **widths, volatility_span=10, touch=touch, classes=3
    )
    sigma = volatility(bars["close"], 10)
    rows = bars.index.get_indexer(labels.index)
    ends = [walk(bars, r, 1.0, sigma[r], 2, 2.5, 2.0, touch) for r in rows]
    assert labels["label"].tolist() == [{-1.0: 0.0, 0.0: 1.0, 1.0: 2.0}[barrier] for _, barrier, _ in ends]
    assert set(labels["label"]) == {0.0, 1.0, 2.0}


def test_three_classes_of_the_published_vector() -> None:
    two, three = (
        make_labels(make_bars(CLOSE), kind="triple_barrier", horizon=3, volatility_span=2, classes=k)
        for k in (2, 3)
    )
    pd.testing.assert_frame_equal(three.drop(columns="label"), two.drop(columns="label"))
    assert three["label"].tolist() == (three["barrier"] + 1.0).tolist()
    published = triple_barrier(make_bars(CLOSE), np.full(10, 0.02), 3, 1.0, 1.0)
    assert (published["barrier"] + 1.0).tolist()[:6] == [2, 1, 2, 0, 0, 2]


def test_a_short_of_the_published_vector_loses_where_a_long_gains() -> None:
    labels = triple_barrier(make_bars(CLOSE), np.full(10, 0.02), 3, 1.0, 1.0, side=np.full(10, -1.0))
    assert labels["barrier"].tolist()[:6] == [-1, 0, -1, 1, 1, -1]
    assert labels["label"].tolist()[:6] == [0, 0, 0, 1, 1, 0]
    assert labels["ret"].tolist()[:3] == pytest.approx([0.025, 0.019802, 0.035354], abs=5e-7)


@pytest.mark.parametrize(("side", "ret"), [(1.0, -0.02), (-1.0, 0.02)])
def test_a_bar_that_touches_both_barriers_is_the_stop_of_either_side(side: float, ret: float) -> None:
    bars = make_bars([100.0, 100.0], high=[100.0, 103.0], low=[100.0, 97.0])
    labels = triple_barrier(bars, np.full(2, 0.02), 1, 1.0, 1.0, "range", np.full(2, side))
    assert labels[["barrier", "ret", "label"]].to_numpy().tolist() == [[-1.0, ret, 0.0]]


@pytest.mark.parametrize("kind", ["fixed_horizon", "triple_barrier"])
def test_rows_without_a_side_stay_with_label_zero_over_the_whole_horizon(kind: Any) -> None:
    bars = random_bars(60, seed=1)
    side = np.where(np.arange(60) % 2 == 0, np.nan, 1.0)
    labels = make_labels(bars, kind=kind, horizon=3, take_profit=0.1, volatility_span=5, side=side)
    rows = bars.index.get_indexer(labels.index)
    assert (np.diff(rows) == 1).all()
    without = labels["side"] == 0.0
    assert without.tolist() == (rows % 2 == 0).tolist()
    assert (labels.loc[without, "label"] == 0.0).all()
    ends = bars.index.get_indexer(labels["t1"]) - rows
    assert (ends[without] == 3).all()


prices = st.lists(st.integers(1, 4000), min_size=12, max_size=40)


@settings(max_examples=60, deadline=None)
@given(prices, st.data())
def test_a_fixed_horizon_bet_in_mirrored_prices_pays_the_other_side(ticks: list[int], data: Any) -> None:
    """1 / price turns every rise into a fall, so the other side made money at the same bars."""
    side = np.array(
        data.draw(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=len(ticks), max_size=len(ticks)))
    )
    close = [float(tick) for tick in ticks]
    plain = make_labels(make_bars(close), horizon=2, side=side)
    mirrored = make_labels(make_bars([1.0 / price for price in close]), horizon=2, side=-side)
    assert mirrored["label"].tolist() == plain["label"].tolist()


@settings(max_examples=60, deadline=None)
@given(prices, st.floats(0.1, 3.0), st.floats(0.1, 3.0))
def test_a_short_is_a_long_with_profit_and_stop_exchanged(ticks: list[int], a: float, b: float) -> None:
    """Closes reach one barrier at a time, so which is called the stop changes nothing but the name."""
    bars, sigma = make_bars([float(tick) for tick in ticks]), np.full(len(ticks), 0.05)
    short = triple_barrier(bars, sigma, 5, a, b, side=np.full(len(ticks), -1.0))
    long = triple_barrier(bars, sigma, 5, b, a, side=np.full(len(ticks), 1.0))
    pd.testing.assert_frame_equal(short[["ret", "t1"]], long[["ret", "t1"]])
    assert short["barrier"].tolist() == (-long["barrier"]).tolist()
    assert (short["label"] + long["label"]).tolist() == (long["ret"] != 0.0).astype(float).tolist()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(-128, 128)] * 4), min_size=4, max_size=9),
    st.sampled_from(["close", "range"]),
    st.sampled_from([-1.0, 1.0]),
)
def test_prices_mirrored_about_the_entry_mirror_the_bet(
    moves: list[tuple[int, int, int, int]], touch: Any, side: float
) -> None:
    """Eighths around 64 are exact in binary, so the mirror is exact: ret turns round and nothing else."""

    def bet(sign: int) -> pd.DataFrame:
        table = [(0, 0, 0, 0), *(tuple(sorted(move)) for move in moves)]
        lows, opens, closes, highs = (
            [64.0 + sign * row[k] / 8.0 for row in table]
            for k in ((0, 1, 2, 3) if sign > 0 else (3, 1, 2, 0))
        )
        bars = make_bars(closes, open=opens, high=highs, low=lows)
        sigma = np.where(np.arange(len(bars)) == 0, 0.0625, np.nan)
        where = np.full(len(bars), sign * side)
        return triple_barrier(bars, sigma, len(moves), 1.0, 2.0, touch, where)

    plain, mirrored = bet(1), bet(-1)
    pd.testing.assert_frame_equal(plain[["label", "t1", "barrier"]], mirrored[["label", "t1", "barrier"]])
    assert mirrored["ret"].item() == -plain["ret"].item()


def test_a_meta_label_uses_no_side_after_its_bar() -> None:
    bars, side = random_bars(80, seed=2), np.ones(80)
    changed = np.where(np.arange(80) > 40, -1.0, side)
    plain, other = (
        make_labels(bars, kind="triple_barrier", volatility_span=10, side=s) for s in (side, changed)
    )
    pd.testing.assert_frame_equal(plain[: bars.index[40]], other[: bars.index[40]])


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_a_price_that_is_none_is_refused_by_value_and_time(value: float) -> None:
    bars = make_bars([*CLOSE[:4], value, *CLOSE[5:]])
    with pytest.raises(DataError, match=r"close .* at 2020-01-05.*\(1 such bars\).*mend the bars"):
        make_labels(bars, horizon=2)
    elsewhere = make_bars(CLOSE, low=[*CLOSE[:4], value, *CLOSE[5:]])
    assert len(make_labels(elsewhere, horizon=2)) == 8
    with pytest.raises(DataError, match=r"low .* at 2020-01-05"):
        make_labels(elsewhere, kind="triple_barrier", horizon=2, volatility_span=2, touch="range")


def test_barriers_without_volatility_are_refused() -> None:
    with pytest.raises(DataError, match=r"above 0 at none of 40 bars.*fixed_horizon"):
        make_labels(make_bars([100.0] * 40), kind="triple_barrier", horizon=2, volatility_span=5)


def test_a_side_of_another_length_is_refused() -> None:
    with pytest.raises(DataError, match=r"\(9,\) sides for 10 bars"):
        make_labels(make_bars(CLOSE), horizon=2, side=np.ones(9))


@pytest.mark.parametrize(
    "given",
    [{"classes": 3}, {"classes": 4, "kind": "triple_barrier"},
     {"classes": 3, "kind": "triple_barrier", "side": np.ones(10)}],
)  # fmt: skip
def test_three_classes_need_barriers_and_no_primary(given: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigurationError, match=r"labels\.classes = [34]: must be 2, or 3 with triple_barrier"
    ):
        make_labels(make_bars(CLOSE), horizon=2, **given)


def test_class_shares_count_each_class() -> None:
    labels = pd.DataFrame({"label": [0.0, 2.0, 2.0, 1.0]})
    assert class_shares(labels, ("down", "flat", "up")) == {"down": 0.25, "flat": 0.25, "up": 0.5}


def test_a_market_that_only_rises_has_no_labels_to_learn_from() -> None:
    rising = make_bars([100.0 * math.exp(0.01 * k) for k in range(30)])
    with pytest.raises(DataError, match=r"0 of 25 are down \(up 100\.0%\), every class must occur: change"):
        class_shares(make_labels(rising), ("down", "up"))
    labels = make_labels(rising, kind="triple_barrier", horizon=2, volatility_span=3, classes=3)
    with pytest.raises(DataError, match="are down and flat"):
        class_shares(labels, ("down", "flat", "up"))
    with pytest.raises(DataError, match=r"0 of 0 are down and up \(no label\)"):
        class_shares(labels[:0], ("down", "up"))
