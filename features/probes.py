"""Probes that look for a leak, or for a value that a model cannot use, in features over given bars.

They ask the code that is used, `build` and `Stream`, and compare bit patterns, so a feature passes only if
it cannot see the future, is the same live as in batch, and survives a restart.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.bars import COLUMNS as BAR_COLUMNS
from core.errors import DataError
from features.batch import build as build_batch
from features.batch import epoch_seconds
from features.expression import operators_of
from features.parser import parse
from features.readiness import warm_rows
from features.stream import Stream

Floats = npt.NDArray[np.float64]
Build = Callable[[pd.DataFrame], pd.DataFrame]
# not defined over a window in which nothing varies: there a missing value is the right one
NEEDS_VARIATION = frozenset({"skew", "kurt", "corr", "rsquare"})
# not defined before their first anchor: the part of a session that history holds is not the session
NEEDS_ANCHOR = frozenset({"cumulate", "highest_since", "before_reset"})
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
# what a model's float32 input can hold
LARGEST = float(np.finfo(np.float32).max)
_SEED = 17


@dataclass(frozen=True)
class Finding:
    """What a probe holds against a feature, with the first bar that shows it."""

    feature: str
    probe: str
    detail: str


PROBES = {
    "future": "bars after a cut are poisoned or left out; nothing up to the cut may change",
    "stream": "bar by bar gives the same bits as all bars at once",
    "restore": "a stream restored from a checkpoint goes on with the same bits",
    "missing": "after its warm-up a feature has a value, but where a statistic needs variation and has none, "
    "and before the first anchor of what counts from one",
    "finite": "no value is infinite or too large for a model's float32 input",
}


def probe(
    bars: pd.DataFrame, definitions: Mapping[str, str], *, streamed: int = 20_000, build: Build | None = None
) -> list[Finding]:
    """Every finding over canonical `bars`; none is what a feature should have.

    Streams see the last `streamed` bars at most, on top of the warm-up; batch probes see all. `build` stands
    in for `features.build` over these definitions, columns in their order. DataError: fewer than 2 bars.
    """
    if len(bars) < 2:
        raise DataError(f"{len(bars)} bars: a probe compares a bar with the one before, give at least 2")
    make = build or (lambda frame: build_batch(frame, definitions))
    built = make(bars)
    warm = warm_rows(epoch_seconds(bars.index), definitions)
    tail = bars.iloc[-(streamed + max(warm.values(), default=0)) :]
    rows = built if len(tail) == len(bars) else make(tail)
    return [
        *future(make, bars, built),
        *stream(tail, definitions, rows),
        *restore(tail, definitions, rows),
        *missing(built, definitions),
        *finite(built),
    ]


def cuts(rows: int, shares: Sequence[float] = SHARES) -> list[int]:
    """Rows at which to cut: 1 for share 0, the last row for share 1."""
    return sorted({1 + int(share * (rows - 2)) for share in shares})


def future(
    build: Build, bars: pd.DataFrame, built: pd.DataFrame, shares: Sequence[float] = SHARES
) -> list[Finding]:
    """Features that change at or before a cut when the bars from it on are poisoned, or not there."""
    found: dict[str, Finding] = {}
    for cut in cuts(len(bars), shares):
        expected = built.iloc[:cut]
        for other, what in ((poisoned(bars, cut), "change"), (bars.iloc[:cut], "are left out")):
            for name, row in differing(build(other).iloc[:cut], expected):
                detail = f"the value of {bars.index[row]} changes when bars from {bars.index[cut]} on {what}"
                found.setdefault(name, Finding(name, "future", detail))
    return list(found.values())


def poisoned(bars: pd.DataFrame, cut: int) -> pd.DataFrame:
    """A copy whose bars from row `cut` on are others, and still sound."""
    rng = np.random.default_rng(_SEED + cut)
    copy, rows = bars.copy(), len(bars) - cut
    copy.iloc[cut:, :4] *= rng.uniform(1e-3, 1e3, (rows, 1))
    copy.iloc[cut:, 4] = rng.uniform(0, 1e12, rows)
    return copy


def stream(bars: pd.DataFrame, definitions: Mapping[str, str], built: pd.DataFrame) -> list[Finding]:
    """Features of which a fresh stream gives other bits than the batch `built` over the same bars."""
    rows = np.array(list(streamed_rows(Stream(definitions), bars)))
    return [
        Finding(name, "stream", f"live and batch differ at {bars.index[row]}")
        for name, row in differing(rows, built)
    ]


def restore(
    bars: pd.DataFrame,
    definitions: Mapping[str, str],
    built: pd.DataFrame,
    shares: Sequence[float] = (0.3, 0.8),
) -> list[Finding]:
    """Features that a stream restored from a checkpoint continues otherwise than the batch `built`."""
    first, position = Stream(definitions), 0
    found: dict[str, Finding] = {}
    for cut in cuts(len(bars), shares):
        for _ in streamed_rows(first, bars.iloc[position:cut]):
            pass
        position, second = cut, Stream(definitions)
        second.restore(first.checkpoint())
        rows = np.array(list(streamed_rows(second, bars.iloc[cut:])))
        for name, row in differing(rows, built.iloc[cut:]):
            detail = f"differs at {bars.index[cut + row]} after a restart at {bars.index[cut - 1]}"
            found.setdefault(name, Finding(name, "restore", detail))
    return list(found.values())


def missing(built: pd.DataFrame, definitions: Mapping[str, str]) -> list[Finding]:
    """Features without a value after their warm-up, or whose warm-up is longer than the bars.

    Statistics that need variation may lack one, and what counts from an anchor before the first, but not
    everywhere.
    """
    found = []
    for name, warm in warm_rows(epoch_seconds(built.index), definitions).items():
        text, values = definitions[name], built[name].to_numpy()
        absent = np.flatnonzero(np.isnan(values[warm:])) + warm
        if needs_anchor(text) and len(absent) < len(built) - warm:
            absent = absent[absent > np.isnan(values).argmin()]
        if warm >= len(built):
            detail = f"its first value comes after {warm} bars, there are {len(built)}"
        elif len(absent) == len(built) - warm:
            detail = "it has no value at any bar"
        elif len(absent) and not needs_variation(text):
            detail = (
                f"{len(absent)} values after its warm-up are missing, the first at {built.index[absent[0]]}: "
                "a division by 0, or a log or sqrt out of its range; ratio(a, b, otherwise) states a value"
            )
        else:
            continue
        found.append(Finding(name, "missing", detail))
    return found


def needs_variation(text: str) -> bool:
    """Whether an expression holds a statistic that is not defined where nothing varies."""
    return bool(operators_of(parse(text)) & NEEDS_VARIATION)


def needs_anchor(text: str) -> bool:
    """Whether an expression counts from an anchor, and so is not defined before the first."""
    return bool(operators_of(parse(text)) & NEEDS_ANCHOR)


def finite(built: pd.DataFrame) -> list[Finding]:
    """Features with a value that is infinite or beyond float32."""
    found = []
    for name in built.columns:
        values = built[name].to_numpy()
        large = np.flatnonzero(np.abs(values) > LARGEST)
        if len(large):
            detail = f"{values[large[0]]:g} at {built.index[large[0]]} is beyond {LARGEST:.3g}: scale it down"
            found.append(Finding(str(name), "finite", detail))
    return found


def streamed_rows(stream: Stream, bars: pd.DataFrame) -> Iterator[Floats]:
    """The feature vector [F] of each bar in turn, as `stream` gives it."""
    columns = (bars[name].to_numpy().tolist() for name in BAR_COLUMNS)
    for opened, high, low, close, volume, time in zip(
        *columns, epoch_seconds(bars.index).tolist(), strict=True
    ):
        yield stream.push(opened, high, low, close, volume, time)


def differing(values: pd.DataFrame | Floats, expected: pd.DataFrame) -> list[tuple[str, int]]:
    """(column, first row) wherever bit patterns differ; NaN equals NaN, 0.0 is not -0.0."""
    unequal = bits(values) != bits(expected)
    columns = np.flatnonzero(unequal.any(axis=0))
    return [(str(expected.columns[k]), int(unequal[:, k].argmax())) for k in columns]


def bits(values: pd.DataFrame | Floats) -> npt.NDArray[np.int64]:
    """Float64 values as their bit patterns: equality with NaN and signed zeros."""
    return np.asarray(values, dtype=np.float64).view(np.int64)
