"""The data plane: bars to features to window to ONNX to Signal. It knows no protocol."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.clock import Clock, SystemClock
from core.signal import Signal
from monitoring.prediction_log import PredictionLog
from serving.bar import Bar
from serving.challenger import Scored
from serving.errors import BadRequest, BarRefused, NotFound, NotReady, ServingError
from serving.metrics import Metrics
from serving.model import Model
from serving.record import as_prediction
from serving.runtime import Outputs
from serving.slot import Loaded, Slot
from serving.state import SymbolState

# Bars scored in one call of the graph; between two of them other requests get their turn.
CHUNK = 32
# Clocks differ, and a session may be stamped at its end; a bar further ahead is a mistake.
AHEAD_SECONDS = 86_400.0
# Bars of all the requests that are answered together; requests beyond them wait for the next turn.
TOGETHER = 8 * CHUNK
# Windows above this are scored in a thread: the graph releases the interpreter lock.
INLINE_WINDOWS = 8


class BarsAsked(msgspec.Struct, frozen=True):
    """The bars of one request, and the timeframe it names."""

    bars: Sequence[Bar]
    timeframe: str | None


class Answers:
    """What several requests get: a fault each, or a signal per bar."""

    def __init__(self, asked: Sequence[BarsAsked]) -> None:
        self.asked = asked
        self.faults: list[ServingError | None] = [None] * len(asked)
        self.signals: list[list[Signal]] = [[cast("Signal", None)] * len(each.bars) for each in asked]


@dataclass
class Chunk:
    """Bars of one model that are scored together, and where the signal of each belongs."""

    slot: Slot
    bars: list[Bar] = field(default_factory=list)
    places: list[tuple[list[Signal], int]] = field(default_factory=list)

    def put(self, found: Sequence[Signal]) -> None:
        """The signals of the bars, in order."""
        for (signals, at), signal in zip(self.places, found, strict=True):
            signals[at] = signal


class Plane:
    """Everything the protocols ask for, over one or more models.

    Runs on one event loop. `turn` is held while bars change the state and while a model is swapped in, so
    a request is answered by exactly one version.
    """

    def __init__(self, slots: Sequence[Slot], metrics: Metrics, *, clock: Clock | None = None) -> None:
        self.slots = list(slots)
        self.metrics = metrics
        self._clock = clock or SystemClock()
        # told of the signals of every request, once they are logged
        self.listeners: set[Callable[[Sequence[Signal]], None]] = set()
        self._turn = asyncio.Lock()
        # requests that hold the turn or wait for it: a lock that was just let go is theirs, though it is open
        self._in_turn = 0

    @property
    def ready(self) -> bool:
        """True when a model is loaded: one that is missing must not take the others away."""
        return any(slot.current is not None for slot in self.slots)

    async def bars(self, bars: Sequence[Bar], timeframe: str | None = None) -> list[Signal]:
        """One signal per bar, in order.

        All or nothing: a bar that breaks a rule (BarRefused) or is not newer than the last (StaleBar)
        refuses the request before any bar changes the state.
        """
        self._in_turn += 1
        try:
            return await self._bars(BarsAsked(bars, timeframe))
        finally:
            self._in_turn -= 1

    async def _bars(self, asked: BarsAsked) -> list[Signal]:
        async with self._turn:
            answers = Answers([asked])
            for number, chunk in enumerate(self._plan(answers)):
                if number:
                    await asyncio.sleep(0)
                self._advance(chunk)
            found = self._told(answers)[0]
        if isinstance(found, ServingError):
            raise found
        return found

    def bars_together(self, asked: Sequence[BarsAsked]) -> list[list[Signal] | ServingError | None]:
        """What `bars` gives each of several requests, or raises; None for one that has to wait its turn.

        Requests see the bars of those before them; what refuses one leaves the others alone. All their
        windows are scored together, and all that is written is written at once.
        """
        few = 0
        if not self._in_turn and not self._turn.locked():
            sizes = accumulate(len(each.bars) for each in asked)
            few = sum(size <= TOGETHER for size in sizes)
        answers = Answers(asked[:few])
        for chunk in self._plan(answers):
            self._advance(chunk)
        return [*self._told(answers), *[None] * (len(asked) - few)]

    async def swap(self, slot: Slot, loaded: Loaded) -> None:
        """Serve `loaded` from the next request on."""
        async with self._turn:
            slot.install(loaded)

    def signal(self, symbol: str, timeframe: str | None = None) -> Signal:
        """The signal as of the symbol's last bar, by the model that serves now; it is not logged."""
        started = time.perf_counter()
        slot = self._slot(symbol, timeframe)
        loaded = slot.require()
        model, state = loaded.model, loaded.states.get(symbol)
        if state is None or state.last is None:
            raise NotFound(f"symbol {symbol!r} has no bars: send them to POST /v1/bars first")
        if not state.warm:
            return _noted(model.warming(symbol, state.last, state.bars, _since(started)), state)
        canary = slot.challenger.view(symbol, state) if slot.challenger else None
        model, window = canary or (model, state.window)
        outputs = model.score(window[None]).listed()
        return _noted(model.signal(symbol, state.last, outputs, 0, _since(started)), state)

    def state(self, symbol: str, timeframe: str | None = None) -> tuple[Model, SymbolState]:
        """A symbol's state and the model it feeds; NotFound when no bar and no bundle has brought it."""
        loaded = self._slot(symbol, timeframe).require()
        state = loaded.states.get(symbol)
        if state is None:
            raise NotFound(f"symbol {symbol!r} has no bars: send them to POST /v1/bars first")
        return loaded.model, state

    def versions(self, name: str | None = None) -> list[Model]:
        """What can be asked by version: of every model, or of `name`, the champion, then its challenger."""
        return [m for slot in self.slots for m in slot.versions if name in (None, m.name)]

    def model(self, name: str, version: str | None = None) -> Model:
        """The champion of `name`, or the version asked for; NotFound for another name or version."""
        served = self.versions(name)
        if not served:
            raise NotFound(f"model {name!r} is not served here: {self._served()}")
        for model in served:
            if version in (None, model.version):
                return model
        known = ", ".join(model.version for model in served)
        plural = "versions are" if len(served) > 1 else "version is"
        raise NotFound(f"model {name} has no version {str(version)[:40]!r} here: the {plural} {known}")

    async def infer(self, model: Model, windows: NDArray[np.float32]) -> Outputs:
        """Score windows, float32 [N, T, F], given by the caller; nothing is remembered or logged."""
        check_windows(model, windows)
        if len(windows) <= INLINE_WINDOWS:
            return model.score(windows)
        return await asyncio.to_thread(model.score, windows)

    def _served(self) -> str:
        names = ", ".join(f"{model.name} version {model.version}" for model in self.versions())
        return f"served: {names}" if names else "no model is loaded yet; wait for the registry"

    def _slot(self, symbol: str, timeframe: str | None) -> Slot:
        only = self.slots[0].current if len(self.slots) == 1 else None
        if only is not None and timeframe in (None, only.model.manifest.timeframe):
            return self.slots[0]
        served = [(s, s.current.model.manifest) for s in self.slots if s.current is not None]
        if not served:
            raise NotReady("no model is loaded yet: wait for the registry, or run `bellwether run`")
        fitting = [(s, m) for s, m in served if timeframe in (None, m.timeframe)]
        found = [(s, m) for s, m in fitting if m.symbol == symbol] or fitting
        if len(found) == 1:
            return found[0][0]
        frames = sorted({m.timeframe for _, m in found or served})
        if not found:
            raise BarRefused(f"timeframe {timeframe!r}: this service has models for {', '.join(frames)}")
        if len(frames) > 1:
            raise BadRequest(
                f'{symbol}: models for {", ".join(frames)} would fit; add "timeframe" to say which'
            )
        raise BadRequest(f"{symbol}: {len(found)} models for {frames[0]} would fit and none is of {symbol}")

    def _plan(self, answers: Answers) -> list[Chunk]:
        """The bars of all requests by model, in order, all of them checked; chunks of at most CHUNK bars."""
        newest: dict[Slot, dict[str, float]] = {slot: {} for slot in self.slots}
        chunks: dict[Slot, list[Chunk]] = {slot: [] for slot in self.slots}
        latest = self._clock.now().timestamp() + AHEAD_SECONDS
        for number, (asked, signals) in enumerate(zip(answers.asked, answers.signals, strict=True)):
            try:
                _check_clock(asked.bars, latest)
                groups = self._by_slot(asked)
                closes = [
                    slot.require().states.check(bars, newest[slot]) for slot, (_, bars) in groups.items()
                ]
            except ServingError as error:
                self.metrics.bars_refused.add(type(error).__name__)
                answers.faults[number] = error
                continue
            # noted once all hold: what refuses a request leaves nothing of it behind
            for (slot, (places, bars)), last in zip(groups.items(), closes, strict=True):
                newest[slot].update(last)
                own = chunks[slot]
                for at, bar in zip(places, bars, strict=True):
                    if not own or len(own[-1].bars) >= CHUNK:
                        own.append(Chunk(slot))
                    own[-1].bars.append(bar)
                    own[-1].places.append((signals, at))
        return [chunk for own in chunks.values() for chunk in own]

    def _by_slot(self, asked: BarsAsked) -> Mapping[Slot, tuple[Sequence[int], Sequence[Bar]]]:
        """The bars of a request by the model they are for, and where they stand in it."""
        bars = asked.bars
        if len(self.slots) == 1 and bars:
            return {self._slot(bars[0].symbol, asked.timeframe): (range(len(bars)), bars)}
        groups: dict[Slot, tuple[list[int], list[Bar]]] = {}
        for at, bar in enumerate(bars):
            places, own = groups.setdefault(self._slot(bar.symbol, asked.timeframe), ([], []))
            places.append(at)
            own.append(bar)
        return groups

    def _told(self, answers: Answers) -> list[list[Signal] | ServingError]:
        found: list[list[Signal] | ServingError] = []
        for fault, signals in zip(answers.faults, answers.signals, strict=True):
            if fault is None:
                for listener in self.listeners:
                    listener(signals)
            found.append(signals if fault is None else fault)
        return found

    def _advance(self, chunk: Chunk) -> None:
        started, slot, bars = time.perf_counter(), chunk.slot, chunk.bars
        loaded = slot.require()
        model = loaded.model
        vectors, counts, warm, windows, gaps = self._push(loaded, bars)
        outputs = model.score(windows).listed() if len(windows) else None
        canary = {}
        if slot.challenger is not None and slot.challenger.current is not None:
            states = [s for b in {b.symbol for b in bars} if (s := loaded.states.get(b)) is not None]
            canary = slot.challenger.advance(Scored(bars, vectors, warm, windows, states))
        latency = _since(started) / len(bars)
        signals, own, row = [], [], 0
        logs: dict[PredictionLog, list[tuple[int, NDArray[np.float64]]]] = {}
        for i, bar in enumerate(bars):
            if i in canary:
                answer = canary[i]
                signal = answer.model.signal(bar.symbol, bar.timestamp, answer.outputs, answer.row, latency)
                logs.setdefault(answer.log, []).append((i, answer.vector))
                self.metrics.predictions.add(model.name, answer.model.version)
            elif outputs is None or not warm[i]:
                signal = model.warming(bar.symbol, bar.timestamp, counts[i], latency)
            else:
                signal = model.signal(bar.symbol, bar.timestamp, outputs, row, latency)
                own.append((i, vectors[i]))
            signals.append(signal)
            row += warm[i]
        if own:
            assert slot.log is not None
            logs[slot.log] = own
            self.metrics.predictions.add(model.name, model.version, amount=len(own))
        for log, rows in logs.items():
            self._log(log, rows, bars, signals)
        self._archive(slot, bars, signals, gaps)
        chunk.put(signals)

    def _log(
        self,
        log: PredictionLog,
        rows: list[tuple[int, NDArray[np.float64]]],
        bars: list[Bar],
        signals: list[Signal],
    ) -> None:
        """Log predictions before they are answered; one that cannot be logged may not be traded on."""
        now = self._clock.now().timestamp()
        try:
            log.append(*(as_prediction(signals[i], bars[i], vector, now) for i, vector in rows))
        except OSError as error:
            for i, _ in rows:
                self.metrics.log_errors.add(signals[i].model)
                reasons = [*signals[i].reasons, f"the prediction could not be logged: {error}"]
                changes = {"side": "hold", "tradable": False, "reasons": reasons}
                signals[i] = msgspec.structs.replace(signals[i], **changes)

    def _archive(self, slot: Slot, bars: list[Bar], signals: list[Signal], gaps: list[str | None]) -> None:
        """Archive the bars before they are answered, and say what is missing among them."""
        notes = [(i, gap) for i, gap in enumerate(gaps) if gap]
        try:
            if slot.memory is not None:
                slot.memory.append(bars)
        except OSError as error:
            self.metrics.state_errors.add(signals[0].model)
            notes += [(i, f"the bar could not be archived: {error}") for i in range(len(bars))]
        for i, note in notes:
            signals[i] = msgspec.structs.replace(signals[i], reasons=[*signals[i].reasons, note])

    def _push(
        self, loaded: Loaded, bars: list[Bar]
    ) -> tuple[list[NDArray[np.float64]], list[int], list[bool], NDArray[np.float32], list[str | None]]:
        """Per bar its features [F], the bars seen, whether it is warm, what its window lacks.

        The windows are those of the warm, [K, T, F].
        """
        runtime = loaded.model.runtime
        windows = np.empty((len(bars), runtime.window, runtime.features), dtype=np.float32)
        vectors, counts, warm, gaps, rows = [], [], [], [], 0
        for bar in bars:
            state = loaded.states.open(bar.symbol)
            vectors.append(state.push(bar))
            counts.append(state.bars)
            warm.append(state.warm)
            gaps.append(state.gap_reason())
            if gaps[-1] and (gap := state.gaps.last) is not None and gap.bar == state.bars:
                self.metrics.gaps.add(loaded.model.name, bar.symbol)
                self.metrics.missing_bars.add(loaded.model.name, bar.symbol, amount=gap.missing)
            if warm[-1]:
                windows[rows] = state.window
                rows += 1
        return vectors, counts, warm, windows[:rows], gaps


def _check_clock(bars: Sequence[Bar], latest: float) -> None:
    """BarRefused for a close that has not come: after it, every bar of the market would be stale."""
    for bar in bars:
        if bar.timestamp > latest:
            raise BarRefused(
                f"{bar.symbol} {bar.time} is more than a day after this machine's clock: a bar is sent once "
                "it has closed; send its close in UTC, or mend the clock"
            )


def check_windows(model: Model, windows: NDArray[np.float32]) -> None:
    """BadRequest unless `windows` are [N, T, F] of the model, N at least 1."""
    expected = (model.runtime.window, model.runtime.features)
    if windows.ndim != 3 or windows.shape[1:] != expected or len(windows) == 0:
        raise BadRequest(
            f"features has shape {list(windows.shape)}: [N, {expected[0]}, {expected[1]}] is expected"
        )


def score_together(asked: Sequence[tuple[Model, NDArray[np.float32]]]) -> list[Outputs]:
    """What each of several requests is answered; the windows of one version are scored together.

    `asked` have passed `check_windows`, and are few windows each.
    """
    by_model: dict[int, list[int]] = {}
    for number, (model, _) in enumerate(asked):
        by_model.setdefault(id(model), []).append(number)
    found: dict[int, Outputs] = {}
    for numbers in by_model.values():
        parts = [asked[number][1] for number in numbers]
        outputs = asked[numbers[0]][0].score(parts[0] if len(parts) == 1 else np.concatenate(parts))
        start = 0
        for number, part in zip(numbers, parts, strict=True):
            found[number] = outputs.rows(start, start + len(part))
            start += len(part)
    return [found[number] for number in range(len(asked))]


def _noted(signal: Signal, state: SymbolState) -> Signal:
    gap = state.gap_reason()
    return msgspec.structs.replace(signal, reasons=[*signal.reasons, gap]) if gap else signal


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1e3
