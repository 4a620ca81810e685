"""The data plane: bars to features to window to ONNX to Signal. It knows no protocol."""

import asyncio
import time
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.clock import Clock, SystemClock
from core.signal import Signal
from monitoring.prediction_log import Prediction
from serving.bar import Bar
from serving.errors import BadRequest, BarRefused, NotFound, ServingError
from serving.metrics import Metrics
from serving.model import Model
from serving.runtime import Outputs
from serving.slot import Loaded, Slot

# Bars scored in one call of the graph; between two of them other requests get their turn.
CHUNK = 32
# Windows above this are scored in a thread: the graph releases the interpreter lock.
INLINE_WINDOWS = 8


class Plane:
    """Everything the protocols ask for, over one or more models.

    Runs on one event loop. `turn` is held while bars change the state and while a model is swapped in, so
    a request is answered by exactly one version.
    """

    def __init__(self, slots: Sequence[Slot], metrics: Metrics, *, clock: Clock | None = None) -> None:
        self.slots = list(slots)
        self.metrics = metrics
        self._clock = clock or SystemClock()
        self._turn = asyncio.Lock()

    @property
    def ready(self) -> bool:
        """True when every model is loaded."""
        return all(slot.current is not None for slot in self.slots)

    async def bars(self, bars: Sequence[Bar], timeframe: str | None = None) -> list[Signal]:
        """One signal per bar, in order.

        All or nothing: a bar that breaks a rule (BarRefused) or is not newer than the last (StaleBar)
        refuses the request before any bar changes the state.
        """
        async with self._turn:
            plan = self._plan(bars, timeframe)
            signals: list[Signal] = []
            for number, (slot, chunk) in enumerate(plan):
                if number:
                    await asyncio.sleep(0)
                signals += self._advance(slot, chunk)
            return signals

    async def swap(self, slot: Slot, loaded: Loaded) -> None:
        """Serve `loaded` from the next request on."""
        async with self._turn:
            slot.install(loaded)

    def signal(self, symbol: str, timeframe: str | None = None) -> Signal:
        """The signal as of the symbol's last bar, by the model that serves now; it is not logged."""
        started = time.perf_counter()
        loaded = self._slot(symbol, timeframe).require()
        model, state = loaded.model, loaded.states.get(symbol)
        if state is None or state.last is None:
            raise NotFound(f"symbol {symbol!r} has no bars: send them to POST /v1/bars first")
        if state.bars < model.warm_bars:
            return model.warming(symbol, state.last, state.bars, _since(started))
        outputs = model.score(state.window[None])
        return model.signal(symbol, state.last, outputs, 0, _since(started))

    def model(self, name: str, version: str | None = None) -> Model:
        """The model that serves under `name`; NotFound for another name or version."""
        for slot in self.slots:
            loaded = slot.current
            if loaded is not None and loaded.model.name == name:
                if version not in (None, loaded.model.version):
                    raise NotFound(
                        f"model {name} version {version!r}: version {loaded.model.version} is served"
                    )
                return loaded.model
        raise NotFound(f"model {name!r} is not served here: {self._served()}")

    async def infer(self, model: Model, windows: NDArray[np.float32]) -> Outputs:
        """Score windows, float32 [N, T, F], given by the caller; nothing is remembered or logged."""
        expected = (model.runtime.window, model.runtime.features)
        if windows.ndim != 3 or windows.shape[1:] != expected or len(windows) == 0:
            raise BadRequest(
                f"features has shape {list(windows.shape)}: [N, {expected[0]}, {expected[1]}] is expected"
            )
        if len(windows) <= INLINE_WINDOWS:
            return model.score(windows)
        return await asyncio.to_thread(model.score, windows)

    def _served(self) -> str:
        names = [f"{s.current.model.name} version {s.current.model.version}" for s in self.slots if s.current]
        return ", ".join(names) + " is" if names else "no model is loaded yet; wait for the registry"

    def _slot(self, symbol: str, timeframe: str | None) -> Slot:
        fitting = [s for s in self.slots if timeframe in (None, s.require().model.manifest.timeframe)]
        own = [s for s in fitting if s.require().model.manifest.symbol == symbol]
        found = own or fitting
        if len(found) == 1:
            return found[0]
        if not found:
            frames = sorted({s.require().model.manifest.timeframe for s in self.slots})
            raise BarRefused(f"timeframe {timeframe!r}: this service has models for {', '.join(frames)}")
        raise BarRefused(
            f"{symbol}: {len(found)} models would fit; name the timeframe, or serve that symbol's model"
        )

    def _plan(self, bars: Sequence[Bar], timeframe: str | None) -> list[tuple[Slot, list[Bar]]]:
        """Group bars by model, each group's in order, and check them all; chunks of at most CHUNK bars."""
        groups: dict[int, tuple[Slot, list[Bar]]] = {}
        plan: list[tuple[Slot, list[Bar]]] = []
        for bar in bars:
            slot = self._slot(bar.symbol, timeframe)
            groups.setdefault(id(slot), (slot, []))[1].append(bar)
            if not plan or plan[-1][0] is not slot or len(plan[-1][1]) >= CHUNK:
                plan.append((slot, []))
            plan[-1][1].append(bar)
        for slot, group in groups.values():
            try:
                slot.require().states.check(group)
            except ServingError as error:
                self.metrics.bars_refused.add(type(error).__name__)
                raise
        return plan

    def _advance(self, slot: Slot, bars: list[Bar]) -> list[Signal]:
        started = time.perf_counter()
        loaded = slot.require()
        model = loaded.model
        vectors, counts, windows = _push(loaded, bars)
        outputs = model.score(windows) if len(windows) else None
        latency = _since(started) / len(bars)
        signals, row = [], 0
        for bar, vector, count in zip(bars, vectors, counts, strict=True):
            if outputs is None or count < model.warm_bars:
                signals.append(model.warming(bar.symbol, bar.timestamp, count, latency))
                continue
            signal = model.signal(bar.symbol, bar.timestamp, outputs, row, latency)
            signals.append(self._logged(slot, bar, vector, signal))
            row += 1
        self.metrics.predictions.add(model.name, model.version, amount=row)
        return signals

    def _logged(self, slot: Slot, bar: Bar, vector: NDArray[np.float64], signal: Signal) -> Signal:
        """Log a prediction before it is answered; one that cannot be logged may not be traded on."""
        log = slot.log
        assert log is not None
        assert signal.probability is not None
        assert signal.confidence is not None
        prediction = Prediction(
            symbol=bar.symbol,
            bar_time=bar.timestamp,
            logged_at=self._clock.now().timestamp(),
            model=signal.model,
            model_version=signal.model_version,
            data_hash=signal.data_hash,
            probability=signal.probability,
            confidence=signal.confidence,
            side=signal.side,
            base_probabilities=signal.base_probabilities,
            features=vector.tobytes(),
            open=bar.open,
            high=bar.high,
            low=bar.low,
            close=bar.close,
            volume=bar.volume,
            latency_ms=signal.latency_ms,
        )
        try:
            log.append(prediction)
        except OSError as error:
            self.metrics.log_errors.add(signal.model)
            reasons = [*signal.reasons, f"the prediction could not be logged: {error}"]
            return msgspec.structs.replace(signal, side="hold", tradable=False, reasons=reasons)
        return signal


def _push(
    loaded: Loaded, bars: list[Bar]
) -> tuple[list[NDArray[np.float64]], list[int], NDArray[np.float32]]:
    """Feature vectors [F] and bars seen, one per bar, and the windows of the warm ones, float32 [K, T, F]."""
    runtime, warm = loaded.model.runtime, loaded.model.warm_bars
    windows = np.empty((len(bars), runtime.window, runtime.features), dtype=np.float32)
    vectors, counts, rows = [], [], 0
    for bar in bars:
        state = loaded.states.open(bar.symbol)
        vectors.append(state.push(bar))
        counts.append(state.bars)
        if state.bars >= warm:
            windows[rows] = state.window
            rows += 1
    return vectors, counts, windows[:rows]


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1e3
