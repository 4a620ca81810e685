"""What training, tuning, statistics and the exported graph cost, as ratios taken in one run.

`python -m benchmarks.models` measures every part, `python -m benchmarks.models pbo graph` some; `--json`. The
figures in s, µs and MB are of this machine and this moment; `folds` needs idle cores, the rest counts CPU.
"""

import argparse
import resource
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import yaml
from threadpoolctl import threadpool_limits

from benchmarks.figure import Figure, document, show
from core.settings import disable_telemetry
from evaluation.overfitting import pbo
from evaluation.splits import Fold, walk_forward
from models.combination import Known
from models.dataset import Dataset, Rows, windows
from models.ensemble import Ensemble, Recipe, fit_head
from models.families import FAMILIES, get_family
from models.families.base import Span
from models.families.sequence import Block
from models.onnx_export import export
from models.onnx_run import Runner
from models.run_record import TrialRecord
from models.training import out_of_fold
from models.tuning import search_folds
from pipelines import features as features_stage
from pipelines import ingest, labels, validate
from pipelines import train as train_stage
from pipelines.matrix import training_matrix
from pipelines.params import PARAMS_FILE, Params, load, read_tree

ROOT = Path(__file__).resolve().parents[1]
PROCESSES = 2
TUNED = FAMILIES.keys() - {"base_rate"}


@dataclass(frozen=True, eq=False)
class Job:
    """The main job's data up to its labels, under `root`, with the parameters of this checkout."""

    root: Path
    params: Params
    data: Dataset
    folds: list[Fold]

    def fitting(self, **changes: Any) -> dict[str, Any]:
        """Arguments of `out_of_fold` besides data, folds and families."""
        train = self.params.train
        own = {name: train.family_params(name) for name in FAMILIES}
        return {"params": own, "seed": train.seed, "window": train.window, **changes}


@contextmanager
def job() -> Iterator[Job]:
    """The built-in data through the stages before training, in a directory of its own."""
    with TemporaryDirectory(prefix="bellwether-bench-") as folder:
        root = Path(folder)
        tree = read_tree(ROOT / PARAMS_FILE)
        tree["train"]["processes"] = 1
        (root / PARAMS_FILE).write_text(yaml.safe_dump(tree))
        params = load(root / PARAMS_FILE)
        for stage in (ingest, validate, features_stage, labels):
            stage.work(root, params)
        data = training_matrix(root, params.labels.target)
        folds = walk_forward(data.times, data.t1, **params.splits.walk_forward())
        yield Job(root, params, data, folds)


def cpu_seconds(work: Callable[[], object], repeats: int = 1) -> float:
    """The least CPU time of `repeats` runs in this process."""
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return min(spent)


def measure_pbo(_: Job | None) -> Iterable[Figure]:
    """12,870 splits of 1,000 strategies on one thread, and a loop that does each split by itself."""
    returns = np.random.default_rng(0).normal(0, 0.01, (2520, 1000))
    with threadpool_limits(1):
        ours = cpu_seconds(lambda: pbo(returns, blocks=16), 3)
        sample = np.random.default_rng(1).choice(12_870, 40, replace=False)
        found: list[float] = []
        naive = cpu_seconds(lambda: found.extend(_naive_logits(returns, 16, sample))) / len(sample) * 12_870
        assert np.allclose(pbo(returns, blocks=16).logits[sample], found)
    yield Figure("pbo", "12,870 splits x 1,000 strategies, one thread, CPU", ours, "s", "<= 1")
    yield Figure("pbo", "a loop over splits takes, from 40 of them", naive / ours, "times as long", ">= 50")


def _naive_logits(returns: np.ndarray[Any, Any], blocks: int, chosen: Iterable[int]) -> Iterator[float]:
    parts = np.array_split(np.arange(len(returns)), blocks)
    halves = list(combinations(range(blocks), blocks // 2))
    for at in chosen:
        inside = np.concatenate([parts[k] for k in halves[at]])
        outside = np.setdiff1d(np.arange(len(returns)), inside)
        first, second = (r.mean(axis=0) / r.std(axis=0, ddof=1) for r in (returns[inside], returns[outside]))
        rank = (second <= second[first.argmax()]).sum() / (returns.shape[1] + 1)
        yield float(np.log(rank / (1 - rank)))


def measure_windows(_: Job | None) -> Iterable[Figure]:
    """Memory that all windows of a matrix take, against the matrix and against copies of its rows."""
    rows, width, length = 10_000, 160, 32
    x = np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32)
    every, copied = np.arange(rows), rows * length * width * 4
    mean, scale = np.zeros(width, np.float32), np.ones(width, np.float32)
    views, peak = _peak_bytes(lambda: windows(x, every, length))
    assert views.shape == (rows, length, width)
    assert np.array_equal(
        views[length - 1 :: 997], np.stack([x[k : k + length] for k in range(0, rows - length + 1, 997)])
    )
    yield Figure("windows", "numpy, all windows, memory over the matrix's", peak / x.nbytes, "", "<= 1.1")
    yield Figure("windows", "numpy, copies would take", copied / peak, "times as much", ">= 25")
    assert np.shares_memory(windows(x, every[length:], length), x)
    block = Block.of(x, every, mean, scale, length)
    tensor, peak = _peak_bytes(lambda: block.views(block.scaled))
    held = tensor.untyped_storage()
    assert held.data_ptr() == block.scaled.untyped_storage().data_ptr()
    yield Figure(
        "windows", "torch, all windows, memory over the matrix's", held.nbytes() / x.nbytes, "", "<= 1.1"
    )
    yield Figure(
        "windows", "torch, copies would take", tensor.numel() * 4 / held.nbytes(), "times as much", ">= 25"
    )


def _peak_bytes(work: Callable[[], Any]) -> tuple[Any, int]:
    tracemalloc.start()
    result = work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return result, peak


def measure_folds(given: Job | None) -> Iterable[Figure]:
    """How well folds on two processes use two cores, each run a program of its own from start to end.

    The least of some runs in turns: other tenants of a machine only ever take time. Loading libraries counts,
    which one process does once and each of two does again: it is most of what a small job loses. The bound is
    that of all families.
    """
    assert given is not None
    for told, families, wanted in (
        ("default families", given.params.train.families, None),
        ("all families", tuple(FAMILIES), ">= 0.85"),
    ):
        rounds = [[_fold_seconds(given, families, count) for count in (1, PROCESSES)] for _ in range(3)]
        alone, spread = (min(seconds) for seconds in zip(*rounds, strict=True))
        what = f"{told}, {len(given.folds)} folds and the final fit"
        yield Figure("folds", f"{what}, one process, wall", alone, "s")
        yield Figure("folds", f"{what}, {PROCESSES} processes, wall", spread, "s")
        yield Figure("folds", f"{told}, one / (two x {PROCESSES})", alone / (spread * PROCESSES), "", wanted)


def _fold_seconds(given: Job, families: Sequence[str], processes: int) -> float:
    """Seconds on the clock of a new program that predicts the folds of the job and makes its final fits."""
    train = given.params.train.model_copy(update={"families": tuple(families), "processes": processes})
    tree = given.params.model_copy(update={"train": train}).model_dump(mode="json", by_alias=True)
    parameters = given.root / "folds.yaml"
    parameters.write_text(yaml.safe_dump(tree))
    start = time.perf_counter()
    program = [sys.executable, "-m", "benchmarks.fold_job", str(given.root), str(parameters)]
    subprocess.run(program, cwd=ROOT, check=True)
    return time.perf_counter() - start


@cache
def stage_seconds(given: Job) -> tuple[float, float]:
    """CPU seconds of the training stage in this process, libraries loaded, and of its fits among them."""
    families, spent = given.params.train.families, []
    out_of_fold(given.data, given.folds[:1], families, **given.fitting(final=False))

    def timed(*args: Any, **options: Any) -> Any:
        found: list[Any] = []
        spent.append(cpu_seconds(lambda: found.append(out_of_fold(*args, **options))))
        return found[0]

    with patch.object(train_stage, "out_of_fold", timed), redirect_stdout(StringIO()):
        whole = cpu_seconds(lambda: train_stage.work(given.root, given.params))
    return whole, spent[0]


def measure_stage(given: Job | None) -> Iterable[Figure]:
    """What the training stage does besides fitting, and what it costs to log the trials of a search."""
    assert given is not None
    whole, fits = stage_seconds(given)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "pipelines.train"]
    subprocess.run(command, cwd=given.root, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    alone = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    yield Figure("stage", "CPU of the fits of the training stage", fits, "s")
    yield Figure("stage", "all else of the stage, over them", (whole - fits) / fits, "", "<= 0.05")
    yield Figure("stage", "and with loading the libraries, over them", (alone - fits) / fits)
    folds = search_folds(given.data, given.folds, "early", given.params.splits.walk_forward())
    logged = _logging_seconds(len(folds))
    tried = {
        name: _trial_seconds(given, name, folds) for name in given.params.train.families if name in TUNED
    }
    yield Figure("stage", "logging a trial, CPU", logged, "s")
    for name, seconds in tried.items():
        yield Figure("stage", f"of the fits of a trial of {name}", logged / seconds)
    yield Figure(
        "stage", "of those of one trial of each", logged * len(tried) / sum(tried.values()), "", "<= 0.05"
    )


def _logging_seconds(folds: int, trials: int = 20) -> float:
    """CPU seconds of one trial logged to an MLflow store."""
    from evaluation.trials import TrialSet
    from models.registry import Registry

    with TemporaryDirectory() as folder:
        registry = Registry(f"sqlite:///{folder}/mlflow.db", Path(folder) / "artifacts")
        run = registry.open_search("bench-1d", "key", "tune", {})
        params = dict.fromkeys(get_family("lightgbm").search_space(), 0.5)
        records = [
            TrialRecord(
                name=f"trial {k}", candidate=TrialSet(f"k{k}", 1, ((0.01, 1000),)), params=params,
                metrics={"loss": 0.69, "seconds": 1.0}, series={"log_loss": [0.69] * folds}, tags={},
                seconds=1.0, status="FINISHED",
            )
            for k in range(trials)
        ]  # fmt: skip
        return (
            cpu_seconds(lambda: [registry.log_trial("bench-1d", run, record) for record in records]) / trials
        )


def _trial_seconds(given: Job, name: str, folds: Sequence[Fold]) -> float:
    """CPU seconds of the fits and predictions of one trial of a family, with its parameters in force."""
    family, train = get_family(name), given.params.train
    params = train.family_params(name)

    def attempt() -> None:
        for fold in folds:
            prepared = family.prepare(given.data, fold.train, params)
            fitted = family.fit(
                given.data, fold.train, seed=train.seed, window=train.window, params=params, prepared=prepared
            )
            fitted.predict(given.data.x, fold.test)

    with threadpool_limits(1):
        return cpu_seconds(attempt)


def draws(count: int) -> list[dict[str, Any]]:
    """Parameters of LightGBM drawn from where tuning looks."""
    rng, space = np.random.default_rng(0), get_family("lightgbm").search_space()
    return [{name: _draw(rng, name, where) for name, where in space.items()} for _ in range(count)]


def _draw(rng: np.random.Generator, name: str, where: Any) -> Any:
    assert isinstance(where, Span)
    low, high = (np.log(where.low), np.log(where.high)) if where.log else (where.low, where.high)
    value = float(rng.uniform(low, high))
    value = float(np.exp(value)) if where.log else value
    whole = isinstance(getattr(get_family("lightgbm").read_params({}), name), int)
    return round(value) if whole else value


def _fit(given: Job, rows: Rows, params: dict[str, Any], prepared: Any) -> Any:
    train = given.params.train
    return get_family("lightgbm").fit(
        given.data, rows, seed=train.seed, window=train.window, params=params, prepared=prepared
    )


def measure_search(given: Job | None) -> Iterable[Figure]:
    """Ten trials of LightGBM over one fold, its bins made once or for every trial."""
    assert given is not None
    searched = search_folds(given.data, given.folds, "early", given.params.splits.walk_forward())[-1]
    for what, fold, wanted in (("search", searched, ">= 1.7"), ("evaluation", given.folds[-1], None)):
        ours, theirs = _search_seconds(given, fold)
        told = f"10 trials, last fold of the {what}, {len(fold.train)} rows"
        yield Figure("search", f"{told}, CPU", ours, "s")
        yield Figure("search", "bins rebuilt take, predictions equal", theirs / ours, "times as long", wanted)


def _search_seconds(given: Job, fold: Fold) -> tuple[float, float]:
    """CPU seconds with bins shared, and with bins made for every trial."""
    chosen, family = draws(10), get_family("lightgbm")
    shared: list[Any] = []
    rebuilt: list[Any] = []

    def share() -> None:
        prepared = family.prepare(given.data, fold.train, {})
        shared[:] = [_fit(given, fold.train, params, prepared) for params in chosen]

    def rebuild() -> None:
        rebuilt[:] = [_fit(given, fold.train, params, None) for params in chosen]

    rebuild()
    ours, theirs = cpu_seconds(share, 3), cpu_seconds(rebuild, 3)
    for first, second in zip(shared, rebuilt, strict=True):
        assert np.array_equal(first.predict(given.data.x, fold.test), second.predict(given.data.x, fold.test))
    return ours, theirs


def measure_graph(given: Job | None) -> Iterable[Figure]:
    """CPU of one row at a time, another one each time: the exported graph against the training libraries."""
    assert given is not None
    held_out = given.folds[-1].test
    fitted = {name: _fitted(given, name, given.folds[-1].train) for name in FAMILIES}
    sets = {"default families": given.params.train.families, "all families": tuple(FAMILIES)}
    for title, names in sets.items():
        ensemble = _ensemble(given, {name: fitted[name] for name in names}, held_out)
        graph, native = _graph_times(given, ensemble, held_out), _native_times(given, ensemble, held_out)
        middle = float(np.median(graph))
        yield Figure("graph", f"{title}, one row, median", middle * 1e6, "µs", "<= 400")
        yield Figure(
            "graph", f"{title}, one row, 99 %", float(np.quantile(graph, 0.99)) * 1e6, "µs", "<= 400"
        )
        yield Figure(
            "graph", f"{title}, libraries take", float(np.median(native)) / middle, "times as long", ">= 3"
        )
    for name in FAMILIES:
        alone = _ensemble(given, {name: fitted[name]}, held_out)
        graph, native = _graph_times(given, alone, held_out), _native_times(given, alone, held_out)
        middle = float(np.median(graph))
        yield Figure("graph", f"{name} alone, one row, median", middle * 1e6, "µs")
        yield Figure(
            "graph", f"{name} alone, libraries take", float(np.median(native)) / middle, "times as long"
        )


def _fitted(given: Job, name: str, rows: Rows) -> Any:
    train = given.params.train
    with threadpool_limits(1):
        return get_family(name).fit(
            given.data, rows, seed=train.seed, window=train.window, params=train.family_params(name)
        )


def _ensemble(given: Job, fitted: dict[str, Any], held_out: Rows) -> Ensemble:
    """Families with a head fitted on the halves of the rows that they had not seen."""
    data = given.data
    base = np.stack([model.predict(data.x, held_out) for model in fitted.values()], axis=1)
    ones, half = np.ones(len(held_out)), len(held_out) // 2
    known = Known(held_out, base, data.y[held_out], ones, ones)
    recipe = Recipe(**given.params.ensemble.model_dump())
    head = fit_head(list(fitted), known[:half], known[half:], known, recipe)
    return Ensemble(fitted, head, data.target, data.names, given.params.train.window)


def _graph_times(given: Job, ensemble: Ensemble, rows: Rows) -> list[float]:
    runner = Runner(export(ensemble))
    asked = windows(given.data.x, rows, ensemble.window)
    return _times(lambda k: runner(asked[k : k + 1]), len(rows), 2000)


def _native_times(given: Job, ensemble: Ensemble, rows: Rows) -> list[float]:
    torch.set_num_threads(1)
    with threadpool_limits(1):
        return _times(lambda k: ensemble.predict(given.data.x, rows[k : k + 1]), len(rows), 200)


def _times(ask: Callable[[int], object], rows: int, count: int) -> list[float]:
    """CPU seconds of `count` calls, each for the next row, after some that do not count."""
    spent = []
    for k in range(-20, count):
        start = time.process_time()
        ask(k % rows)
        spent.append(time.process_time() - start)
    return spent[20:]


PARTS: dict[str, tuple[Callable[[Job | None], Iterable[Figure]], bool]] = {
    "pbo": (measure_pbo, False),
    "windows": (measure_windows, False),
    "search": (measure_search, True),
    "graph": (measure_graph, True),
    "folds": (measure_folds, True),
    "stage": (measure_stage, True),
}
"""Name -> what measures it, and whether it needs the job's data."""


def run(names: Sequence[str], show: Callable[[Figure], None]) -> list[Figure]:
    """Measure parts in order; `show` is called with each figure as it is known."""
    found: list[Figure] = []

    def take(part: Callable[[Job | None], Iterable[Figure]], given: Job | None) -> None:
        for figure in part(given):
            found.append(figure)
            show(figure)

    for name in names:
        if not PARTS[name][1]:
            take(PARTS[name][0], None)
    needed = [name for name in names if PARTS[name][1]]
    if needed:
        with job() as given:
            for name in needed:
                take(PARTS[name][0], given)
    return found


def main() -> None:
    """Print the table, or one JSON document."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help=f"default all: {', '.join(PARTS)}")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    given = parser.parse_args()
    disable_telemetry()
    if given.json:
        with redirect_stdout(StringIO()):
            found = run(given.parts or list(PARTS), lambda _: None)
        print(document(found))
        return
    run(given.parts or list(PARTS), show)


if __name__ == "__main__":
    main()
