"""What makes feature state outlive the process: checkpoints, and the bars since.

State = newest checkpoint + the archived bars after it, pushed again: bit for bit what an uninterrupted run
would hold, since a bar is archived before it is answered. Checkpoints are written by a thread; a request
costs one append. What cannot be read is reported and computed again: from the checkpoint before, else from
the bundle's state or stored bars, by every bar that the archive or, where that is damaged, the prediction
log still holds.
"""

import io
import math
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from core.errors import ArtifactError
from monitoring.sole_writer import claim
from serving import checkpoints, past_bars
from serving.bar import Bar
from serving.bar_archive import BarArchive
from serving.checkpoints import Position
from serving.errors import ServingError
from serving.metrics import Metrics
from serving.state import States

# Share of the time that may go into checkpoints: five parts rest, one part work.
REST = 5.0
CLOSE_SECONDS = 2.0


_ONE_WRITER = "feature state has one writer; stop the other service, or serve with --fresh"


class Memory:
    """The kept state of one model; one process at a time.

    `stored_bars` is a root of stored bars (data/store/validate/bars) for symbols that have no state yet.
    """

    def __init__(
        self,
        root: Path,
        *,
        log_root: Path,
        metrics: Metrics,
        stored_bars: Path | None = None,
        interval_seconds: float = 2.0,
    ) -> None:
        self._root, self._log_root, self._stored_bars = root, log_root, stored_bars
        self._metrics, self._interval = metrics, interval_seconds
        self._model = ""
        self._lock: io.TextIOWrapper | None = None
        self._archive: BarArchive | None = None
        self._position = Position()
        self._states: States | None = None
        # symbol → generation of the states and last bar of its newest checkpoint
        self._saved: dict[str, tuple[int, float | None]] = {}
        self._generation = 0
        self._thread: threading.Thread | None = None
        self._stop, self._wake = threading.Event(), threading.Event()
        self._passing = threading.Lock()
        self._logger = structlog.get_logger(component="feature_state")

    @property
    def directory(self) -> Path:
        """Where this model's state is."""
        return self._root / self._model

    def recall(self, model: str, timeframe: str, states: States, *, serving: States | None = None) -> None:
        """Bring fresh `states` up to the last bar ever answered, before they serve. Blocks.

        At the start of a process from the disk; while `serving`, whose states will be moved over where they
        fit, only when the new model computes other features. ServiceError when another process holds them.
        """
        if serving is None:
            self._open(model)
            self._restore(timeframe, states)
        elif not serving.continued_by(states):
            self._backfill(timeframe, states)
            states.replay(self._archived(0, lost=False))

    def follow(self, states: States) -> None:
        """Keep `states` from now on; quick, and on the event loop."""
        if self._states is not states:
            self._states, self._generation = states, self._generation + 1
            self._wake.set()
        if self._thread is None and self._archive is not None:
            self._thread = threading.Thread(target=self._work, name="feature-state", daemon=True)
            self._thread.start()

    def append(self, bars: Sequence[Bar]) -> None:
        """Archive bars that changed the state, before they are answered. OSError when the disk refuses."""
        if self._archive is not None:
            self._archive.append(bars)

    def close(self) -> None:
        """Write what is not written yet, for a few seconds at most, and let go of the directory."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(2 * CLOSE_SECONDS)
            self._thread = None
            self._checkpoint(time.monotonic() + CLOSE_SECONDS)
        if self._archive is not None:
            self._guarded(self._archive.close)
            self._archive = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _open(self, model: str) -> None:
        self._model = model
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._lock is None:
            self._lock = claim(self.directory, _ONE_WRITER)
        if self._archive is None:
            self._archive = BarArchive(self.directory)

    def _restore(self, timeframe: str, states: States) -> None:
        found = checkpoints.read_all(self.directory)
        unfit = [symbol for symbol, snapshot in found.snapshots.items() if not states.resume(snapshot)]
        self._position = self._read_position(found.faults)
        for fault in found.faults:
            self._report("state_damaged", error=fault)
        if unfit:
            self._logger.info("state_of_other_features", model=self._model, symbols=len(unfit))
        self._backfill(timeframe, states)
        deep = bool(found.faults or unfit)
        bars = self._archived(0 if deep else self._position.current, lost=found.lost)
        count = states.replay(bars)
        self._logger.info(
            "state_restored", model=self._model, symbols=len(found.snapshots) - len(unfit), replayed=count
        )

    def _read_position(self, faults: list[str]) -> Position:
        try:
            return checkpoints.read_position(self.directory)
        except ArtifactError as error:
            faults.append(str(error))
            return Position()

    def _backfill(self, timeframe: str, states: States) -> None:
        """Warm the symbols that have stored bars and no state."""
        known = {state.symbol for state in states}
        new = (
            set(past_bars.stored_symbols(self._stored_bars, timeframe)) - known
            if self._stored_bars
            else set()
        )
        if self._stored_bars is None or not new:
            return
        wanted = set(sorted(new)[: states.limit - len(known)])
        try:
            bars = [bar for bar in past_bars.stored(self._stored_bars, timeframe) if bar.symbol in wanted]
            count = states.replay(bars)
        except (ArtifactError, ServingError) as error:
            self._logger.error("backfill_failed", model=self._model, error=str(error))
            return
        self._logger.info("backfilled", model=self._model, symbols=sorted(wanted), bars=count)

    def _archived(self, start: int, *, lost: bool) -> list[Bar]:
        assert self._archive is not None
        bars, faults = self._archive.read(start)
        if faults and start:
            bars, faults = self._archive.read()
        for fault in faults:
            self._report("state_damaged", error=fault)
        return self._with_logged(bars, tail=bool(faults)) if faults or lost else bars

    def _with_logged(self, bars: list[Bar], *, tail: bool) -> list[Bar]:
        """The archive's bars and the prediction log's, in order of time.

        Without `tail` the archive's end is sound: newer bars of the log are a replay's, and left out.
        """
        newest: dict[str, float] = {}
        for bar in bars:
            newest[bar.symbol] = max(newest.get(bar.symbol, bar.timestamp), bar.timestamp)
        try:
            logged = past_bars.logged(self._log_root / self._model)
        except ArtifactError as error:
            self._logger.error("log_not_readable", model=self._model, error=str(error))
            return bars
        older = (b for b in logged if tail or b.timestamp < newest.get(b.symbol, math.inf))
        both = {(bar.symbol, bar.timestamp): bar for bar in (*older, *bars)}
        return sorted(both.values(), key=lambda bar: bar.timestamp)

    def _work(self) -> None:
        pause = self._interval
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            if self._stop.is_set():
                return
            started = time.monotonic()
            self._checkpoint()
            pause = max(self._interval, REST * (time.monotonic() - started))

    def _checkpoint(self, deadline: float = math.inf) -> None:
        with self._passing:
            self._guarded(lambda: self._pass(deadline))

    def _pass(self, deadline: float) -> None:
        states, generation, archive = self._states, self._generation, self._archive
        if states is None or archive is None:
            return
        number = archive.number
        archive.sync()
        for state in states:
            if self._generation != generation or time.monotonic() > deadline:
                return
            if not state.live or self._saved.get(state.symbol) == (generation, state.last):
                continue
            snapshot = state.snapshot()
            checkpoints.write(self.directory, snapshot)
            self._saved[state.symbol] = (generation, snapshot.last)
        if self._position.current != number:
            self._position = self._position.advance(number)
            checkpoints.write_position(self.directory, self._position)
        archive.trim(self._position.older)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            self._metrics.state_errors.add(self._model)
            self._logger.error("state_not_written", model=self._model, error=str(error))

    def _report(self, event: str, *, error: str) -> None:
        self._metrics.state_damaged.add(self._model)
        self._logger.error(event, model=self._model, error=error)
