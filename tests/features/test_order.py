"""Operators over the order of a window's values: oracles, ties, gaps, and the same bits in any block."""

import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.stats import rankdata

import features
from core.errors import ConfigurationError
from features.batch import CHUNK, bar_columns
from features.catalogue import compiled
from features.probes import bits

Floats = npt.NDArray[np.float64]
Series = pd.Series
WINDOWS = (1, 2, 5, 20, 60, 300)
# prices; prices that are missing at times; three values only, zeros of either sign among them
INPUTS = ("close", "log(close - 1300)", "(close > open) * sign(volume - delay(volume, 1))")
OPERATORS = (
    "rank({x}, {w})",
    "deviation({x}, open, {w})",
    "quantile({x}, {w}, 0.2)",
    "quantile({x}, {w}, 0.5)",
    "place_of_highest({x}, {w})",
    "place_of_lowest({x}, {w})",
)


def _rolling(function: Callable[..., float], window: int, *columns: Series) -> Series:
    values = [np.asarray(column) for column in columns]
    out = np.full(len(values[0]), np.nan)
    for t in range(window - 1, len(out)):
        parts = [column[t - window + 1 : t + 1] for column in values]
        if not np.isnan(parts).any():
            out[t] = function(*parts)
    return Series(out, index=columns[0].index)


def _rank(window: Floats) -> float:
    return float(rankdata(window)[-1] / len(window))


ORACLES: dict[str, tuple[str, Callable[[pd.DataFrame], Series]]] = {
    "quantile": ("quantile(close, 37, 0.8)", lambda b: b.close.rolling(37).quantile(0.8)),
    "place_of_highest": (
        "place_of_highest(high, 31)",
        lambda b: _rolling(lambda w: np.argmax(w) + 1.0, 31, b.high),
    ),
    "place_of_lowest": (
        "place_of_lowest(low, 31)",
        lambda b: _rolling(lambda w: np.argmin(w) + 1.0, 31, b.low),
    ),
}


@pytest.mark.parametrize("name", ORACLES)
def test_operator_agrees_with_its_oracle(name, sp500):
    text, oracle = ORACLES[name]
    bars = sp500.iloc[:900]
    start = features.warmup({name: text})
    actual, expected = features.build(bars, {name: text})[name][start:], oracle(bars)[start:]
    np.testing.assert_allclose(actual, expected, rtol=1e-9)


@pytest.mark.parametrize("x", INPUTS)
@pytest.mark.parametrize("window", WINDOWS)
def test_ties_and_gaps_are_as_in_a_plain_loop(x, window, sp500):
    bars = sp500.iloc[:1500]
    texts = [text.format(x=x, w=window) for text in OPERATORS]
    frame = features.build(bars, {"x": f"({x}) * 1", **{text: text for text in texts}})
    values = frame["x"]
    assert values.nunique() > 2
    expected = [
        _rolling(_rank, window, values),
        _deviations(values.to_numpy(), bars.open.to_numpy(), window),
        _rolling(lambda w: float(np.quantile(w, 0.2)), window, values),
        _rolling(lambda w: float(np.median(w)), window, values),
        _rolling(lambda w: np.argmax(w) + 1.0, window, values),
        _rolling(lambda w: np.argmin(w) + 1.0, window, values),
    ]
    start = features.warmup({"x": f"sum({x}, {window})"})
    for text, column in zip(texts, expected, strict=True):
        np.testing.assert_allclose(frame[text][start:], column[start:], rtol=1e-12, atol=1e-12, err_msg=text)


def _deviations(values: Floats, centers: Floats, window: int) -> Floats:
    out = np.full(len(values), np.nan)
    for t in range(window - 1, len(values)):
        out[t] = np.abs(values[t - window + 1 : t + 1] - centers[t]).mean()
    return out


@pytest.mark.parametrize("chunk", [1, 7, 256, 5000])
def test_block_size_changes_neither_values_nor_state(chunk, sp500):
    texts = [text.format(x=x, w=w) for text, x, w in itertools.product(OPERATORS, INPUTS, WINDOWS)]
    program, columns = compiled({text: text for text in texts}), bar_columns(sp500)
    results = []
    for size in (chunk, CHUNK):
        out, state = np.empty((len(texts), columns.shape[1])), program.initial_state.copy()
        program.run(columns, state, program.buffers(size), out)
        results.append((bits(out), bits(state)))
    np.testing.assert_array_equal(*(values for values, _ in results))
    np.testing.assert_array_equal(*(state for _, state in results))


@pytest.mark.parametrize("skipped", [1, 100, 1024])
def test_values_do_not_depend_on_where_history_begins(skipped, sp500):
    bars = sp500.iloc[:3000]
    texts = [text.format(x=x, w=w) for text, x, w in itertools.product(OPERATORS, INPUTS, (5, 61))]
    full = features.build(bars, {text: text for text in texts})
    later = features.build(bars.iloc[skipped:], {text: text for text in texts})
    start = features.warmup({text: text for text in texts})
    np.testing.assert_array_equal(bits(later[start:]), bits(full[skipped + start :]))


def test_an_average_rank_a_quantile_and_the_earliest_of_equals_by_hand():
    values = [3.0, 5, 5, 4, 5]
    index = pd.date_range("2024-01-01", periods=5, tz="UTC", name="timestamp")
    columns = dict.fromkeys(["open", "high", "low", "close"], values)
    bars = pd.DataFrame({**columns, "volume": 1.0}, index=index)
    by_hand = {
        "rank(close, 5)": 4 / 5,
        "quantile(close, 5, 0.2)": 3.8,
        "quantile(close, 5, 0.5)": 5,
        "quantile(close, 5, 0)": 3,
        "quantile(close, 5, 1)": 5,
        "place_of_highest(close, 5)": 2,
        "place_of_lowest(close, 5)": 1,
        "deviation(close, close, 5)": 3 / 5,
    }
    last = features.build(bars, {text: text for text in by_hand}).iloc[-1]
    np.testing.assert_allclose(last, list(by_hand.values()), rtol=1e-15)


def test_a_share_above_1_is_refused():
    with pytest.raises(ConfigurationError, match=r"share 1\.1 must be <= 1"):
        features.warmup({"q": "quantile(close, 5, 1.1)"})


def test_a_share_below_0_is_refused():
    with pytest.raises(ConfigurationError, match=r"share -0\.1 must be >= 0"):
        features.warmup({"q": "quantile(close, 5, -0.1)"})
