"""The candlestick patterns against TA-Lib: equal at every bar, but for ties that rounding decides."""

import functools
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import talib

import features
from core.errors import ConfigurationError
from features.batch import bar_columns
from features.catalogue import compiled
from features.catalogue.entry import Feature
from features.catalogue.pattern import FEATURES
from features.expression import Call, Column, Constant, Expression
from features.parser import parse
from features.probes import bits

Floats = npt.NDArray[np.float64]
PRICES = ["open", "high", "low", "close"]
DEFINITIONS = {feature.name: feature.expression for feature in FEATURES}
# TA-Lib's longest look-back, rounded up: ours are its equal or shorter
SETTLED = 20
WINDOW = 16


def _ids(feature: Feature) -> str:
    return feature.name


def _talib(feature: Feature, prices: Floats) -> Floats:
    function = getattr(talib, feature.source.removeprefix("TA-Lib "))
    return function(*np.ascontiguousarray(prices.T)) / 100


def _values(feature: Feature) -> set[float]:
    return {float(value) for value in feature.range.strip("{}").split(",")}


def _walk(count: int, seed: int) -> Floats:
    """Candles in whole ticks [count, 4] in which levels, bodies and shadows often coincide."""
    rng = np.random.default_rng(seed)
    scale = np.repeat(rng.choice([1, 4], count // 60 + 1), 60)[:count]
    run = np.repeat(rng.choice([-1, 1], count // 4 + 1), 4)[:count]
    body = rng.choice([0, 1, 2, 4, 8, 12], count) * scale * run * rng.choice([1, 1, 1, -1], count)
    jump = rng.choice([0, 0, 1, -1, 3, -3, 6, -6], count) * scale + rng.choice([0, 0, 1, -1], count)
    retreat = rng.choice([0, 0, 0.25, 0.5, 1.0], count)
    upper, lower = rng.choice([0, 0, 0, 1, 3, 9], (2, count)) * scale
    opened, close = np.zeros(count), np.zeros(count)
    for i in range(1, count):
        opened[i] = close[i - 1] + np.floor((opened[i - 1] - close[i - 1]) * retreat[i]) + jump[i]
        close[i] = opened[i] + body[i]
    high, low = np.maximum(opened, close) + upper, np.minimum(opened, close) - lower
    return np.column_stack([opened, high, low, close]) - low.min() + 100


def _neighbours(prices: Floats, copies: int, seed: int) -> Floats:
    """Copies of stretches that end in a pattern, one price of each moved a little or onto another's level."""
    rng = np.random.default_rng(seed)
    stretches = []
    for end in _ends(prices):
        copy = np.repeat(prices[None, end - WINDOW + 1 : end + 1], copies, axis=0)
        each = np.arange(copies)
        row = WINDOW - rng.choice([1, 2, 3, 4, 5, 9, 14], copies)
        column, level = rng.integers(0, 4, copies), rng.integers(0, 4, copies)
        other = copy[each, rng.integers(WINDOW - 6, WINDOW, copies), level]
        moved = np.where(rng.random(copies) < 0.5, other, copy[each, row, column])
        copy[each, row, column] = moved + rng.choice([-3, -2, -1, 0, 0, 1, 2, 3], copies)
        stretches.append(copy.reshape(-1, 4))
    joined = np.concatenate(stretches)
    joined[:, 1], joined[:, 2] = joined.max(axis=1), joined.min(axis=1)
    return joined


def _ends(prices: Floats) -> Iterator[int]:
    for feature in FEATURES:
        values = _talib(feature, prices)
        for value in _values(feature) - {0.0}:
            rows = np.flatnonzero(values == value)
            yield from rows[rows >= WINDOW][:2]


def _bars(prices: Floats) -> pd.DataFrame:
    times = pd.date_range("2020-01-01", periods=len(prices), freq="min", tz="UTC", name="timestamp")
    return pd.DataFrame(prices, columns=PRICES, index=times).assign(volume=1.0)


@pytest.fixture(scope="module")
def candles() -> pd.DataFrame:
    """Candles on a grid of 1/64, where every sum is exact: a tie is a tie for everybody."""
    ticks = _walk(200_000, 12)
    return _bars(np.concatenate([ticks, _neighbours(ticks, 50, 12)]) / 64)


@pytest.fixture(scope="module")
def built(candles: pd.DataFrame) -> pd.DataFrame:
    return features.build(candles, DEFINITIONS)


def test_every_pattern_of_talib_is_there_once():
    known = [f"TA-Lib {name}" for name in talib.get_functions() if name.startswith("CDL")]
    assert sorted(feature.source for feature in FEATURES) == sorted(known)
    assert all(feature.name.startswith("cdl_") for feature in FEATURES)


@pytest.mark.parametrize("feature", FEATURES, ids=_ids)
def test_a_pattern_equals_talib_at_every_bar(feature, candles, built):
    expected = _talib(feature, candles[PRICES].to_numpy())
    assert set(np.unique(expected)) == _values(feature), "the bars hold every value of the pattern"
    np.testing.assert_array_equal(built[feature.name][SETTLED:], expected[SETTLED:])


@pytest.mark.parametrize("feature", FEATURES, ids=_ids)
def test_no_pattern_is_a_plain_zero(feature, built):
    values = built[feature.name].to_numpy()
    warmup = parse(feature.expression).warmup
    assert np.isnan(values[:warmup]).all()
    assert not np.isnan(values[warmup:]).any()
    assert warmup <= SETTLED
    assert not np.signbit(values[values == 0]).any()


def test_real_bars_equal_talib(sp500):
    assert list(_differing(sp500)) == []


@pytest.mark.parametrize("file", ["eurusd_1h_2017", "index_future_1m_2006", "nvda_1d", "orcl_1d"])
def test_more_real_bars_differ_from_talib_only_at_ties(file, shared_data):
    bars = pd.read_csv(shared_data / f"{file}.csv", index_col="timestamp", parse_dates=True)
    bars = bars.tz_localize("UTC")[[*PRICES, "volume"]].astype(float)
    _assert_ties(bars)


def test_decimal_prices_differ_from_talib_only_at_ties():
    assert _assert_ties(_bars(_walk(20_000, 5) / 100)) > 0


def _assert_ties(bars: pd.DataFrame) -> int:
    """Where TA-Lib's running sums decide otherwise, sizes that differ by a billionth do so as well."""
    found = list(_differing(bars))
    columns = {name: bars[name].to_numpy() for name in PRICES}
    slack = Fraction(1, 10**9)
    for feature, row in found:
        root = parse(feature.expression)
        assert _exact(root, columns, row, 1 - slack) != _exact(root, columns, row, 1 + slack), feature.name
    return len(found)


def _differing(bars: pd.DataFrame) -> Iterator[tuple[Feature, int]]:
    values = features.build(bars, DEFINITIONS)
    for feature in FEATURES:
        ours = values[feature.name].to_numpy()
        unequal = ours != _talib(feature, bars[PRICES].to_numpy())
        for row in SETTLED + np.flatnonzero(unequal[SETTLED:]):
            yield feature, int(row)


EXACT: dict[str, Callable[..., Fraction | int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "abs": abs,
    "sign": lambda a: (a > 0) - (a < 0),
    "max": max,
    "min": min,
    "gt": lambda a, b: int(a > b),
    "ge": lambda a, b: int(a >= b),
    "where": lambda condition, a, b: a if condition else b,
    "all3": lambda a, b, c: a * b * c,
    "all4": lambda a, b, c, d: a * b * c * d,
    "between": lambda x, a, b: int(min(a, b) < x < max(a, b)),
    "beside": lambda a, b, distance: int(abs(a - b) <= distance),
}


def _exact(root: Expression, columns: dict[str, Floats], row: int, scale: Fraction) -> Fraction:
    """The value of an expression at one bar in rational arithmetic, with every sum times `scale`."""

    @functools.cache
    def value(node: Expression, at: int) -> Fraction:
        match node:
            case Constant(value=number):
                return Fraction(str(number))
            case Column(text=name):
                return Fraction(columns[name][at])
            case Call(operator="delay", inputs=(x,), params=(lag,)):
                return value(x, at - int(lag))
            case Call(operator="sum", inputs=(x,), params=(window,)):
                return scale * sum(value(x, at - k) for k in range(int(window)))
            case Call(operator=name, inputs=inputs):
                return Fraction(EXACT[name](*(value(x, at) for x in inputs)))
        raise AssertionError(node.text)

    return value(root, row)


def test_patterns_share_their_conditions_and_read_back():
    canonical = {name: parse(text).text for name, text in DEFINITIONS.items()}
    assert all(parse(text).text == text for text in canonical.values())
    assert len(compiled(canonical).code) <= 500


def _confirmed(bars: int, *columns: pd.Series) -> Floats:
    """Plain search backwards from each bar: the latest pattern, and no earlier confirmation of it."""
    pattern, price, upper, lower = (np.asarray(column) for column in columns)
    out = np.full(len(pattern), np.nan)
    for t in range(bars, len(out)):
        recent = range(t - bars, t + 1)
        if np.isnan([column[t - bars : t + 1] for column in (pattern, price, upper, lower)]).any():
            continue
        origin = max((k for k in recent if pattern[k] != 0), default=None)
        if origin is None or origin == t:
            out[t] = pattern[t]
            continue
        confirms = [
            price[k] > upper[origin] if pattern[origin] > 0 else price[k] < lower[origin]
            for k in range(origin + 1, t + 1)
        ]
        out[t] = 2 * pattern[origin] if confirms[-1] and not any(confirms[:-1]) else 0
    return out


PATTERN = "(close > delay(close, 1)) * (open > delay(open, 2)) - (delay(close, 1) > close) * (low > open - 3)"
ORACLES: dict[str, tuple[str, Callable[[pd.DataFrame], pd.Series]]] = {
    "all3": (
        "all3(close > open, volume > delay(volume, 1), high > delay(high, 1))",
        lambda b: ((b.close > b.open) & (b.volume > b.volume.shift()) & (b.high > b.high.shift())).astype(
            float
        ),
    ),
    "all4": (
        "all4(close > open, volume > delay(volume, 1), high > delay(high, 1), low > delay(low, 1))",
        lambda b: (
            (b.close > b.open)
            & (b.volume > b.volume.shift())
            & (b.high > b.high.shift())
            & (b.low > b.low.shift())
        ).astype(float),
    ),
    "between": (
        "between(close, delay(open, 1), delay(close, 1))",
        lambda b: b.close.between(
            np.minimum(b.open, b.close).shift(), np.maximum(b.open, b.close).shift(), inclusive="neither"
        ).astype(float),
    ),
    "beside": (
        "beside(close, delay(close, 1), (high - low) / 2)",
        lambda b: (b.close.diff().abs() <= (b.high - b.low) / 2).astype(float),
    ),
    "confirmed": (
        f"confirmed({PATTERN}, close, delay(high, 1), delay(low, 1), 3)",
        lambda b: pd.Series(
            _confirmed(
                3,
                features.build(b, {"x": PATTERN})["x"],
                b.close,
                b.high.shift(),
                b.low.shift(),
            ),
            b.index,
        ),
    ),
}


@pytest.mark.parametrize("name", ORACLES)
def test_operator_agrees_with_its_oracle(name, sp500):
    text, oracle = ORACLES[name]
    actual, warmup = features.build(sp500, {"x": text})["x"], parse(text).warmup
    assert actual[:warmup].isna().all()
    assert actual.nunique() > 1
    np.testing.assert_array_equal(actual[warmup:], oracle(sp500)[warmup:])


def test_levels_touch_but_do_not_lie_between():
    bars = _bars(np.array([[2.0, 5, 1, 4], [4.0, 4, 4, 4], [3.0, 3, 3, 3]]))
    texts = {
        "open": "between(open, low, high)",
        "edge": "between(high, high, low)",
        "other_way": "between(open, high, low)",
        "apart": "beside(high, low, 4)",
        "too_far": "beside(low, high, 3.5)",
    }
    frame = features.build(bars, texts)
    assert frame.iloc[0].tolist() == [1, 0, 1, 1, 0]
    assert frame.iloc[1].tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    "text",
    [
        "all3({x}, open, high)",
        "all4(open, high, {x}, low)",
        "between(open, {x}, high)",
        "beside(open, high, {x})",
        "confirmed({x}, close, high, low, 3)",
        "confirmed(close - open, close, {x}, low, 3)",
    ],
)
def test_a_gap_in_an_input_is_a_gap_while_it_lasts(text, sp500):
    bars = sp500.iloc[:120]
    holed = "close * (log(volume - {level}) > 0)"
    level = float(bars["volume"].quantile(0.1))
    frame = features.build(
        bars, {"holed": text.format(x=holed.format(level=level)), "whole": text.format(x="close")}
    )
    memory = 3 if text.startswith("confirmed") else 0
    missing = (bars["volume"] <= level).rolling(memory + 1, min_periods=1).max() > 0
    missing.iloc[:memory] = True
    np.testing.assert_array_equal(frame["holed"].isna(), missing)
    assert 0 < missing.sum() < len(bars)


def test_blocks_change_no_confirmation(sp500):
    program = compiled({"x": parse(ORACLES["confirmed"][0]).text, "y": "close - open"})
    columns = bar_columns(sp500.iloc[:500])
    results = []
    for chunk in (1, 7, 500):
        out = np.empty((2, 500))
        program.run(columns, program.initial_state.copy(), program.buffers(chunk), out)
        results.append(bits(out))
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()


def test_a_confirmation_waits_at_least_one_bar():
    with pytest.raises(ConfigurationError, match="bars 0 must be >= 1"):
        parse("confirmed(close, close, high, low, 0)")
