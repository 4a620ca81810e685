"""Alpha158 against an oracle written from Qlib's definitions, and against examples worked by hand."""

import re

import numpy as np
import pandas as pd
import pytest

import features
from features.catalogue.alpha158 import FEATURES
from features.parser import parse
from features.probes import needs_variation, probe
from tests.features.qlib_oracle import alpha158, correlation

BAR = [
    "KMID", "KLEN", "KMID2", "KUP", "KUP2", "KLOW", "KLOW2", "KSFT", "KSFT2",
    "OPEN0", "HIGH0", "LOW0", "VWAP0",
]  # fmt: skip
ROLLING = [
    "ROC", "MA", "STD", "BETA", "RSQR", "RESI", "MAX", "MIN", "QTLU", "QTLD", "RANK", "RSV", "IMAX", "IMIN",
    "IMXD", "CORR", "CORD", "CNTP", "CNTN", "CNTD", "SUMP", "SUMN", "SUMD", "VMA", "VSTD", "WVMA", "VSUMP",
    "VSUMN", "VSUMD",
]  # fmt: skip
PUBLISHED = [*BAR, *(f"{name}{d}" for name in ROLLING for d in (5, 10, 20, 30, 60))]
DEFINITIONS = {feature.name: parse(feature.expression).text for feature in FEATURES}
SPIKE = 300
MARKETS = ("sp500", "calm", "gaps", "huge", "tiny", "one_spike", "flat_and_silent", "ticks")


@pytest.fixture(scope="module")
def compared(markets):
    """Bars by name, with prices on a coarse grid too: there highs, lows and closes are often equal."""
    rng, days = np.random.default_rng(23), markets["calm"].index
    close = 25 + 0.25 * np.cumsum(rng.integers(-1, 2, len(days)))
    opened = np.r_[close[:1], close[:-1]]
    high = np.maximum(opened, close) + 0.25 * rng.integers(0, 2, len(days))
    low = np.minimum(opened, close) - 0.25 * rng.integers(0, 2, len(days))
    volume = 100.0 * rng.integers(1, 9, len(days))
    ticks = {"open": opened, "high": high, "low": low, "close": close, "volume": volume}
    return {**markets, "ticks": pd.DataFrame(ticks, index=days)}


@pytest.fixture(scope="module")
def ours(compared):
    return {name: features.build(bars, DEFINITIONS) for name, bars in compared.items()}


def test_the_names_are_the_published_ones():
    assert len(PUBLISHED) == 158
    assert [feature.name for feature in FEATURES] == PUBLISHED
    assert len(set(DEFINITIONS.values())) == 158
    assert features.warmup(DEFINITIONS) == 60


@pytest.mark.parametrize("market", MARKETS)
def test_every_feature_agrees_with_the_published_definition(market, compared, ours):
    expected, actual = alpha158(compared[market]), ours[market]
    assert list(expected.columns) == PUBLISHED
    # Qlib leaves a bar after one without volume out of CORD
    names = [name for name in PUBLISHED if market != "flat_and_silent" or not name.startswith("CORD")]
    for name in names:
        start = parse(DEFINITIONS[name]).warmup
        rows = np.arange(start, len(actual))
        if market == "one_spike":  # beside a price a million times its size a trend has not nine digits
            rows = rows[(rows < SPIKE) | (rows > SPIKE + 60)]
        wanted, given = expected[name].to_numpy()[rows], actual[name].to_numpy()[rows]
        defined = np.isfinite(wanted)
        assert defined.mean() > 0.3, name
        np.testing.assert_array_equal(np.isnan(given), ~defined, err_msg=name)
        wanted, error = np.abs(wanted[defined]), np.abs(given - wanted)[defined]
        # values pass through 0: there the error counts against a thousandth of the usual size
        usual = np.median(wanted[wanted > 0]) if wanted.any() else 1.0
        assert (error <= 1e-9 * np.maximum(wanted, 1e-3 * usual)).all(), name


def _bars(**columns):
    index = pd.date_range("2024-01-01", periods=len(columns["close"]), tz="UTC", name="timestamp")
    frame = pd.DataFrame({"volume": 1.0, **columns}, index=index, dtype=np.float64)
    return frame[["open", "high", "low", "close", "volume"]]


def test_five_bars_by_hand():
    bars = _bars(
        open=[3, 3, 5, 5, 4],
        high=[6, 7, 7, 6, 6],
        low=[2, 2, 3, 1, 1],
        close=[3, 5, 5, 4, 5],
        volume=[1, 3, 2, 2, 6],
    )
    names = [name for name in PUBLISHED if name in BAR or re.fullmatch(r"\D+5", name)]
    last = features.build(bars, {name: DEFINITIONS[name] for name in names}).iloc[-1]
    by_hand = {
        "KMID": 1 / 4,
        "KLEN": 5 / 4,
        "KMID2": 1 / 5,
        "KUP": 1 / 4,
        "KUP2": 1 / 5,
        "KLOW": 3 / 4,
        "KLOW2": 3 / 5,
        "KSFT": 3 / 4,
        "KSFT2": 3 / 5,
        "OPEN0": 4 / 5,
        "HIGH0": 6 / 5,
        "LOW0": 1 / 5,
        "VWAP0": 12 / 15,
        "MA5": 22 / 25,
        "STD5": np.sqrt(3.2 / 4) / 5,
        "BETA5": 0.3 / 5,
        "RSQR5": 0.9 / 3.2,
        "RESI5": (5 - (4.4 + 2 * 0.3)) / 5,
        "MAX5": 7 / 5,
        "MIN5": 1 / 5,
        # closes in order: 3 4 5 5 5; 0.8 and 0.2 of the way from the first to the last
        "QTLU5": 5 / 5,
        "QTLD5": 3.8 / 5,
        # three closes share the ranks 3, 4 and 5
        "RANK5": 4 / 5,
        "RSV5": 4 / 6,
        # the first of the two highest is the second bar, the first of the two lowest the fourth
        "IMAX5": 2 / 5,
        "IMIN5": 4 / 5,
        "IMXD5": -2 / 5,
        "VMA5": 14 / 5 / 6,
        "VSTD5": np.sqrt(14.8 / 4) / 6,
    }
    assert set(names) - set(by_hand) == set(names) & {
        f"{name}5" for name in ROLLING if parse(DEFINITIONS[f"{name}5"]).warmup == 5
    } | {"CORR5"}
    for name, value in by_hand.items():
        assert last[name] == pytest.approx(value, rel=1e-11, abs=1e-15), name


def test_changes_over_five_bars_by_hand():
    bars = _bars(
        open=[8, 4, 5, 5, 4, 6],
        high=[8, 8, 8, 8, 8, 8],
        low=[2, 2, 2, 2, 2, 2],
        close=[4, 5, 5, 4, 6, 8],
        volume=[2, 1, 3, 2, 2, 6],
    )
    names = [f"{name}5" for name in ROLLING if parse(DEFINITIONS[f"{name}5"]).warmup == 5]
    last = features.build(bars, {name: DEFINITIONS[name] for name in names}).iloc[-1]
    moves, volume = np.array([1.25, 1, 0.8, 1.5, 4 / 3]), np.array([1.0, 3, 2, 2, 6])
    traded, weighted = np.log(np.array([0.5, 3, 2 / 3, 1, 3]) + 1), np.abs(moves - 1) * volume
    by_hand = {
        "ROC5": 4 / 8,
        "CORD5": np.corrcoef(moves, traded)[0, 1],
        "CNTP5": 3 / 5,
        "CNTN5": 1 / 5,
        "CNTD5": 2 / 5,
        "SUMP5": 5 / 6,
        "SUMN5": 1 / 6,
        "SUMD5": 4 / 6,
        "WVMA5": weighted.std(ddof=1) / weighted.mean(),
        "VSUMP5": 6 / 8,
        "VSUMN5": 2 / 8,
        "VSUMD5": 4 / 8,
    }
    assert set(by_hand) == set(names)
    for name, value in by_hand.items():
        assert last[name] == pytest.approx(value, rel=1e-11), name


def test_a_frozen_market_has_a_value_wherever_variation_is_not_needed(ours):
    last = ours["frozen"].iloc[-1]
    still = {name for name, text in DEFINITIONS.items() if needs_variation(text)}
    assert still == {f"{name}{d}" for name in ("RSQR", "CORR", "CORD") for d in (5, 10, 20, 30, 60)}
    assert set(last.index[last.isna()]) == still
    expected = {"ROC": 1, "MA": 1, "STD": 0, "RSV": 0, "RESI": 0, "QTLU": 1, "IMXD": 0, "SUMD": 0, "VMA": 0}
    for name, value in expected.items():
        assert last[f"{name}20"] == value, name
    assert last["RANK20"] == 21 / 40
    assert last["IMAX20"] == 1 / 20


@pytest.mark.parametrize("d", [5, 60])
def test_a_bar_after_one_without_volume_counts_as_unchanged_volume(d, compared, ours):
    bars = compared["flat_and_silent"]
    with np.errstate(all="ignore"):
        change = (bars.volume / bars.volume.shift(1)).where(bars.volume.shift(1) != 0, 1.0)
        expected = correlation(bars.close / bars.close.shift(1), np.log(change + 1), d)
    actual = ours["flat_and_silent"][f"CORD{d}"].to_numpy()
    defined = np.isfinite(expected[d:])
    assert defined.mean() > 0.3
    np.testing.assert_array_equal(np.isnan(actual[d:]), ~defined)
    np.testing.assert_allclose(actual[d:][defined], expected[d:][defined], rtol=0, atol=1e-9)


@pytest.mark.parametrize("market", MARKETS)
def test_no_probe_holds_anything_against_it(market, compared):
    assert probe(compared[market], DEFINITIONS) == []


@pytest.mark.parametrize("market", [*MARKETS, "frozen"])
def test_no_value_lies_outside_its_stated_range(market, ours):
    for feature in FEATURES:
        values = ours[market][feature.name].dropna()
        bounds = re.match(r"[\[(](-?[\d.]+|-inf), (-?[\d.]+|inf)[\])]", feature.range)
        if bounds:
            low, high = map(float, bounds.groups())
            assert ((values >= low - 1e-9) & (values <= high + 1e-9)).all(), feature.name
