"""In which markets did the skill show? Regimes known at each bar, and the record within each."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import DataError
from evaluation.performance import sharpe

Vector = npt.NDArray[np.float64]
Labels = npt.NDArray[np.str_]
_ORDER = "low middle high down up"
# history may grow by this part before the bounds of its thirds are drawn anew
_GROWTH = 0.05


def label(close: npt.ArrayLike, times: npt.ArrayLike, window: int = 60) -> dict[str, Labels]:
    """The regime of each bar as known at its close: {"volatility", "trend", "year"}, each [n] of names.

    close: [n] > 0. times: [n] bar closes, datetime64 in UTC. window: bars.

    volatility: low, middle or high third, among the volatilities of all EARLIER bars, of the root mean
    square log return of the last `window` bars. trend: up where the close is above that of `window` bars
    before, else down. year: of the close. "" where the history is too short to say.
    """
    close = np.asarray(close, dtype=np.float64)
    years = np.asarray(times).astype("datetime64[Y]").astype(str)
    if len(close) != len(years) or not (np.isfinite(close) & (close > 0)).all():
        raise DataError(f"{len(close)} closes of {len(years)} bars: need one close > 0 per bar")
    trend = np.where(close[window:] > close[:-window], "up", "down")
    before = np.full(min(window, len(close)), "")
    return {
        "volatility": _thirds(_volatility(close, window), window),
        "trend": np.concatenate([before, trend]),
        "year": years,
    }


def breakdown(
    rows: Labels, bars: Labels, gain: Vector, hit: npt.NDArray[np.bool_], returns: Vector, periods: float
) -> list[dict[str, Any]]:
    """The record within each regime of one kind: from low to high, from down to up, year after year.

    rows: [n] regime of each predicted row, with gain [n] in log-loss and hit [n]. bars: [t] regime known
    when the position of each bar was taken, with returns [t]; periods: bars per year.
    Each entry: label, rows, log_loss_gain (mean), hit_rate, bars, sharpe (annualised).
    """
    found = []
    for name in sorted({*rows[rows != ""].tolist()}, key=lambda name: (_ORDER.find(name), name)):
        inside, earned = rows == name, returns[bars == name]
        found.append(
            {
                "label": name,
                "rows": int(inside.sum()),
                "log_loss_gain": float(gain[inside].mean()),
                "hit_rate": float(hit[inside].mean()),
                "bars": len(earned),
                "sharpe": sharpe(earned, periods) if len(earned) > 1 else float("nan"),
            }
        )
    return found


def concentration(kind: str, parts: Sequence[Mapping[str, Any]]) -> str | None:
    """The warning, in words, when all of the skill sits in one regime of several; else None."""
    gains = [part["log_loss_gain"] * part["rows"] for part in parts]
    if len(parts) < 2 or sum(gains) <= 0:
        return None
    at = int(np.argmax(gains))
    rows = sum(part["rows"] for part in parts)
    elsewhere = (sum(gains) - gains[at]) / (rows - parts[at]["rows"])
    if elsewhere > 0:
        return None
    return (
        f"All of the skill sits in {kind} {parts[at]['label']} ({parts[at]['rows']} of {rows} rows): "
        f"everywhere else the log-loss is {-elsewhere:.5f} worse than the baseline's"
    )


def _volatility(close: Vector, window: int) -> Vector:
    """Root mean square log return of the last `window` bars, [n], NaN before there are so many."""
    if len(close) <= window:
        return np.full(len(close), np.nan)
    squares = np.convolve(np.diff(np.log(close)) ** 2, np.ones(window), mode="valid")
    return np.concatenate([np.full(window, np.nan), np.sqrt(squares / window)])


def _thirds(volatility: Vector, window: int) -> Labels:
    """Where each value lies among those before it; a first `window` of values is needed to say."""
    named = np.full(len(volatility), "", dtype="<U6")
    start = 2 * window
    while start < len(volatility):
        stop = start + int(_GROWTH * start) + 1
        bounds = np.quantile(volatility[window:start], [1 / 3, 2 / 3])
        third = np.searchsorted(bounds, volatility[start:stop])
        named[start:stop] = np.array(["low", "middle", "high"])[third]
        start = stop
    return named
