"""Fits of one family on the same folds, again and again: what they can share is made once.

The processes live as long as the bench, map one copy of the data, and keep each fold's training rows as the
family prepared them; LightGBM's bins, for one. Predictions are those of fits that share nothing, bit for bit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from core.errors import BellwetherError
from core.files import read_json, write_json
from core.workers import Task, Workers
from evaluation.splits import Fold
from models.dataset import Dataset, Floats, Rows
from models.families import Family, get_family
from models.fitting import start_worker


@dataclass(frozen=True, eq=False)
class Bench:
    """Fits one family on given folds again and again, in processes that keep what fits can share."""

    folds: Sequence[Fold]
    numbers: Sequence[int]
    directory: str
    workers: Workers
    wave: int
    keep: bool = True

    def part(self, first: int, last: int, *, keep: bool = True) -> Bench:
        """The same processes on the folds from `first` to before `last`.

        `keep`: what fits share stays in memory, in every process; for folds that are fitted many times.
        """
        return replace(self, folds=self.folds[first:last], numbers=self.numbers[first:last], keep=keep)

    def tested(self, params: Sequence[Mapping[str, Any]]) -> Iterator[Floats | BellwetherError]:
        """Probabilities [k, K] of every fold's test rows, or the fault that prevented them, fold by fold.

        `params` has one set for each fold. As many folds as there are processes are fitted at a time: who
        stops reading may have had one fitted in vain.
        """
        for first in range(0, len(self.folds), self.wave):
            wave = range(first, min(first + self.wave, len(self.folds)))
            tasks = [
                Task(f"fold {k + 1}", _fit_fold, (self.directory, self.numbers[k], params[k], self.keep))
                for k in wave
            ]
            done = {task.arguments[1]: outcome for task, outcome in self.workers.outcomes(tasks)}
            yield from (done[self.numbers[k]] for k in wave)


@contextmanager
def bench(
    family: Family,
    data: Dataset,
    folds: Sequence[Fold],
    given: Mapping[str, Any],
    *,
    seed: int,
    window: int,
    processes: int,
) -> Iterator[Bench]:
    """A bench of `processes` processes over one mapped copy of `data`, one thread each.

    `given` are the parameters in force: what fits can share is prepared with them, once per fold and process.
    """
    count = min(processes, len(folds))
    with tempfile.TemporaryDirectory(prefix="bellwether-tune-") as name, threadpool_limits(1):
        directory = Path(name)
        data.save(directory)
        for number, fold in enumerate(folds):
            np.save(directory / f"train-{number}.npy", fold.train, allow_pickle=False)
            np.save(directory / f"test-{number}.npy", fold.test, allow_pickle=False)
        setting = {"family": family.name, "given": dict(given), "seed": seed, "window": window}
        write_json(directory / "setting.json", setting)
        try:
            with Workers(count, start_worker, "train.processes") as workers:
                yield Bench(folds, range(len(folds)), name, workers, count)
        finally:
            _open.cache_clear()
            _fold.cache_clear()


@lru_cache(maxsize=1)
def _open(directory: str) -> tuple[Dataset, dict[str, Any]]:
    return Dataset.open_shared(Path(directory)), read_json(Path(directory) / "setting.json")


@cache
def _fold(directory: str, number: int) -> tuple[Rows, Rows, Any]:
    """Training rows, test rows, and what the family's fits on them share."""
    data, setting = _open(directory)
    train, test = (np.load(Path(directory) / f"{part}-{number}.npy") for part in ("train", "test"))
    return train, test, get_family(setting["family"]).prepare(data, train, setting["given"])


def _fit_fold(directory: str, number: int, params: Mapping[str, Any], keep: bool) -> Floats:
    data, setting = _open(directory)
    train, test, prepared = (_fold if keep else _fold.__wrapped__)(directory, number)
    fitted = get_family(setting["family"]).fit(
        data, train, seed=setting["seed"], window=setting["window"], params=params, prepared=prepared
    )
    return fitted.predict(data.x, test)
