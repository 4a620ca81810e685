"""One served model: what serves now, and how a newer bundle takes its place."""

import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from core.errors import ArtifactError, RegistryError
from monitoring.prediction_log import PredictionLog, Retention
from serving.artefact import Artefact
from serving.challenger import Challenger
from serving.errors import NotReady
from serving.last_good import LastGood
from serving.loaded import Loaded
from serving.memory import Memory
from serving.metrics import Metrics
from serving.model import Model, fresh_states, load_model
from serving.patience import PATIENCE_SECONDS, Patience
from serving.resolver import Pointer, Resolver

RETRY_SECONDS = 30.0

__all__ = ["Loaded", "Slot", "Status"]


@dataclass
class Status:
    """What an operator wants to know; None means no complaint."""

    registry_error: str | None = None
    refused: str | None = None
    from_copy: bool = False
    loaded_at: float = 0.0

    @property
    def complaints(self) -> list[str]:
        """Why the service is degraded; empty when it is not."""
        copy = "serving the last good copy" if self.from_copy else None
        return [text for text in (self.registry_error, self.refused, copy) if text]


class Slot:
    """A model by name and whatever serves under it.

    `start` and `look` block (disk, ONNX) and run off the event loop; `install` is quick and runs on it,
    so that a request sees the old model or the new one, never a mixture.
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        log_root: Path,
        last_good: LastGood | None = None,
        metrics: Metrics,
        name: str | None = None,
        challenger: Challenger | None = None,
        memory: Memory | None = None,
        retention: Retention | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        registry_patience: Patience | None = None,
    ) -> None:
        self.status = Status()
        self.metrics, self.name, self.challenger = metrics, name, challenger
        # None: feature state begins at the bundle's at every start
        self.memory = memory
        self._retention = retention
        self._patience = Patience(patience_seconds)
        # shared by every slot: a registry that hangs is waited for once
        self._registry_patience = registry_patience or Patience(patience_seconds)
        self._previous: Loaded | None = None
        self._resolver, self._log_root, self._last_good = resolver, log_root, last_good
        self._current: Loaded | None = None
        self._bad: tuple[Pointer, float] | None = None
        self._log: PredictionLog | None = None
        self._logger = structlog.get_logger(component="serving")

    @property
    def current(self) -> Loaded | None:
        """What serves now."""
        return self._current

    def require(self) -> Loaded:
        """What serves now; NotReady when nothing does."""
        if self._current is None:
            raise NotReady("no model is loaded yet: wait for the registry, or run `bellwether run`")
        return self._current

    @property
    def versions(self) -> list[Model]:
        """What is loaded: the champion, then its challenger; nothing before the first champion."""
        if self._current is None:
            return []
        champion = self._current.model
        rival = self.challenger.current if self.challenger is not None else None
        # one that was promoted is both until the watch has looked for a challenger again
        if rival is None or rival.model.version == champion.version:
            return [champion]
        return [champion, rival.model]

    @property
    def log(self) -> PredictionLog | None:
        """Where this model's predictions go; None before the first model."""
        return self._log

    def start(self) -> None:
        """Load the bundle to serve, or the last good copy; RegistryError or ArtifactError if neither can."""
        try:
            loaded = self._load(self._resolve())
        except (RegistryError, ArtifactError) as error:
            loaded = self._fall_back(error)
        self.install(loaded)

    def look(self) -> Loaded | None:
        """A newer bundle, loaded and proven; None when there is none or it is bad (`status` says so)."""
        try:
            pointer = self._resolve()
        except (RegistryError, ArtifactError) as error:
            self._note_registry(str(error))
            return None
        self._note_registry(None)
        if self._current is not None and pointer == self._current.pointer:
            self.status.refused = None
            return None
        if self._bad and self._bad[0] == pointer and time.monotonic() < self._bad[1]:
            return None
        return self._try(pointer)

    def install(self, loaded: Loaded) -> None:
        """Serve `loaded` from the next request on; live feature state continues."""
        old, model = self._current, loaded.model
        names = [feature.name for feature in model.manifest.features]
        if self._log is None:
            self._log = PredictionLog(self._log_root / model.name, names, retention=self._retention)
        else:
            self._log.use_features(names)
        if old is not None:
            loaded.states.succeed(old.states)
            self.metrics.swaps.add(model.name)
            self._previous = old
        self._current = loaded
        if self.memory is not None:
            self.memory.follow(loaded.states)
        self.status.loaded_at = time.time()
        self.status.from_copy = loaded.pointer is None
        self._logger.info("model_serving", model=model.name, version=model.version, tradable=model.tradable)

    def close(self) -> None:
        """Flush and close the prediction logs, write the feature state."""
        if self.challenger is not None:
            self.challenger.close()
        if self.memory is not None:
            self.memory.close()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _try(self, pointer: Pointer) -> Loaded | None:
        try:
            return self._load(pointer)
        except RegistryError as error:
            self._note_registry(str(error))
            return None
        except ArtifactError as error:
            self._refuse(pointer, error)
            return None

    def _resolve(self) -> Pointer:
        return self._registry_patience.call(self._resolver.resolve, self._resolver.what)

    def _load(self, pointer: Pointer) -> Loaded:
        loaded = self._recalled(self._in_memory(pointer) or self._read(pointer))
        if self._last_good is not None:
            self._keep(loaded.artefact)
        self.status.refused, self._bad = None, None
        return loaded

    def _in_memory(self, pointer: Pointer) -> Loaded | None:
        """The version before, or the challenger: proven already, so going back or promoting takes no time."""
        rival = self.challenger.current if self.challenger is not None else None
        for known in (self._previous, rival.loaded if rival is not None else None):
            if known is not None and known.pointer == pointer:
                return Loaded(known.model, fresh_states(known.artefact), pointer, known.artefact)
        return None

    def _read(self, pointer: Pointer) -> Loaded:
        artefact = self._patience.call(pointer.read, str(pointer.directory))
        model, states = load_model(artefact)
        served = self._current.model.name if self._current is not None else self.name
        if served is not None and model.name != served:
            raise ArtifactError(
                f"{pointer.directory} is a bundle of {model.name}, {served} is served here: serve it from "
                "another process"
            )
        return Loaded(model, states, pointer, artefact)

    def _keep(self, artefact: Artefact) -> None:
        assert self._last_good is not None
        try:
            self._last_good.save(artefact)
        except OSError as error:
            self._logger.error(
                "last_good_not_saved", directory=str(self._last_good.directory), error=str(error)
            )

    def _fall_back(self, error: RegistryError | ArtifactError) -> Loaded:
        if self._last_good is None:
            raise error
        try:
            artefact = self._last_good.read()
            model, states = load_model(artefact)
        except ArtifactError:
            raise error from None
        self._logger.error("serving_last_good", error=str(error))
        if isinstance(error, RegistryError):
            self.status.registry_error = str(error)
        else:
            self.status.refused = str(error)
        return self._recalled(Loaded(model, states, None, artefact))

    def _recalled(self, loaded: Loaded) -> Loaded:
        """Bring the bundle's states up to the last bar answered; the disk may be slow, so not on the loop."""
        if self.memory is not None:
            manifest, serving = loaded.model.manifest, self._current.states if self._current else None
            self.memory.recall(manifest.model, manifest.timeframe, loaded.states, serving=serving)
        return loaded

    def _refuse(self, pointer: Pointer, error: ArtifactError) -> None:
        if self._bad is None or self._bad[0] != pointer:
            name = self._current.model.name if self._current else pointer.directory.name
            self.metrics.bundles_refused.add(name)
            self._logger.error("bundle_refused", version=pointer.version, error=str(error))
        self.status.refused = str(error)
        self._bad = (pointer, time.monotonic() + RETRY_SECONDS)

    def _note_registry(self, error: str | None) -> None:
        if error and self.status.registry_error is None:
            self._logger.error("registry_unreachable", error=error)
        self.status.registry_error = error
