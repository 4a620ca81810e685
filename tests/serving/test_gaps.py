"""Missing bars are said in the signal, the metrics and the features; nothing is filled in."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pandas as pd
import pytest

from core.bundle import load_manifest
from core.market_hours import MarketHours
from core.signal import Signal
from serving.bar import Bar
from serving.gaps import Gaps, gap_rule
from serving.plane import Plane
from tests.serving.kit import WINDOW, make_bundle, seal_manifest

DAY = 86_400.0
NewPlane = Callable[[Path], Plane]


@pytest.fixture
def with_hours(tmp_path: Path, bars: pd.DataFrame) -> Path:
    """A bundle that knows its market's hours; the bars come on every weekday at 21:00 UTC."""
    directory = make_bundle(tmp_path / "hours", bars)
    hours = MarketHours("weekdays", opens=0, closes=21 * 60, until="2099-12-31")
    seal_manifest(directory, msgspec.structs.replace(load_manifest(directory), hours=hours))
    return directory


def send(plane: Plane, bars: pd.DataFrame, rows: list[int]) -> list[Signal]:
    sent = [Bar("sp500", bars.index[i].timestamp(), *map(float, bars.iloc[i])) for i in rows]
    return asyncio.run(plane.bars(sent))


def test_a_gap_is_reported_while_it_is_in_the_window(
    new_plane: NewPlane, with_hours: Path, bars: pd.DataFrame
) -> None:
    plane = new_plane(with_hours)
    signals = send(plane, bars, [601, 602, 605, 606, 607, 608, 609])
    gap = f"2 bars are missing between {bars.index[602].isoformat()} and {bars.index[605].isoformat()}"
    assert [s.reasons for s in signals] == [
        [],
        [],
        *([f"{gap}, {n} bars ago"] for n in range(WINDOW)),
        [],
    ]
    # reported, and nothing more: the model's right to trade is not the calendar's business
    assert all(s.tradable for s in signals)
    assert plane.metrics.gaps.value("sp500-1d", "sp500") == 1
    assert plane.metrics.missing_bars.value("sp500-1d", "sp500") == 2
    _, state = plane.state("sp500")
    assert (state.gaps.count, state.gaps.missing) == (1, 2)
    assert plane.signal("sp500").reasons == []


def test_bars_between_the_bundle_and_the_first_bar_are_missing_too(
    new_plane: NewPlane, with_hours: Path, bars: pd.DataFrame
) -> None:
    plane = new_plane(with_hours)
    (signal,) = send(plane, bars, [650])
    assert signal.reasons[0].startswith("49 bars are missing between")
    assert plane.signal("sp500").reasons == signal.reasons


def test_the_first_bar_of_a_symbol_follows_nothing(
    new_plane: NewPlane, with_hours: Path, bars: pd.DataFrame
) -> None:
    bar = Bar("new", bars.index[0].timestamp(), *map(float, bars.iloc[0]))
    (signal,) = asyncio.run(new_plane(with_hours).bars([bar]))
    assert not any("missing" in reason for reason in signal.reasons)


@pytest.mark.parametrize(("days", "missing"), [(1, 0), (4, 0), (4.3, 3), (10, 9)])
def test_without_hours_only_a_long_silence_is_a_gap(bundle: Path, days: float, missing: int) -> None:
    assert gap_rule(load_manifest(bundle))(0.0, days * DAY) == missing


def test_one_bar_is_said_in_the_singular() -> None:
    gaps = Gaps(lambda last, new: 1)
    gaps.note(0.0, 2 * DAY, 7)
    assert str(gaps.reason(7, 4)).startswith("1 bar is missing between 1970-01-01")
    assert gaps.reason(11, 4) is None
