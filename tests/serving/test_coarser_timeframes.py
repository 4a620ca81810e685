"""Features of a coarser timeframe are served with the bits of training, and not before they are warm."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import features
from core.signal import Signal
from features.readiness import warm_rows
from serving.bar import Bar
from serving.plane import Plane
from serving.state import States
from tests.serving.kit import AS_OF_ROW, WINDOW, make_bundle

OWN = {
    "weekly": "on('1w', rsi(close, 3)) / 100",
    "from_the_month": "close / on('4w', mean(close, 3)) - 1",
    "over_weeks": "mean(on('1w', volume), 8) / volume",
}


def as_bars(bars: pd.DataFrame, symbol: str = "sp500") -> list[Bar]:
    return [
        Bar(symbol, time.timestamp(), *values)
        for time, values in zip(bars.index, bars.to_numpy().tolist(), strict=True)
    ]


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory, bars: pd.DataFrame) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "sp500-1d", bars, names=["rsi_14"], own=OWN)


def answered(plane: Plane, bars: list[Bar]) -> list[Signal]:
    return asyncio.run(plane.bars(bars))


def test_a_service_goes_on_where_training_ended(
    new_plane: Callable[[Path], Plane], coarse: Path, bars: pd.DataFrame
) -> None:
    plane = new_plane(coarse)
    expected = features.build(bars, plane.state("sp500")[1].stream.definitions)
    for row, bar in enumerate(as_bars(bars.iloc[AS_OF_ROW + 1 : AS_OF_ROW + 60]), AS_OF_ROW + 1):
        (signal,) = answered(plane, [bar])
        window = plane.state("sp500")[1].window
        assert signal.probability is not None
        assert window.tobytes() == expected.iloc[row + 1 - WINDOW : row + 1].to_numpy(np.float32).tobytes()


def test_an_unknown_symbol_waits_until_its_own_coarser_bars_are_closed(
    new_plane: Callable[[Path], Plane], coarse: Path, bars: pd.DataFrame
) -> None:
    """With most of its bars missing it is warm after fewer bars than in training; whole, at another time."""
    plane = new_plane(coarse)
    for symbol, part in {"WHOLE": bars.iloc[13:], "THIN": bars.iloc[::4], "LATE": bars.iloc[333:]}.items():
        signals = answered(plane, as_bars(part, symbol))
        _, state = plane.state(symbol)
        times = part.index.as_unit("s").asi8.astype(float)
        first = max(warm_rows(times, state.stream.definitions).values()) + WINDOW - 1
        assert [signal.probability is not None for signal in signals] == [
            row >= first for row in range(len(part))
        ]


def test_what_is_still_awaited_is_said(
    new_plane: Callable[[Path], Plane], coarse: Path, bars: pd.DataFrame
) -> None:
    plane = new_plane(coarse)
    warm = plane.model("sp500-1d").warm_bars
    # the first bars come in one week, so that all bars are there before all weeks are
    crowd = pd.date_range(bars.index[0], periods=200, freq="min", tz="UTC")
    times = crowd.append(bars.index[200:])
    signals = answered(plane, as_bars(bars.set_axis(times), "CROWD"))
    assert signals[warm - 2].reasons[0] == f"warming up: {warm - 1} of {warm} bars"
    assert signals[warm - 1].reasons[0].startswith("warming up: after")
    assert signals[-1].probability is not None


def test_a_state_that_was_saved_inside_a_week_goes_on(bars: pd.DataFrame) -> None:
    expected = features.build(bars, OWN)
    rng = random.Random(4)
    states, position = States(OWN, WINDOW), 0
    for cut in sorted(rng.sample(range(len(bars)), 40)):
        assert states.replay(as_bars(bars.iloc[position:cut], "x")) == cut - position
        snapshot, states, position = states.open("x").snapshot(), States(OWN, WINDOW), cut
        assert states.resume(snapshot)
        assert states.open("x").warm == expected.iloc[max(0, cut - WINDOW) : cut].notna().all(axis=None)
        if cut >= WINDOW:
            recent = expected.iloc[cut - WINDOW : cut].to_numpy(np.float32)
            assert states.open("x").window.tobytes() == recent.tobytes()
