"""A bundle brought to life: verified, loaded, proven on its golden cases, warm."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.bundle import Manifest, unpack_state
from core.errors import ArtifactError, ConfigurationError, StreamError
from core.signal import Signal, side
from core.timeframe import Timeframe
from serving.artefact import Artefact
from serving.bar import iso
from serving.gaps import gap_rule
from serving.runtime import Listed, Outputs, Runtime
from serving.state import States, SymbolState


@dataclass(frozen=True)
class Model:
    """One version of one model, ready to score."""

    name: str
    version: str
    manifest: Manifest
    reasons: list[str]
    """Why no signal of it may be traded; empty when neither the export nor the registry objected."""
    timeframe: Timeframe
    runtime: Runtime

    @property
    def tradable(self) -> bool:
        """True when signals of its own symbol may be traded."""
        return not self.reasons

    @property
    def warm_bars(self) -> int:
        """Bars until every row of the window is complete, where training began."""
        return self.manifest.warmup + self.manifest.window

    def objections(self, symbol: str) -> list[str]:
        """Why signals of `symbol` may not be traded; empty when they may.

        The gate's evidence is about the symbol that the model was trained on, and about no other.
        """
        trained = self.manifest.symbol
        if symbol == trained:
            return self.reasons
        return [*self.reasons, f"the model was trained on {trained}: {symbol} is another symbol"]

    def score(self, windows: NDArray[np.float32]) -> Outputs:
        """Probabilities of windows, float32 [N, T, F]."""
        return self.runtime.run(windows)

    def signal(self, symbol: str, bar_time: float, outputs: Listed, row: int, latency_ms: float) -> Signal:
        """The signal of row `row` of `outputs`; "hold", with the reasons, when it may not be traded."""
        manifest = self.manifest
        probability = outputs.probability[row]
        objections = self.objections(symbol)
        return Signal(
            symbol=symbol,
            timeframe=manifest.timeframe,
            bar_time=iso(bar_time),
            probability=probability,
            class_probabilities=_named(manifest.classes, outputs.class_probabilities[row]),
            base_probabilities=_named(manifest.base_models, outputs.base_probabilities[row]),
            confidence=outputs.confidence[row],
            side="hold" if objections else side(probability, manifest.thresholds),
            tradable=not objections,
            reasons=objections,
            model=self.name,
            model_version=self.version,
            data_hash=manifest.data_hash,
            latency_ms=latency_ms,
        )

    def warming(self, symbol: str, bar_time: float, bars: int, latency_ms: float) -> Signal:
        """The signal before the window is complete: no probability, "hold"."""
        missing = f"{bars} of {self.warm_bars} bars"
        if bars >= self.warm_bars:
            missing = f"after {bars} bars too few of a coarser timeframe are closed"
        return Signal(
            symbol=symbol,
            timeframe=self.manifest.timeframe,
            bar_time=iso(bar_time),
            probability=None,
            class_probabilities={},
            base_probabilities={},
            confidence=None,
            side="hold",
            tradable=False,
            reasons=[f"warming up: {missing}", *self.objections(symbol)],
            model=self.name,
            model_version=self.version,
            data_hash=self.manifest.data_hash,
            latency_ms=latency_ms,
        )


def _named(names: list[str], values: list[float]) -> dict[str, float]:
    return dict(zip(names, values, strict=True))


def load_model(artefact: Artefact) -> tuple[Model, States]:
    """Load a verified bundle and prove it; ArtifactError says what does not hold.

    The states hold one symbol, the bundle's own, as of its as-of bar.
    """
    try:
        return _model(artefact), fresh_states(artefact)
    except ConfigurationError as error:
        raise ArtifactError(
            f"manifest.json holds what this program cannot use ({error}): export the bundle again"
        ) from error


def fresh_states(artefact: Artefact) -> States:
    """The states a bundle brings: one symbol, its own; ArtifactError when state.bin does not fit."""
    manifest = artefact.manifest
    states = States(manifest.definitions, manifest.window, rule=gap_rule(manifest))
    _seed(states.open(manifest.symbol), artefact)
    return states


def _model(artefact: Artefact) -> Model:
    manifest = artefact.manifest
    runtime = Runtime(
        artefact.model,
        window=manifest.window,
        features=len(manifest.features),
        base_models=len(manifest.base_models),
        classes=len(manifest.classes),
    )
    runtime.check_golden(artefact.golden)
    return Model(
        name=manifest.model,
        version=artefact.version,
        manifest=manifest,
        reasons=artefact.reasons,
        timeframe=Timeframe.parse(manifest.timeframe),
        runtime=runtime,
    )


def _seed(state: SymbolState, artefact: Artefact) -> None:
    checkpoint, window = unpack_state(artefact.state)
    if window.shape != state.window.shape:
        raise ArtifactError(
            f"state.bin holds a window of shape {window.shape}, the manifest says {state.window.shape}: "
            "export the bundle again"
        )
    try:
        state.seed(checkpoint, window)
    except StreamError as error:
        raise ArtifactError(
            f"state.bin does not fit the manifest's features ({error}): export it again"
        ) from error
