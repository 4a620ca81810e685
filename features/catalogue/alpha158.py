"""Qlib's Alpha158 under its published names, for comparison with work that uses it.

Definitions: microsoft/qlib, qlib/contrib/data/loader.py (Alpha158DL) over qlib/data/ops.py, read again here
in our language, with the published constants. After the warm-up the values agree to float64 accuracy, except
where this list says otherwise.

- A rolling value needs its full window and no NaN inside; Qlib gives one from the first bar on
  (min_periods=1) and leaves NaN out of its windows.
- Qlib stores and partly computes in float32; here all is float64.
- VWAP0: bars here have no volume-weighted price, so the typical price (high + low + close) / 3 stands in.
- Prices and volume are used as they are; Qlib's data is adjusted for splits and dividends.
- RSQR, CORR, CORD: missing where a side does not vary at all. Qlib also drops windows whose standard
  deviation is below 2e-5, whatever the unit, to hide its rounding errors; here they have their value.
- CORD: a bar that follows one without volume counts as unchanged volume; Qlib leaves it out of its windows.

What is kept as published: IMAX and IMIN count from the oldest bar of the window (1) to the newest (the whole
window), earliest of equals, not the bars since, as their comment there says; 1e-12 is added to denominators
in the unit of the price, so that KMID2, RSV and SUMP depend on it where prices are about as small; VMA and
VSTD of a bar without volume are huge.
"""

from features.catalogue.entry import Feature, group

WINDOWS = (5, 10, 20, 30, 60)
_SOURCE = "Qlib Alpha158"

_BODY_TOP, _BODY_BOTTOM = "max(open, close)", "min(open, close)"
_SPAN = "(high - low + 1e-12)"
_RISE, _FALL = "max({x} - delay({x}, 1), 0)", "max(delay({x}, 1) - {x}, 0)"
_CHANGE = "abs({x} - delay({x}, 1))"
_WEIGHTED_MOVE = "abs(close / delay(close, 1) - 1) * volume"
_VOLUME_CHANGE = "log(ratio(volume, delay(volume, 1), 1) + 1)"

_BAR = (
    ("KMID", "(close - open) / open", "fraction of open"),
    ("KLEN", "(high - low) / open", "fraction of open"),
    ("KMID2", f"(close - open) / {_SPAN}", "[-1, 1]"),
    ("KUP", f"(high - {_BODY_TOP}) / open", "fraction of open"),
    ("KUP2", f"(high - {_BODY_TOP}) / {_SPAN}", "[0, 1]"),
    ("KLOW", f"({_BODY_BOTTOM} - low) / open", "fraction of open"),
    ("KLOW2", f"({_BODY_BOTTOM} - low) / {_SPAN}", "[0, 1]"),
    ("KSFT", "(2 * close - high - low) / open", "fraction of open"),
    ("KSFT2", f"(2 * close - high - low) / {_SPAN}", "[-1, 1]"),
    ("OPEN0", "open / close", "ratio"),
    ("HIGH0", "high / close", "[1, inf)"),
    ("LOW0", "low / close", "(0, 1]"),
    ("VWAP0", "typical / close", "ratio; typical price for the volume-weighted one"),
)


def _gains(x: str) -> tuple[str, str, str]:
    """Sums of rises, of falls and of absolute changes over {d} bars."""
    parts = (part.format(x=x) for part in (_RISE, _FALL, _CHANGE))
    rises, falls, changes = (f"sum({part}, {{d}})" for part in parts)
    return rises, falls, f"({changes} + 1e-12)"


_UP, _DOWN, _MOVED = _gains("close")
_MORE, _LESS, _TRADED = _gains("volume")
_UP_BARS, _DOWN_BARS = "mean(close > delay(close, 1), {d})", "mean(close < delay(close, 1), {d})"

_ROLLING = (
    ("ROC", "delay(close, {d}) / close", "ratio"),
    ("MA", "mean(close, {d}) / close", "ratio"),
    ("STD", "std(close, {d}) / close", "fraction of close"),
    ("BETA", "slope(close, {d}) / close", "fraction of close per bar"),
    ("RSQR", "rsquare(close, {d})", "[0, 1]; NaN if constant"),
    ("RESI", "(close - forecast(close, {d})) / close", "fraction of close"),
    ("MAX", "highest(high, {d}) / close", "[1, inf)"),
    ("MIN", "lowest(low, {d}) / close", "(0, 1]"),
    ("QTLU", "quantile(close, {d}, 0.8) / close", "ratio"),
    ("QTLD", "quantile(close, {d}, 0.2) / close", "ratio"),
    ("RANK", "rank(close, {d})", "(0, 1]"),
    ("RSV", "(close - lowest(low, {d})) / (highest(high, {d}) - lowest(low, {d}) + 1e-12)", "[0, 1]"),
    ("IMAX", "place_of_highest(high, {d}) / {d}", "(0, 1]"),
    ("IMIN", "place_of_lowest(low, {d}) / {d}", "(0, 1]"),
    ("IMXD", "(place_of_highest(high, {d}) - place_of_lowest(low, {d})) / {d}", "(-1, 1)"),
    ("CORR", "corr(close, log(volume + 1), {d})", "[-1, 1]; NaN if either is constant"),
    (
        "CORD",
        f"corr(close / delay(close, 1), {_VOLUME_CHANGE}, {{d}})",
        "[-1, 1]; NaN if either is constant",
    ),
    ("CNTP", _UP_BARS, "[0, 1]"),
    ("CNTN", _DOWN_BARS, "[0, 1]"),
    ("CNTD", f"{_UP_BARS} - {_DOWN_BARS}", "[-1, 1]"),
    ("SUMP", f"{_UP} / {_MOVED}", "[0, 1]"),
    ("SUMN", f"{_DOWN} / {_MOVED}", "[0, 1]"),
    ("SUMD", f"({_UP} - {_DOWN}) / {_MOVED}", "[-1, 1]"),
    ("VMA", "mean(volume, {d}) / (volume + 1e-12)", "ratio"),
    ("VSTD", "std(volume, {d}) / (volume + 1e-12)", "ratio"),
    (
        "WVMA",
        f"std({_WEIGHTED_MOVE}, {{d}}) / (mean({_WEIGHTED_MOVE}, {{d}}) + 1e-12)",
        "ratio",
    ),
    ("VSUMP", f"{_MORE} / {_TRADED}", "[0, 1]"),
    ("VSUMN", f"{_LESS} / {_TRADED}", "[0, 1]"),
    ("VSUMD", f"({_MORE} - {_LESS}) / {_TRADED}", "[-1, 1]"),
)

FEATURES: tuple[Feature, ...] = group(
    "alpha158",
    *((name, expression, range, _SOURCE) for name, expression, range in _BAR),
    *(
        (f"{name}{d}", expression.format(d=d), range, _SOURCE)
        for name, expression, range in _ROLLING
        for d in WINDOWS
    ),
)
