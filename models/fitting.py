"""Fits in processes: tasks in, results out, the same on any number of processes.

Workers import this module and what their families need; it stays free of what they do not, such as pandas.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from core import workers
from core.errors import BellwetherError, ConfigurationError, DataError
from core.files import write_bytes
from core.settings import disable_telemetry
from models.dataset import Dataset, Floats, Rows
from models.families import Family
from models.importance import Importance, explain

if TYPE_CHECKING:
    from models.families.base import Fitted

FINAL_FIT = 0
"""Number of the fold that is no fold: a fit on every row."""


@dataclass(frozen=True)
class Progress:
    """One family fitted and scored on one fold (counted from 1; 0 is every row); `done` of `total` so far."""

    done: int
    total: int
    fold: int
    family: str
    seconds: float


@dataclass(frozen=True)
class Task:
    """A family to fit on `train` rows and to predict `test` rows; `explain` it on them as well."""

    fold: int
    family: Family
    train: Rows
    test: Rows
    seed: int
    window: int
    params: Mapping[str, Any]
    explain: bool = False

    @property
    def cost(self) -> float:
        """Relative time it takes; explaining takes about as long as fitting."""
        return self.family.cost * len(self.train) * (2.0 if self.explain else 1.0)


@dataclass(frozen=True)
class Result:
    """Class probabilities of the test rows; native `files` of a final fit alone; seconds on the clock."""

    task: Task
    probability: Floats
    importance: Importance | None
    files: dict[str, bytes] | None
    seconds: float


class StoredModel:
    """A fitted model as its native files, which is how it travels between processes and to its directory.

    Its library, which takes seconds to load, is loaded when it is asked for anything else.
    """

    def __init__(self, family: Family, files: Mapping[str, bytes]) -> None:
        self._family, self._files = family, files

    def save(self, directory: Path) -> None:
        """Write the files."""
        for name, content in self._files.items():
            write_bytes(directory / name, content)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._model, name)

    @cached_property
    def _model(self) -> Fitted:
        with tempfile.TemporaryDirectory(prefix="bellwether-model-") as directory:
            self.save(Path(directory))
            return self._family.load(Path(directory))


def run_all(
    data: Dataset,
    tasks: Sequence[Task],
    processes: int,
    on_progress: Callable[[Progress], None] | None,
) -> dict[tuple[int, str], Result]:
    """The result of each task by fold and family, in the order of the tasks.

    Each fit has one thread; `on_progress` is called in this process. Results do not depend on `processes`.
    """
    _check_params(tasks)
    results: dict[tuple[int, str], Result] = {}
    for result in _run_here(data, tasks) if processes == 1 else _run_spread(data, tasks, processes):
        fold, family = result.task.fold, result.task.family.name
        results[fold, family] = result
        if on_progress is not None:
            on_progress(Progress(len(results), len(tasks), fold, family, result.seconds))
    return {(task.fold, task.family.name): results[task.fold, task.family.name] for task in tasks}


def _run_here(data: Dataset, tasks: Sequence[Task]) -> Iterator[Result]:
    with threadpool_limits(1):
        yield from (_run(data, task) for task in tasks)


def _run_spread(data: Dataset, tasks: Sequence[Task], processes: int) -> Iterator[Result]:
    with tempfile.TemporaryDirectory(prefix="bellwether-train-") as directory:
        data.save(Path(directory))
        calls = [
            workers.Task(_title(job), _run_shared, (directory, job)) for job in _as_jobs(tasks, processes)
        ]
        with workers.Workers(processes, start_worker, "train.processes") as pool:
            for _, outcome in pool.outcomes(calls):
                if isinstance(outcome, BellwetherError):
                    raise outcome
                yield from outcome


def _as_jobs(tasks: Sequence[Task], processes: int) -> list[list[Task]]:
    """Tasks that one process runs in a row, the longest job first, so that none is alone with one at the end.

    Families whose tasks together take little share a job: a library takes longer to load than many of its
    fits, and so fewer processes load it.
    """
    limit = sum(task.cost for task in tasks) / (2 * processes)
    jobs: list[list[Task]] = []
    shared: list[Task] = []
    for name in dict.fromkeys(task.family.name for task in tasks):
        own = [task for task in tasks if task.family.name == name]
        if _cost(own) > limit:
            jobs += [[task] for task in own]
        elif _cost(shared + own) > limit:
            jobs, shared = [*jobs, shared], own
        else:
            shared = shared + own
    return sorted([*jobs, shared] if shared else jobs, key=_cost, reverse=True)


def _title(job: Sequence[Task]) -> str:
    return f"training of {', '.join(dict.fromkeys(task.family.name for task in job))}"


def _cost(tasks: Sequence[Task]) -> float:
    return sum(task.cost for task in tasks)


def start_worker() -> None:
    """What a process does before its first fit: nothing is reported anywhere, and one thread is enough."""
    disable_telemetry()
    threadpool_limits(1)


def _run_shared(directory: str, job: Sequence[Task]) -> list[Result]:
    return [_run(_open_shared(directory), task) for task in job]


@lru_cache(maxsize=1)
def _open_shared(directory: str) -> Dataset:
    return Dataset.open_shared(Path(directory))


def _run(data: Dataset, task: Task) -> Result:
    begun = time.perf_counter()
    try:
        fitted = task.family.fit(data, task.train, seed=task.seed, window=task.window, params=task.params)
        probability = fitted.predict(data.x, task.test)
        _check_finite(probability if len(task.test) else fitted.predict(data.x, task.train[-1:]))
    except DataError as fault:
        where = f"fold {task.fold}" if task.fold != FINAL_FIT else "the final fit"
        raise DataError(f"{where}, {task.family.name}: {fault}") from fault
    importance = explain(fitted, data, task.test, seed=task.seed) if task.explain else None
    files = _files(fitted) if task.fold == FINAL_FIT else None
    return Result(task, probability, importance, files, time.perf_counter() - begun)


def _check_finite(probability: Floats) -> None:
    lost = int((~np.isfinite(probability).all(axis=1)).sum())
    if lost:
        raise DataError(
            f"{lost} of {len(probability)} predictions are not numbers, 0 may be: the fit diverged; lower "
            "its learning_rate, or bring its other parameters back toward their defaults"
        )


def _files(fitted: Fitted) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="bellwether-model-") as directory:
        fitted.save(Path(directory))
        return {path.name: path.read_bytes() for path in sorted(Path(directory).iterdir())}


def _check_params(tasks: Sequence[Task]) -> None:
    """Only of families that are given any: defaults are right, and reading them would load the library."""
    faults: list[str] = []
    for task in {task.family.name: task for task in tasks if task.params}.values():
        try:
            task.family.read_params(task.params)
        except ConfigurationError as fault:
            faults += fault.faults
    if faults:
        raise ConfigurationError(faults)
