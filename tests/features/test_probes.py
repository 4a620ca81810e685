"""The probes find what they are made for: each leak here is one that somebody once shipped."""

import numpy as np
import pandas as pd
import pytest

import features
from core.errors import DataError
from features import probes
from features.probes import PROBES, cuts, differing, needs_variation, probe

SOUND = {"gap": "open / delay(close, 1) - 1", "rsi": "rsi(close, 14)", "skewed": "skew(returns, 20)"}


@pytest.fixture(scope="module")
def bars(sp500):
    return sp500.iloc[:400]


def leaky(change):
    """A batch build in which `change(frame, bars)` spoils the column rsi."""

    def build(bars):
        frame = features.build(bars, SOUND)
        return frame.assign(rsi=change(frame["rsi"], bars))

    return build


LEAKS = {
    "shifted by one bar": lambda rsi, bars: rsi.shift(-1),
    "scaled by the whole sample": lambda rsi, bars: (rsi - rsi.mean()) / rsi.std(),
    "filled backwards": lambda rsi, bars: rsi.bfill(),
    "centred window": lambda rsi, bars: rsi.rolling(5, center=True).mean(),
    "the last row only": lambda rsi, bars: rsi.where(
        np.arange(len(rsi)) < len(rsi) - 1, bars["close"].mean()
    ),
}


def test_sound_features_pass(bars):
    assert probe(bars, SOUND) == []


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_is_found_and_only_the_offender_named(leak, bars):
    found = probe(bars, SOUND, build=leaky(LEAKS[leak]))
    assert "future" in {finding.probe for finding in found}
    assert {finding.feature for finding in found} == {"rsi"}


def test_live_that_differs_from_batch_is_found(bars):
    found = probe(bars, SOUND, build=leaky(lambda rsi, bars: rsi * (1 + 1e-15)))
    assert {finding.probe for finding in found} == {"stream", "restore"}
    assert {finding.feature for finding in found} == {"rsi"}


def test_a_checkpoint_that_forgets_is_found(bars, monkeypatch):
    monkeypatch.setattr(probes.Stream, "restore", lambda self, checkpoint: None)
    found = probe(bars, SOUND)
    assert {finding.probe for finding in found} == {"restore"}
    assert {finding.feature for finding in found} == set(SOUND)


@pytest.mark.parametrize(
    ("expression", "name", "detail"),
    [
        ("1 / (close - close)", "missing", "no value at any bar"),
        ("log(close - open)", "missing", "are missing, the first at"),
        ("mean(close, 401)", "missing", "after 400 bars, there are 400"),
        ("square(square(close)) * square(square(volume))", "finite", "beyond 3.4e+38"),
    ],
)
def test_a_value_that_a_model_cannot_use_is_found(expression, name, detail, bars):
    found = probe(bars, SOUND | {"own": expression})
    assert [(finding.feature, finding.probe) for finding in found] == [("own", name)]
    assert detail in found[0].detail


def test_an_infinite_value_is_found(bars):
    found = probes.finite(pd.DataFrame({"a": [1.0, np.nan], "b": [-np.inf, 1.0]}, index=bars.index[:2]))
    assert [finding.feature for finding in found] == ["b"]


def test_statistics_of_what_does_not_vary_may_be_missing(bars):
    still = bars.assign(open=1.0, high=1.0, low=1.0).assign(close=np.where(np.arange(400) < 200, 1.0, 1.5))
    still["high"] = still["close"]
    assert probe(still, {"skewed": "skew(returns, 20)", "level": "close / open"}) == []
    assert needs_variation("1 + corr(close, open, 9)")
    assert not needs_variation("std(close, 9)")


def test_streams_see_the_last_bars_of_a_long_history(bars, monkeypatch):
    seen = []
    monkeypatch.setattr(probes, "stream", lambda tail, *_: seen.append(len(tail)) or [])
    assert probe(bars, {"m": "mean(close, 11)"}, streamed=50) == []
    assert seen == [60]


def test_cuts_hold_the_first_and_the_last_row():
    assert cuts(400)[0] == 1
    assert cuts(400)[-1] == 399
    assert cuts(2) == [1]


def test_too_few_bars_to_compare(bars):
    with pytest.raises(DataError, match="at least 2"):
        probe(bars.iloc[:1], SOUND)


def test_every_probe_is_described():
    assert all(callable(getattr(probes, name)) for name in PROBES)


def test_signs_and_missing_values_are_told_apart():
    one = pd.DataFrame({"a": [0.0, np.nan], "b": [1.0, 2.0]})
    assert differing(one.assign(a=[-0.0, np.nan]), one) == [("a", 0)]
    assert differing(one.copy(), one) == []
