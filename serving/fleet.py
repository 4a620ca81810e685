"""Which models this process serves: one bundle, one model, or every model that has a champion."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from core.bundle import CHALLENGER, HASHED, MANIFEST, SEAL
from core.errors import ArtifactError, BellwetherError, RegistryError, UsageError
from core.files import sha256_bytes
from monitoring.retention import Retention
from serving.challenger import Challenger
from serving.last_good import LastGood
from serving.memory import Memory
from serving.metrics import Metrics
from serving.patience import Patience
from serving.resolver import DirectoryResolver, RegistryResolver, models_with_alias
from serving.slot import Slot

if TYPE_CHECKING:
    from core.settings import Settings

RETRY_SECONDS = 30.0


class Fleet:
    """Makes a slot per model. Without `bundle` or `model` it is every champion, those of later days too."""

    def __init__(
        self,
        settings: "Settings",
        metrics: Metrics,
        *,
        bundle: Path | None = None,
        model: str | None = None,
        fresh: bool = False,
    ) -> None:
        self._settings, self._metrics, self._bundle, self._model = settings, metrics, bundle, model
        self._fresh = fresh
        self._database = settings.mlflow_dir / "mlflow.db"
        self._copies = settings.var_dir / "serving"
        self._patience = Patience(settings.registry_seconds)
        self._known: set[str] = set()
        self._failed: dict[str, float] = {}
        self._logger = structlog.get_logger(component="serving")

    def start(self, *, wait: bool = False) -> list[Slot]:
        """The slots to begin with, loaded; with `wait`, there may be none yet, or none with a model.

        One that cannot be loaded does not keep the others from serving; RegistryError or ArtifactError when
        none can, UsageError when there is no bundle where one was named.
        """
        slots = self.make(wait=wait)
        failed: list[tuple[str | None, BellwetherError]] = []
        for slot in slots:
            try:
                slot.start()
            except (RegistryError, ArtifactError) as error:
                failed.append((slot.name, error))
        hopeless = bool(failed) and not wait and len(failed) == len(slots)
        # the one that is raised is told by whoever gets it
        for name, fault in failed[1:] if hopeless else failed:
            self._logger.error("model_not_loaded", model=name, error=str(fault))
        if hopeless:
            self.close(slots)
            raise self._named_wrongly(failed[0][1])
        return slots

    def make(self, *, wait: bool = False) -> list[Slot]:
        """The slots to begin with, nothing loaded; RegistryError when the registry names none."""
        if self._bundle is not None:
            return [
                Slot(
                    DirectoryResolver(self._bundle),
                    log_root=self._settings.prediction_log_dir,
                    last_good=self._copy_of(self._bundle),
                    metrics=self._metrics,
                    memory=self._memory(),
                    retention=self._retention,
                )
            ]
        names = [self._model] if self._model else self._champions(wait)
        self._known.update(names)
        return [self._slot(name) for name in names]

    def discover(self) -> list[Slot]:
        """Slots of models that have a champion since the last look, loaded. Blocks."""
        if self._bundle is not None or self._model is not None:
            return []
        try:
            names = self._named()
        except RegistryError:
            # each slot reports that of its own
            return []
        now = time.monotonic()
        new = [n for n in names if n not in self._known and self._failed.get(n, 0.0) <= now]
        return [slot for name in new if (slot := self._started(name)) is not None]

    @staticmethod
    def close(slots: list[Slot]) -> None:
        """Let go of prediction logs."""
        for slot in slots:
            slot.close()

    def _copy_of(self, bundle: Path) -> LastGood | None:
        """By the directory's path, for a damaged bundle does not say its model's name; none of a replay's.

        The name is dotted, so that it is not taken for a model's. A link is not followed: it may lead to
        another release tomorrow, and to a disk that hangs.
        """
        if self._fresh:
            return None
        return LastGood(self._copies / f".bundle-{sha256_bytes(os.path.abspath(bundle).encode())[:12]}")

    def _named_wrongly(self, error: BellwetherError) -> BellwetherError:
        bundle = self._bundle
        # a disk that does not answer is a RegistryError, and must not be asked again
        if bundle is None or isinstance(error, RegistryError):
            return error
        try:
            (bundle / MANIFEST).stat()
        except (FileNotFoundError, NotADirectoryError):
            return UsageError(
                f"--bundle {bundle}: no {MANIFEST} is there, and no copy of a bundle that served from there: "
                f"name a directory with {', '.join((*HASHED, MANIFEST, SEAL))}; `bellwether run` writes one "
                "to data/store/bundle"
            )
        except OSError:
            pass
        return error

    def _started(self, name: str) -> Slot | None:
        slot = self._slot(name)
        try:
            slot.start()
        except BellwetherError as error:
            slot.close()
            if name not in self._failed:
                self._metrics.bundles_refused.add(name)
                self._logger.error("model_not_loaded", model=name, error=str(error))
            self._failed[name] = time.monotonic() + RETRY_SECONDS
            return None
        self._known.add(name)
        return slot

    def _slot(self, name: str) -> Slot:
        log_root = self._settings.prediction_log_dir
        challenger = Challenger(
            RegistryResolver(self._database, name, CHALLENGER),
            log_root=log_root,
            metrics=self._metrics,
            share=self._settings.canary_share,
            retention=self._retention,
            registry_patience=self._patience,
        )
        return Slot(
            RegistryResolver(self._database, name),
            log_root=log_root,
            last_good=LastGood(self._copies / name),
            metrics=self._metrics,
            name=name,
            challenger=challenger,
            patience_seconds=self._settings.registry_seconds,
            memory=self._memory(),
            retention=self._retention,
            registry_patience=self._patience,
        )

    @property
    def _retention(self) -> Retention:
        settings = self._settings
        return Retention(settings.log_days, settings.log_megabytes, settings.log_min_rows)

    def _memory(self) -> Memory | None:
        if self._fresh:
            return None
        return Memory(
            self._settings.var_dir / "state",
            log_root=self._settings.prediction_log_dir,
            metrics=self._metrics,
            stored_bars=self._settings.home / "data" / "store" / "validate" / "bars",
        )

    def _named(self) -> list[str]:
        return self._patience.call(lambda: models_with_alias(self._database), "the model registry")

    def _champions(self, wait: bool) -> list[str]:
        try:
            names = self._named()
        except RegistryError:
            # unreachable: whatever served last
            names = sorted(path.name for path in self._copies.glob("[!.]*") if path.is_dir())
            if not names and not wait:
                raise
        if not names and not wait:
            raise RegistryError(f"{self._database} has no model with a champion: run `bellwether run` first")
        return names
