"""The catalogue of model families: one module and one line each, loaded when first used."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from models.dataset import Dataset, Rows
    from models.families.base import FamilyParams, Fitted, SearchSpace


@dataclass(frozen=True)
class Family:
    """One kind of model. Its module offers `fit`, `load` and `Params`."""

    name: str
    module: str
    sequence: bool = False
    """True when it reads a window of rows, False when it reads the last row alone."""
    cost: float = 1.0
    """Seconds of a fit on 3,000 rows of 90 features, roughly; the longest tasks are started first."""
    unused: tuple[str, ...] = ()
    """Libraries that its own imports when it finds them, for what is not used here: they take seconds."""

    def fit(
        self,
        data: Dataset,
        rows: Rows,
        *,
        seed: int,
        window: int,
        params: Mapping[str, Any],
        prepared: Any = None,
    ) -> Fitted:
        """Fit on `rows` (ascending indices into `data`) and nothing else, on one thread.

        A row of weight 0 is as if it were not there.
        Early stopping uses a purged inner tail block of `rows`. `window` is the number of bars a
        sequence model sees; the others ignore it. `prepared` is what `prepare` made of the same rows: it
        saves time and changes nothing. Same arguments, same fit, bit for bit.
        DataError: too few rows, one class only; ConfigurationError: an unknown or mistyped parameter.
        """
        module, rows = self._load_module(), rows[data.w[rows] > 0.0]
        extra = {} if prepared is None else {"prepared": prepared}
        fitted = module.fit(data, rows, seed=seed, window=window, params=self.read_params(params), **extra)
        return cast("Fitted", fitted)

    def prepare(self, data: Dataset, rows: Rows, params: Mapping[str, Any]) -> Any:
        """What many fits on the same `rows` can share, such as binned features; None when nothing is."""
        module, rows = self._load_module(), rows[data.w[rows] > 0.0]
        return module.prepare(data, rows, self.read_params(params)) if hasattr(module, "prepare") else None

    def search_space(self) -> SearchSpace:
        """Where tuning looks for parameters; empty for a family that has nothing to tune."""
        return cast("SearchSpace", getattr(self._load_module(), "SPACE", {}))

    def load(self, directory: Path) -> Fitted:
        """What `Fitted.save` wrote to `directory`; ArtifactError when it is not readable."""
        return cast("Fitted", self._load_module().load(directory))

    def read_params(self, params: Mapping[str, Any]) -> FamilyParams:
        """Defaults filled in; ConfigurationError listing every parameter unknown or out of range."""
        from models.families.base import read_params

        kind: type[FamilyParams] = self._load_module().Params
        return read_params(self.name, kind, params)

    def _load_module(self) -> Any:
        if self.module in sys.modules:
            return sys.modules[self.module]
        with _hidden(self.unused):
            return import_module(self.module)


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("base_rate", "models.families.base_rate", cost=0.01),
        Family("logistic", "models.families.logistic", cost=0.05),
        Family("lightgbm", "models.families.lightgbm", cost=0.2, unused=("sklearn",)),
        Family("catboost", "models.families.catboost", cost=0.15),
        Family("xgboost", "models.families.xgboost", cost=0.1, unused=("sklearn",)),
        Family("random_forest", "models.families.random_forest", cost=0.5),
        Family("lstm", "models.families.lstm", sequence=True, cost=2.0),
        Family("transformer", "models.families.transformer", sequence=True, cost=0.5),
        Family("tcn", "models.families.tcn", sequence=True, cost=1.0),
        Family("bigru", "models.families.bigru", sequence=True, cost=2.0),
    )
}


@contextmanager
def _hidden(libraries: Iterable[str]) -> Iterator[None]:
    """Libraries not loaded so far are found missing by who asks for them meanwhile."""
    hidden = [name for name in libraries if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: an import fails
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def get_family(name: str) -> Family:
    """A family by name; ConfigurationError listing the known ones."""
    return get_families([name])[0]


def get_families(names: Iterable[str]) -> list[Family]:
    """Families by name, in the order asked for; all unknown names are reported together."""
    names = list(names)
    unknown = [name for name in names if name not in FAMILIES]
    if unknown:
        raise ConfigurationError(
            [f"model family {name!r} is unknown: choose from {', '.join(FAMILIES)}" for name in unknown]
        )
    return [FAMILIES[name] for name in names]
