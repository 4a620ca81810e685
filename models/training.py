"""Out-of-fold predictions in processes, the nested ensemble over them, and the final fit."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from core.errors import ConfigurationError, DataError, StageFailed
from core.settings import disable_telemetry
from models.calibration import Calibrator, Kind, fit_calibrator
from models.dataset import Dataset, Floats, Rows
from models.ensemble import REFERENCE, Ensemble, Stack, combine, fit_stack
from models.families import Family, get_families
from models.families.base import check_classes

if TYPE_CHECKING:
    from evaluation.splits import Fold

FamilyParameters = Mapping[str, Mapping[str, Any]]

MIN_FOLDS = 3
"""One block for the stack, one for the calibrator, one to be judged on."""


@dataclass(frozen=True)
class Progress:
    """One family fitted and scored on one fold (counted from 1); `done` of `total` so far."""

    done: int
    total: int
    fold: int
    family: str
    seconds: float


@dataclass(frozen=True)
class _Task:
    fold: int
    family: Family
    train: Rows
    test: Rows
    seed: int
    window: int
    params: Mapping[str, Any]


@dataclass(frozen=True)
class _Result:
    fold: int
    family: str
    probability: Floats
    seconds: float


def out_of_fold(
    data: Dataset,
    folds: Sequence[Fold],
    families: Sequence[str],
    params: FamilyParameters,
    *,
    seed: int,
    window: int,
    processes: int = 1,
    on_progress: Callable[[Progress], None] | None = None,
) -> pd.DataFrame:
    """Fit every family on every fold's training rows and predict its test rows.

    Returns one line per test row, in fold order: `row` (index into `data`), `fold` (from 1), and P(up)
    per family. Each fit has one thread; `processes` fits run at a time over one mapped copy of the
    data, and the result does not depend on how many. `on_progress` is called in this process.
    ConfigurationError: unknown family or parameter. DataError names the fold and the rows it lacks.
    """
    kinds = get_families(families)
    _check_params(kinds, params)
    _check_folds(data, folds)
    tasks = [
        _Task(number, kind, fold.train, fold.test, seed, window, params.get(kind.name, {}))
        for number, fold in enumerate(folds, 1)
        for kind in kinds
    ]
    # The longest first, so that no process is left alone with one at the end.
    tasks.sort(key=lambda task: -task.family.cost * len(task.train))
    results: dict[tuple[int, str], Floats] = {}
    for result in _run_all(data, tasks, processes):
        results[result.fold, result.family] = result.probability
        if on_progress is not None:
            on_progress(Progress(len(results), len(tasks), result.fold, result.family, result.seconds))
    return pd.concat(
        [_block(n, fold, families, results) for n, fold in enumerate(folds, 1)], ignore_index=True
    )


def nested_ensemble(
    oof: pd.DataFrame, data: Dataset, *, calibration: Kind = "sigmoid", shrinkage: float = 1.0
) -> pd.DataFrame:
    """Honest out-of-sample predictions of the whole ensemble, from the third block on.

    Block k is predicted by a stack fitted on the blocks before k - 1 and a calibrator fitted on block
    k - 1, each without the rows whose label ends after the next block begins. Returns the lines of
    `oof` for those blocks with two more columns: `probability` and `confidence`.
    """
    blocks = _blocks(oof, data)
    predicted = []
    with threadpool_limits(1):
        for k in range(2, len(blocks)):
            stack, calibrator = _fit_on_top(
                data, blocks[: k - 1], blocks[k - 1], blocks[k], calibration, shrinkage
            )
            outcome = combine(stack, calibrator, _bases(blocks[k]))
            columns = {"probability": outcome.probability, "confidence": outcome.confidence}
            predicted.append(blocks[k].assign(**columns))
    return pd.concat(predicted, ignore_index=True)


def nested_baseline(
    oof: pd.DataFrame, data: Dataset, *, calibration: Kind = "sigmoid", shrinkage: float = 1.0
) -> Floats:
    """P(up) of an ensemble of the base rate alone, for the lines that `nested_ensemble` returns.

    Stack and calibrator move with the rate of recent blocks, whatever the features say. A baseline without
    them lags that rate, and an ensemble of models that know nothing beats it.
    """
    rate = oof[["row", "fold", REFERENCE]]
    alone = nested_ensemble(rate, data, calibration=calibration, shrinkage=shrinkage)
    return np.asarray(alone["probability"].to_numpy(dtype=np.float64))


def fit_final(
    data: Dataset,
    oof: pd.DataFrame,
    params: FamilyParameters,
    *,
    seed: int,
    window: int,
    calibration: Kind = "sigmoid",
    shrinkage: float = 1.0,
    on_progress: Callable[[Progress], None] | None = None,
) -> Ensemble:
    """The ensemble that is exported: base models on every row, the stack on every block of `oof` but
    the last, the calibrator on the last; the families are the columns of `oof`.
    """
    blocks = _blocks(oof, data)
    kinds = get_families(_names(oof))
    _check_params(kinds, params)
    with threadpool_limits(1):
        stack, calibrator = _fit_on_top(data, blocks[:-1], blocks[-1], None, calibration, shrinkage)
        fitted = {}
        for done, kind in enumerate(kinds, 1):
            begun = time.perf_counter()
            fitted[kind.name] = kind.fit(
                data, np.arange(len(data)), seed=seed, window=window, params=params.get(kind.name, {})
            )
            if on_progress is not None:
                on_progress(Progress(done, len(kinds), 0, kind.name, time.perf_counter() - begun))
    return Ensemble(fitted, stack, calibrator, data.names, window)


def _run_all(data: Dataset, tasks: Sequence[_Task], processes: int) -> Iterator[_Result]:
    if processes == 1:
        with threadpool_limits(1):
            yield from (_run(data, task) for task in tasks)
        return
    with tempfile.TemporaryDirectory(prefix="bellwether-train-") as directory:
        data.save(Path(directory))
        pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_start_worker)
        try:
            yield from _collect(pool.submit(_run_shared, directory, task) for task in tasks)
        except BrokenProcessPool as fault:
            raise StageFailed(
                f"a training process died, most likely for want of memory: lower train.processes "
                f"(now {processes})"
            ) from fault
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _collect(futures: Iterable[Future[_Result]]) -> Iterator[_Result]:
    for future in as_completed(list(futures)):
        yield future.result()


def _start_worker() -> None:
    disable_telemetry()
    threadpool_limits(1)


def _run_shared(directory: str, task: _Task) -> _Result:
    return _run(_open_shared(directory), task)


@lru_cache(maxsize=1)
def _open_shared(directory: str) -> Dataset:
    return Dataset.open_shared(Path(directory))


def _run(data: Dataset, task: _Task) -> _Result:
    begun = time.perf_counter()
    try:
        fitted = task.family.fit(data, task.train, seed=task.seed, window=task.window, params=task.params)
    except DataError as fault:
        raise DataError(f"fold {task.fold}, {task.family.name}: {fault}") from fault
    probability = fitted.predict(data.x, task.test)
    return _Result(task.fold, task.family.name, probability, time.perf_counter() - begun)


def _block(
    number: int, fold: Fold, families: Sequence[str], results: Mapping[tuple[int, str], Floats]
) -> pd.DataFrame:
    columns = {"row": fold.test, "fold": np.full(len(fold.test), number)}
    return pd.DataFrame(columns | {name: results[number, name] for name in families})


def _fit_on_top(
    data: Dataset,
    earlier: Sequence[pd.DataFrame],
    last: pd.DataFrame,
    judged: pd.DataFrame | None,
    calibration: Kind,
    shrinkage: float,
) -> tuple[Stack, Calibrator]:
    """Stack on `earlier`, calibrator on `last`, both without labels that reach into what follows."""
    below = _before(pd.concat(earlier), data, last)
    above = last if judged is None else _before(last, data, judged)
    fold = int(last["fold"].iloc[0])
    for name, block in ((f"the stack before fold {fold}", below), (f"the calibrator on fold {fold}", above)):
        if block.empty:
            raise DataError(
                f"{name} has 0 rows after purging: test blocks must be longer than the label's horizon; "
                "raise splits.test_rows"
            )
    y, w = _outcomes(below, data)
    stack = fit_stack(_names(below), _bases(below), y, w, shrinkage=shrinkage)
    y, w = _outcomes(above, data)
    return stack, fit_calibrator(calibration, stack.logit(_bases(above)), y, w, shrinkage=shrinkage)


def _before(block: pd.DataFrame, data: Dataset, following: pd.DataFrame) -> pd.DataFrame:
    begin = data.times[following["row"].to_numpy()].min()
    kept: pd.DataFrame = block[data.t1[block["row"].to_numpy()] <= begin]
    return kept


def _outcomes(block: pd.DataFrame, data: Dataset) -> tuple[Floats, Floats]:
    rows = block["row"].to_numpy()
    return data.y[rows], data.w[rows]


def _names(oof: pd.DataFrame) -> list[str]:
    return [str(name) for name in oof.columns if name not in ("row", "fold")]


def _bases(block: pd.DataFrame) -> Floats:
    return np.asarray(block[_names(block)].to_numpy(dtype=np.float64))


def _blocks(oof: pd.DataFrame, data: Dataset) -> list[pd.DataFrame]:
    blocks = [block for _, block in oof.groupby("fold", sort=True)]
    if len(blocks) < MIN_FOLDS:
        size = max((len(block) for block in blocks), default=0)
        needed = len(data) - len(oof) + MIN_FOLDS * size
        raise DataError(
            f"{len(blocks)} folds: the ensemble needs {MIN_FOLDS} (stack, calibrator, judgement), which is "
            f"about {needed} labelled rows with test blocks of {size}, and there are {len(data)}; "
            "add history or lower splits.test_rows or splits.train_rows"
        )
    return blocks


def _check_params(kinds: Sequence[Family], params: FamilyParameters) -> None:
    faults: list[str] = []
    for kind in kinds:
        try:
            kind.read_params(params.get(kind.name, {}))
        except ConfigurationError as fault:
            faults += fault.faults
    if faults:
        raise ConfigurationError(faults)


def _check_folds(data: Dataset, folds: Sequence[Fold]) -> None:
    for number, fold in enumerate(folds, 1):
        try:
            check_classes(data, fold.train)
        except DataError as fault:
            raise DataError(f"fold {number}: {fault}") from fault
