"""Feature state outlives the process bit for bit; what is damaged is reported and computed again."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import ServiceError
from core.timeframe import Timeframe
from data.parquet import write_bars
from serving.bar import Bar
from serving.memory import Memory
from serving.metrics import Metrics
from serving.resolver import DirectoryResolver
from serving.slot import Slot
from serving.state import SymbolState
from tests.serving.kit import make_bundle

FIRST = 601
NewSlot = Callable[..., Slot]


@pytest.fixture
def new_slot(tmp_path: Path, bundle: Path) -> Iterator[NewSlot]:
    """A started slot with the memory of `tmp_path/state`, as a process would have it."""
    slots: list[Slot] = []

    def build(directory: Path = bundle, *, stored: Path | None = None, remembers: bool = True) -> Slot:
        metrics, logs = Metrics(), tmp_path / ("predictions" if remembers else f"straight-{len(slots)}")
        # only what a test asks for is written
        memory = Memory(
            tmp_path / "state", log_root=logs, metrics=metrics, stored_bars=stored, interval_seconds=3600
        )
        slot = Slot(
            DirectoryResolver(directory), log_root=logs, metrics=metrics, memory=memory if remembers else None
        )
        slot.start()
        slots.append(slot)
        return slot

    yield build
    for slot in slots:
        slot.close()


def push(slot: Slot, bars: pd.DataFrame, start: int, stop: int, symbol: str = "sp500") -> SymbolState:
    """Push rows as the data plane does: state, then archive."""
    rows = bars.iloc[start:stop]
    for time, values in zip(rows.index, rows.to_numpy().tolist(), strict=True):
        bar = Bar(symbol, time.timestamp(), *values)
        slot.require().states.open(symbol).push(bar)
        if slot.memory is not None:
            slot.memory.append([bar])
    return slot.require().states.open(symbol)


def crash(slot: Slot) -> None:
    """What kill -9 leaves: no checkpoint on the way out, locks let go by the kernel."""
    assert slot.memory is not None
    slot.memory._states = None
    slot.close()


def checkpoint(slot: Slot) -> None:
    assert slot.memory is not None
    slot.memory._checkpoint()


def same(left: SymbolState, right: SymbolState) -> bool:
    """True when both hold the same bits."""
    return left.snapshot() == right.snapshot()


@pytest.mark.parametrize("checkpointed", [None, FIRST, 620, 639, 640])
def test_state_after_a_crash_is_that_of_an_uninterrupted_run(
    new_slot: NewSlot, bars: pd.DataFrame, checkpointed: int | None
) -> None:
    slot, straight = new_slot(), new_slot(remembers=False)
    push(slot, bars, FIRST, checkpointed or FIRST)
    if checkpointed is not None:
        checkpoint(slot)
    push(slot, bars, checkpointed or FIRST, 640)
    crash(slot)
    again = new_slot()
    found = again.require().states.get("sp500")
    assert found is not None
    assert same(found, push(straight, bars, FIRST, 640))
    assert same(push(again, bars, 640, 660), push(straight, bars, 640, 660))


def test_symbols_that_were_warming_are_kept_too(new_slot: NewSlot, bars: pd.DataFrame) -> None:
    slot, straight = new_slot(), new_slot(remembers=False)
    push(slot, bars, 0, 7, "BTC/USD")
    checkpoint(slot)
    push(slot, bars, 7, 9, "BTC/USD")
    crash(slot)
    found = new_slot().require().states.get("BTC/USD")
    assert found is not None
    assert same(found, push(straight, bars, 0, 9, "BTC/USD"))


def test_a_clean_stop_leaves_nothing_to_replay(new_slot: NewSlot, bars: pd.DataFrame, tmp_path: Path) -> None:
    slot, straight = new_slot(), new_slot(remembers=False)
    push(slot, bars, FIRST, 640)
    slot.close()
    # without the archive: the checkpoint alone holds everything
    for file in (tmp_path / "state" / "sp500-1d").glob("*.wal"):
        file.unlink()
    found = new_slot().require().states.get("sp500")
    assert found is not None
    assert same(found, push(straight, bars, FIRST, 640))


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
@pytest.mark.parametrize("kept", ["older", "none"])
def test_a_damaged_checkpoint_is_reported_and_computed_again(
    new_slot: NewSlot, bars: pd.DataFrame, tmp_path: Path, damage: str, kept: str
) -> None:
    slot, straight = new_slot(), new_slot(remembers=False)
    for stop in (620, 630):
        push(slot, bars, stop - 10, stop) if stop > 620 else push(slot, bars, FIRST, stop)
        checkpoint(slot)
    push(slot, bars, 630, 640)
    crash(slot)
    directory = tmp_path / "state" / "sp500-1d"
    file = directory / "sp500.state"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes({"flip": bytes(data), "truncate": bytes(data[:-9]), "empty": b""}[damage])
    if kept == "none":
        (directory / "sp500.state.old").write_bytes(b"x")
    again = new_slot()
    assert again.metrics.state_damaged.value("sp500-1d") == (1 if kept == "older" else 2)
    found = again.require().states.get("sp500")
    assert found is not None
    assert same(found, push(straight, bars, FIRST, 640))


def test_any_bit_of_a_checkpoint_may_flip(new_slot: NewSlot, bars: pd.DataFrame, tmp_path: Path) -> None:
    from core.errors import ArtifactError
    from serving.checkpoints import read

    slot = new_slot()
    push(slot, bars, FIRST, 610)
    checkpoint(slot)
    file = tmp_path / "state" / "sp500-1d" / "sp500.state"
    good = file.read_bytes()
    for position in np.linspace(0, len(good) - 1, 200).astype(int):
        bad = bytearray(good)
        bad[position] ^= 1 << (position % 8)
        file.write_bytes(bad)
        with pytest.raises(ArtifactError, match=r"sp500\.state"):
            read(file)


def test_a_damaged_archive_is_filled_from_the_prediction_log(
    new_slot: NewSlot, bars: pd.DataFrame, tmp_path: Path, bundle: Path
) -> None:
    import asyncio

    from serving.plane import Plane

    slot, straight = new_slot(), new_slot(remembers=False)
    plane = Plane([slot], slot.metrics)
    rows = bars.iloc[FIRST:640]
    for time, values in zip(rows.index, rows.to_numpy().tolist(), strict=True):
        asyncio.run(plane.bars([Bar("sp500", time.timestamp(), *values)]))
    crash(slot)
    file = next((tmp_path / "state" / "sp500-1d").glob("bars-*.wal"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    again = new_slot()
    assert again.metrics.state_damaged.value("sp500-1d") == 1
    found = again.require().states.get("sp500")
    assert found is not None
    assert same(found, push(straight, bars, FIRST, 640))


def test_other_features_are_computed_from_the_archived_bars(
    new_slot: NewSlot, bars: pd.DataFrame, tmp_path: Path
) -> None:
    slot = new_slot()
    push(slot, bars, FIRST, 620)
    checkpoint(slot)
    push(slot, bars, 620, 640)
    crash(slot)
    other = make_bundle(tmp_path / "b", bars, names=["return_1", "return_20", "gap"], version="2")
    found = new_slot(other).require().states.get("sp500")
    straight = push(new_slot(other, remembers=False), bars, FIRST, 640)
    assert found is not None
    assert same(found, straight)


def test_a_swap_to_other_features_after_a_restart_sees_the_bars_before_it(
    new_slot: NewSlot, bars: pd.DataFrame, tmp_path: Path
) -> None:
    directory = make_bundle(tmp_path / "b", bars)
    slot = new_slot(directory)
    push(slot, bars, FIRST, 640)
    slot.close()
    again = new_slot(directory)
    push(again, bars, 640, 650)
    make_bundle(directory, bars, names=["return_1", "return_20", "gap"], version="2")
    loaded = again.look()
    assert loaded is not None
    # bars that arrive while the new model is being loaded
    push(again, bars, 650, 655)
    again.install(loaded)
    found = again.require().states.get("sp500")
    assert found is not None
    straight = push(new_slot(directory, remembers=False), bars, FIRST, 655)
    assert same(found, straight)


def test_a_newer_bundle_wins_after_a_restart(new_slot: NewSlot, bars: pd.DataFrame, tmp_path: Path) -> None:
    slot = new_slot()
    push(slot, bars, FIRST, 620)
    slot.close()
    found = new_slot(make_bundle(tmp_path / "b", bars, row=700)).require().states.get("sp500")
    assert found is not None
    assert found.last == bars.index[700].timestamp()


def test_a_bundle_that_was_never_sent_a_bar_leaves_no_state(
    new_slot: NewSlot, bars: pd.DataFrame, tmp_path: Path
) -> None:
    slot = new_slot(make_bundle(tmp_path / "new", bars, row=700))
    slot.close()
    found = new_slot(make_bundle(tmp_path / "old", bars)).require().states.get("sp500")
    assert found is not None
    assert found.last == bars.index[600].timestamp()


def test_a_new_symbol_is_warm_from_stored_bars(new_slot: NewSlot, bars: pd.DataFrame, tmp_path: Path) -> None:
    stored = tmp_path / "bars"
    for symbol, timeframe in (("EUR.USD", "1d"), ("sp500", "1d"), ("other", "1h")):
        write_bars(stored, bars.iloc[:700], symbol, Timeframe.parse(timeframe))
    slot, straight = new_slot(stored=stored), new_slot(remembers=False)
    states = slot.require().states
    assert sorted(state.symbol for state in states) == ["EUR.USD", "sp500"]
    filled, bundled = states.get("EUR.USD"), states.get("sp500")
    assert filled is not None
    assert bundled is not None
    assert filled.bars >= slot.require().model.warm_bars
    assert same(filled, push(straight, bars, 0, 700, "EUR.USD"))
    # the bundle's own symbol begins where the bundle says
    assert bundled.last == bars.index[600].timestamp()


def test_damaged_stored_bars_leave_the_symbol_cold(
    new_slot: NewSlot, bars: pd.DataFrame, tmp_path: Path
) -> None:
    write_bars(tmp_path / "bars", bars.iloc[:300], "other", Timeframe.parse("1d"))
    file = next((tmp_path / "bars").rglob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-20])
    slot = new_slot(stored=tmp_path / "bars")
    assert [state.symbol for state in slot.require().states] == ["sp500"]


def test_state_has_one_writer(new_slot: NewSlot, bundle: Path, tmp_path: Path) -> None:
    new_slot()
    memory = Memory(tmp_path / "state", log_root=tmp_path / "other", metrics=Metrics())
    second = Slot(DirectoryResolver(bundle), log_root=tmp_path / "other", metrics=Metrics(), memory=memory)
    with pytest.raises(ServiceError, match="--fresh"):
        second.start()
    second.close()


def test_a_disk_that_refuses_checkpoints_is_reported_and_costs_no_bar(
    new_slot: NewSlot, bars: pd.DataFrame, tmp_path: Path
) -> None:
    slot, straight = new_slot(), new_slot(remembers=False)
    push(slot, bars, FIRST, 610)
    directory = tmp_path / "state" / "sp500-1d"
    (directory / "sp500.state").mkdir()
    (directory / "sp500.state.old").mkdir()
    (directory / "sp500.state.old" / "file").touch()
    checkpoint(slot)
    assert slot.metrics.state_errors.value("sp500-1d") == 1
    crash(slot)
    for name in ("sp500.state", "sp500.state.old"):
        shutil.rmtree(directory / name, ignore_errors=True)
    found = new_slot().require().states.get("sp500")
    assert found is not None
    assert same(found, push(straight, bars, FIRST, 610))
