"""The challenger beside the champion: scored off the request path, or answering a share of the symbols.

Shadow: every bar the champion scores is queued for a thread that scores it with the challenger too. When
both use the same features the rows are the champion's, else the challenger has streams of its own. A full
queue drops and counts; a stream that missed a bar is brought back from the champion's bars.

Canary: symbols whose stable hash is below `share` are answered by the challenger, once its stream stands
at the same bar as the champion's. Both are logged apart from the champion, in `<model>@challenger` and
`<model>@canary`, so that what judges the champion reads the champion alone.
"""

import queue
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray

from core.clock import Clock, SystemClock
from core.errors import ArtifactError, RegistryError, ServiceError
from monitoring.prediction_log import PredictionLog, Retention
from serving.bar import Bar
from serving.loaded import Loaded
from serving.metrics import Metrics
from serving.model import Model, load_model
from serving.patience import PATIENCE_SECONDS, Patience
from serving.record import as_prediction
from serving.resolver import AliasMissing, Pointer, Resolver
from serving.runtime import Listed
from serving.state import SymbolState

SHADOW, CANARY = "challenger", "canary"
RETRY_SECONDS = 30.0
CLOSE_SECONDS = 1.0


class Scored(NamedTuple):
    """Bars as the champion handled them: features [F], which are warm, and the windows [K, T, F] of those.

    `states` are the champion's, of the symbols of these bars.
    """

    bars: Sequence[Bar]
    vectors: Sequence[NDArray[np.float64]]
    warm: Sequence[bool]
    windows: NDArray[np.float32]
    states: Sequence[SymbolState]


class Answer(NamedTuple):
    """What the challenger says of one bar: row `row` of `outputs`, from its own features `vector`."""

    model: Model
    outputs: Listed
    row: int
    vector: NDArray[np.float64]
    log: PredictionLog


@dataclass
class Rival:
    """A loaded challenger. `shared`: it scores the champion's rows.

    `queued` is written by the loop and `done` by the thread: where they agree the thread is not using that
    symbol's stream.
    """

    loaded: Loaded
    shared: bool
    queued: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    synced: set[str] = field(default_factory=set)

    @property
    def pointer(self) -> Pointer | None:
        return self.loaded.pointer

    @property
    def model(self) -> Model:
        return self.loaded.model

    def settled(self, symbol: str) -> bool:
        """True when its own stream of `symbol` has seen every bar so far."""
        return symbol in self.synced and self.queued[symbol] == self.done[symbol]


class _Work(NamedTuple):
    rival: Rival
    history: list[Bar]
    scored: Scored


class Challenger:
    """What carries the alias `challenger` of one model, if anything does."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        log_root: Path,
        metrics: Metrics,
        share: float = 0.0,
        capacity: int = 256,
        registry_patience: Patience | None = None,
        clock: Clock | None = None,
        retention: Retention | None = None,
    ) -> None:
        self.metrics, self.share = metrics, share
        self.refused: str | None = None
        self._resolver, self._log_root, self._retention = resolver, log_root, retention
        self._patience = Patience(PATIENCE_SECONDS)
        self._registry_patience = registry_patience or Patience(PATIENCE_SECONDS)
        self._clock = clock or SystemClock()
        self._current: Rival | None = None
        self._bad: tuple[Pointer, float] | None = None
        self._canaries: dict[str, bool] = {}
        self._queue: queue.Queue[_Work | None] = queue.Queue(capacity)
        self._thread: threading.Thread | None = None
        self._logs: dict[str, PredictionLog] = {}
        # held while the thread logs, so that a row never lands among those of other features
        self._logging = threading.Lock()
        self._logger = structlog.get_logger(component="challenger")

    @property
    def current(self) -> Rival | None:
        """What is loaded now."""
        return self._current

    def is_canary(self, symbol: str) -> bool:
        """True when the challenger answers for this symbol; the same in every process, for ever."""
        known = self._canaries.get(symbol)
        if known is None:
            known = self._canaries[symbol] = position(symbol) < self.share
        return known

    def look(self, champion: Loaded) -> Rival | None:
        """The challenger to have from now on, proven; None when there is none. Blocks."""
        try:
            pointer = self._registry_patience.call(self._resolver.resolve, "the model registry")
        except AliasMissing:
            return None
        except (RegistryError, ArtifactError):
            return self._current
        if pointer == champion.pointer:
            return None
        if self._current is not None and pointer == self._current.pointer:
            return self._current
        if self._bad is not None and self._bad[0] == pointer and time.monotonic() < self._bad[1]:
            return None
        return self._try(pointer, champion)

    def _try(self, pointer: Pointer, champion: Loaded) -> Rival | None:
        try:
            artefact = self._patience.call(pointer.read, str(pointer.directory))
            model, states = load_model(artefact)
            if model.name != champion.model.name:
                raise ArtifactError(f"{pointer.directory} is a bundle of {model.name}, not of this model")
            loaded = Loaded(model, states, pointer, artefact)
            self._open_logs(model)
            return Rival(loaded, shares_rows(champion.model, model))
        except (RegistryError, ArtifactError, ServiceError, OSError) as error:
            if self._bad is None or self._bad[0] != pointer:
                self.metrics.bundles_refused.add(f"{champion.model.name}@{SHADOW}")
                self._logger.error("challenger_refused", version=pointer.version, error=str(error))
            self.refused = str(error)
            self._bad = (pointer, time.monotonic() + RETRY_SECONDS)
            return None

    def _open_logs(self, model: Model) -> None:
        for kind in (SHADOW, CANARY) if self.share > 0 else (SHADOW,):
            if kind not in self._logs:
                names = [feature.name for feature in model.manifest.features]
                self._logs[kind] = PredictionLog(
                    self._log_root / f"{model.name}@{kind}", names, retention=self._retention
                )

    def install(self, rival: Rival | None, champion: Loaded) -> None:
        """Have `rival` from the next bar on; quick, and on the event loop."""
        old = self._current
        if rival is not None:
            rival.shared = shares_rows(champion.model, rival.model)
        if rival is old:
            return
        with self._logging:
            self._current = rival
            if rival is not None:
                for log in self._logs.values():
                    log.use_features([feature.name for feature in rival.model.manifest.features])
        if rival is not None:
            self._bad, self.refused = None, None
            self._start()
        shown = rival.model.version if rival else None
        self._logger.info("challenger", model=champion.model.name, version=shown)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="challenger", daemon=True)
            self._thread.start()

    def advance(self, scored: Scored) -> dict[int, Answer]:
        """Shadow these bars; the answers to those of canary symbols, by position. On the event loop."""
        rival = self._current
        if rival is None:
            return {}
        taken = [i for i, bar in enumerate(scored.bars) if self._answers(rival, bar.symbol)]
        answers = self._answered(rival, _part(scored, taken)) if taken else {}
        rest = [i for i in range(len(scored.bars)) if i not in set(taken)] if taken else None
        if rest is None or rest:
            self._offer(rival, scored if rest is None else _part(scored, rest))
        return {taken[i]: answer for i, answer in answers.items()}

    def view(self, symbol: str, champion: SymbolState) -> tuple[Model, NDArray[np.float32]] | None:
        """The model and window [T, F] that answer for a canary symbol now; None: the champion does."""
        rival = self._current
        if rival is None or not self._answers(rival, symbol):
            return None
        if rival.shared:
            return rival.model, champion.window[-rival.model.manifest.window :]
        state = rival.loaded.states.get(symbol)
        if state is None or not state.warm:
            return None
        return rival.model, state.window

    def close(self) -> None:
        """Finish what is queued, for at most about a second, and close the logs."""
        if self._thread is not None:
            deadline = time.monotonic() + CLOSE_SECONDS
            while not self._queue.empty() and time.monotonic() < deadline:
                time.sleep(0.01)
            self._drop_queued()
            self._queue.put(None)
            self._thread.join(CLOSE_SECONDS)
            self._thread = None
        with self._logging:
            self._current = None
            for log in self._logs.values():
                log.close()
            self._logs.clear()

    def _drop_queued(self) -> None:
        with suppress(queue.Empty):
            while (work := self._queue.get_nowait()) is not None:
                self.metrics.shadow_dropped.add(work.rival.model.name, amount=len(work.scored.bars))

    def _answers(self, rival: Rival, symbol: str) -> bool:
        return self.share > 0 and self.is_canary(symbol) and (rival.shared or rival.settled(symbol))

    def _answered(self, rival: Rival, scored: Scored) -> dict[int, Answer]:
        vectors, rows, windows = _rows(rival, scored, [])
        if not rows:
            return {}
        outputs = rival.model.score(windows).listed()
        log = self._logs[CANARY]
        return {i: Answer(rival.model, outputs, row, vectors[i], log) for row, i in enumerate(rows)}

    def _offer(self, rival: Rival, scored: Scored) -> None:
        if rival.shared and not len(scored.windows):
            return
        first: dict[str, float] = {}
        for bar in scored.bars:
            first.setdefault(bar.symbol, bar.timestamp)
        symbols, history = set(first), []
        if not rival.shared:
            behind = [state for state in scored.states if state.symbol not in rival.synced]
            history = [b for s in behind for b in s.history() if b.timestamp < first.get(b.symbol, 0.0)]
        # counted before the thread can see the work, so that it never looks settled too early
        rival.queued.update(symbols)
        try:
            self._queue.put_nowait(_Work(rival, history, scored))
        except queue.Full:
            rival.queued.subtract(symbols)
            rival.synced -= symbols
            self.metrics.shadow_dropped.add(rival.model.name, amount=len(scored.bars))
            return
        rival.synced |= symbols

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                self._shadow(*work)
            except Exception as error:
                self._logger.error("shadow_failed", exc_info=error)
                self.metrics.shadow_dropped.add(work.rival.model.name, amount=len(work.scored.bars))
            work.rival.done.update({bar.symbol for bar in work.scored.bars})

    def _shadow(self, rival: Rival, history: list[Bar], scored: Scored) -> None:
        started = time.perf_counter()
        vectors, rows, windows = _rows(rival, scored, history)
        if not rows:
            return
        outputs = rival.model.score(windows).listed()
        latency = (time.perf_counter() - started) * 1e3 / len(rows)
        now = self._clock.now().timestamp()
        with self._logging:
            if self._current is not rival:
                return
            for row, i in enumerate(rows):
                bar = scored.bars[i]
                signal = rival.model.signal(bar.symbol, bar.timestamp, outputs, row, latency)
                self._logs[SHADOW].append(as_prediction(signal, bar, vectors[i], now))
        self.metrics.shadowed.add(rival.model.name, rival.model.version, amount=len(rows))


def _rows(
    rival: Rival, scored: Scored, history: list[Bar]
) -> tuple[Sequence[NDArray[np.float64]], list[int], NDArray[np.float32]]:
    """Vectors [F], positions of the bars that can be scored, and their windows, float32 [K, T, F]."""
    if rival.shared:
        warm = [i for i, ready in enumerate(scored.warm) if ready]
        window = rival.model.manifest.window
        return scored.vectors, warm, np.ascontiguousarray(scored.windows[:, -window:])
    states = rival.loaded.states
    for bar in history:
        _catch_up(states.open(bar.symbol), bar)
    missing = np.full(len(rival.model.manifest.features), np.nan)
    vectors, rows, windows = [], [], []
    for i, bar in enumerate(scored.bars):
        state = states.open(bar.symbol)
        vector = _catch_up(state, bar)
        vectors.append(missing if vector is None else vector)
        if vector is not None and state.warm:
            rows.append(i)
            windows.append(state.window.copy())
    return vectors, rows, np.array(windows, dtype=np.float32)


def _catch_up(state: SymbolState, bar: Bar) -> NDArray[np.float64] | None:
    return state.push(bar) if state.last is None or bar.timestamp > state.last else None


def _part(scored: Scored, positions: Sequence[int]) -> Scored:
    """The bars at `positions`, with their rows of the windows."""
    wanted, row, rows = set(positions), 0, []
    for i, ready in enumerate(scored.warm):
        if ready and i in wanted:
            rows.append(row)
        row += ready
    bars = [scored.bars[i] for i in positions]
    vectors, warm = [scored.vectors[i] for i in positions], [scored.warm[i] for i in positions]
    return Scored(bars, vectors, warm, scored.windows[rows], scored.states)


def shares_rows(champion: Model, challenger: Model) -> bool:
    """True when the challenger can score the champion's windows: equal features, no longer window."""
    same = champion.manifest.features == challenger.manifest.features
    return same and challenger.manifest.window <= champion.manifest.window


def position(symbol: str) -> float:
    """Where a symbol stands between 0 and 1: a hash, the same in every process."""
    return int.from_bytes(sha256(symbol.encode()).digest()[:8], "big") / 2**64
