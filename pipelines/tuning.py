"""Hyper-parameter tuning of a workspace's families: searches that survive a kill, are logged, and count.

A search is what shapes its trials: model, data, family, parameters in force, search space, folds, seed,
costs. Its journal var/tuning/<model>-<family>-<digest>.journal is written whole after every trial, so ctrl-C
or kill -9 costs the trial that was under way, and the same command goes on where it stopped, to the result
that it would have had. Every trial, those given up and failed included, is a run in MLflow nested in its
search's, and counts against the deflated Sharpe of the model.

What a search may look at: see `models.tuning.search_folds`. By default it is the rows before the first block
that the evaluation judges; then the best is set, once, against the parameters in force on the judged blocks,
which the search has not seen. Over all folds the comparison is nested instead: every block is predicted with
the parameters that were best on the blocks before it. (What was proposed had seen later blocks even so.)
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from time import monotonic
from typing import Any

import numpy as np
import pandas as pd
import yaml

from core.errors import (
    ArtifactError,
    BellwetherError,
    ConfigurationError,
    DataError,
    RegistryError,
    StageFailed,
)
from core.files import exclusive_lock
from core.settings import Settings
from evaluation.comparison import better
from evaluation.performance import sharpe
from evaluation.splits import Fold, walk_forward
from evaluation.trials import gather
from models.bench import Bench, bench
from models.dataset import Dataset, Floats, Rows
from models.families import Family, get_families
from models.families.base import Options, SearchSpace, Span
from models.tuning import (
    Axis,
    Judge,
    Metric,
    Scope,
    Search,
    Trial,
    attempt,
    axes_of,
    best_of,
    held_out_folds,
    in_force,
    nested_choice,
    propose_and_attempt,
    scores,
    search_folds,
)
from pipelines import promotion, stored, trials
from pipelines.matrix import training_matrix
from pipelines.params import PARAMS_FILE, Params, load, set_family
from pipelines.search_journal import IN_FORCE, Journal
from pipelines.search_log import SearchLog
from pipelines.workspace import STORE, Workspace
from trading.backtest import PositionRule, run_signal
from trading.costs import Costs

_NEEDED = ("ingest", "validate", "features", "labels")
_CONVINCED = 0.05


@dataclass(frozen=True)
class Request:
    """What to tune, and for how long. `trials` are those of a search in all, earlier ones included.

    `timeout`: seconds after which no further trial is begun. `space`: ranges in place of the family's own.
    """

    families: tuple[str, ...] = ()
    trials: int = 30
    timeout: float | None = None
    metric: Metric = "log_loss"
    scope: Scope = "early"
    resume: bool = True
    write: bool = False
    space: SearchSpace = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """`done` of `total` trials of a family, the best loss so far and where the journal is."""

    family: str
    done: int
    total: int
    best: float | None
    journal: str


@dataclass(frozen=True)
class Comparison:
    """The best against the parameters in force on the same rows: mean losses under the rows' weights.

    `p_better`: one-sided Diebold-Mariano p that the best is no better.
    """

    rows: int
    folds: int
    in_force: float
    best: float
    p_better: float


@dataclass(frozen=True)
class Tuned:
    """What came of tuning a family.

    `added` trials are new in this call; `best` are the values of the searched parameters, `trial` which had
    them (0: those in force); `in_force_loss`, `best_loss` are means over the searched folds, which flatter
    the best. `comparison` is None when the best is what is in force, or one of the two could not be fitted.
    `counted`: trials that now count against the model.
    """

    model: str
    family: str
    metric: str
    scope: str
    searched_rows: int
    searched_until: str
    trials: int
    added: int
    finished: int
    pruned: int
    failed: int
    reasons: dict[str, int]
    trial: int
    best: dict[str, Any]
    best_loss: float
    in_force_loss: float | None
    comparison: Comparison | None
    improved: bool
    written: bool
    command: str
    counted: int
    unlogged: str
    journal: str
    seconds: float


OnProgress = Callable[[Progress], None]
OnNote = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class _Ground:
    """What every search of a call stands on."""

    settings: Settings
    params: Params
    held: stored.StoredBars
    data: Dataset
    folds: list[Fold]
    pedigree: dict[str, str]

    def bench(self, family: Family, folds: Sequence[Fold]) -> Any:
        train = self.params.train
        given = train.family_params(family.name)
        return bench(
            family, self.data, folds, given, seed=train.seed, window=train.window, processes=train.processes
        )

    def record(self, rows: Rows, probability: Floats) -> tuple[float, int] | None:
        """Sharpe per period after costs of the signal, and its number of returns; an idle one earned 0."""
        if len(rows) < 2:
            return None
        rule = self.params.backtest
        signal = pd.Series(
            self.data.target.signal(probability, self.data.side(rows)), _times(self.data, rows)
        )
        position = PositionRule(rule.buy, rule.sell, rule.allow_short)
        result = run_signal(self.held.bars, signal, position, Costs(rule.commission_bps, rule.slippage_bps))
        returns = result.returns.to_numpy()
        earned = sharpe(returns) if len(returns) > 1 else 0.0
        return earned if isfinite(earned) else 0.0, len(returns)


def tune(
    settings: Settings,
    request: Request,
    on_progress: OnProgress = lambda _: None,
    on_note: OnNote = lambda _: None,
) -> list[Tuned]:
    """Search the parameters of every family asked for, by default of all that are trained.

    ConfigurationError before anything is fitted: an unknown family, a space that cannot be searched.
    ArtifactError: the features and labels stages have not run. DataError: too few rows, or no trial of a
    family could be fitted.
    """
    params = load(settings.home / PARAMS_FILE)
    axes = plan(params, request)
    ground = _prepare(settings, params)
    families = get_families(axes)
    return [_tune(ground, each, axes[each.name], request, on_progress, on_note) for each in families]


def plan(params: Params, request: Request) -> dict[str, tuple[Axis, ...]]:
    """The axes of every family to tune; ConfigurationError lists all that is wrong with the request."""
    chosen, faults, axes = _chosen(params, request), [], {}
    if request.space and len(chosen) != 1:
        faults.append(f"--space belongs to one family, and {len(chosen)} are tuned: name it with --family")
    for family in [] if faults else chosen:
        try:
            axes[family.name] = axes_of(family, params.train.family_params(family.name), request.space)
        except ConfigurationError as error:
            faults += error.faults
    if faults:
        raise ConfigurationError(faults)
    return axes


def _chosen(params: Params, request: Request) -> list[Family]:
    if request.families:
        return get_families(dict.fromkeys(request.families))
    found = [family for family in get_families(params.train.families) if family.search_space()]
    if not found:
        raise ConfigurationError("train.families holds nothing to tune: name a --family")
    return found


def parse_space(texts: Sequence[str]) -> dict[str, Span | Options]:
    """Ranges of texts name=low:high, name=low:high:log, name=a,b; ConfigurationError lists the malformed."""
    space: dict[str, Span | Options] = {}
    faults = []
    for text in texts:
        name, _, value = (part.strip() for part in text.partition("="))
        try:
            found = _range(value)
        except (ValueError, yaml.YAMLError):
            found = None
        if not name or found is None:
            faults.append(f"--space {text}: expected name=low:high, name=low:high:log or name=a,b")
        elif name in space:
            faults.append(f"--space {name} is given twice: keep one")
        else:
            space[name] = found
    if faults:
        raise ConfigurationError(faults)
    return space


def _range(text: str) -> Span | Options:
    low, *rest = text.split(":")
    if not rest and text:
        return Options(tuple(yaml.safe_load(option) for option in text.split(",")))
    if not rest or rest[1:] not in ([], ["log"]):
        raise ValueError(text)
    return Span(float(low), float(rest[0]), log=len(rest) == 2)


def _prepare(settings: Settings, params: Params) -> _Ground:
    root, workspace = settings.home, Workspace(settings.home, settings)
    remedy = "run `bellwether run` or `dvc repro labels` first"
    for needed in ("validate/bars.json", "features/matrix.parquet", "labels/labels.parquet"):
        if not (root / STORE / needed).exists():
            raise ArtifactError(f"{root / STORE / needed} does not exist: {remedy}")
    changed = workspace.stale()
    if stale := [stage for stage in _NEEDED if stage in changed]:
        raise ArtifactError(f"{root / STORE} is older than what {', '.join(stale)} would make now: {remedy}")
    data = training_matrix(root, params.labels.target)
    held = stored.bars(root)
    pedigree = {
        "commit": workspace.commit(),
        "dirty": str(workspace.dirty()).lower(),
        "data_hash": str(held.facts["data_hash"]),
    }
    folds = walk_forward(data.times, data.t1, **params.splits.walk_forward())
    return _Ground(settings, params, held, data, folds, pedigree)


def _tune(
    ground: _Ground,
    family: Family,
    axes: tuple[Axis, ...],
    request: Request,
    on_progress: OnProgress,
    on_note: OnNote,
) -> Tuned:
    begun, var_dir = monotonic(), ground.settings.var_dir
    folds = search_folds(ground.data, ground.folds, request.scope, ground.params.splits.walk_forward())
    lock = var_dir / trials.SEARCHES / f".{ground.held.model}-{family.name}.lock"
    with exclusive_lock(lock, wait=False) as mine:
        if not mine:
            raise StageFailed(
                f"{family.name} of {ground.held.model} is being tuned already: wait for that to end"
            )
        search = _identity(ground, family, axes, request)
        journal = Journal.open(var_dir, search, resume=request.resume)
        log = SearchLog(ground.settings, journal, {**ground.pedigree, "family": family.name}, on_note)
        before, held_out = len(journal.tried), held_out_folds(ground.folds, request.scope)
        with ground.bench(family, [*folds, *held_out]) as fits:
            try:
                _search(ground, family, axes, journal, fits.part(0, len(folds)), request, log, on_progress)
            except BaseException:
                log.end("KILLED")
                raise
            log.end("FINISHED")
            best = _best(journal, family)
            judged = fits.part(len(folds), len(folds) + len(held_out), keep=False)
            compared = None if best.number == IN_FORCE else _compare(ground, family, best, journal, judged)
    better_there = compared is not None and compared.best < compared.in_force
    improved = better_there and compared is not None and compared.p_better <= _CONVINCED
    values = {**ground.params.train.family_params(family.name), **_searched(best, axes)}
    written = request.write and better_there
    if written:
        set_family(ground.settings.home / PARAMS_FILE, family.name, values)
    states = Counter(trial.state for trial in journal.tried)
    last = max(int(fold.test[-1]) for fold in folds)
    return Tuned(
        model=ground.held.model,
        family=family.name,
        metric=request.metric,
        scope=request.scope,
        searched_rows=sum(len(fold.test) for fold in folds),
        searched_until=_times(ground.data, np.array([last]))[0].isoformat(),
        trials=len(journal.tried),
        added=len(journal.tried) - before,
        finished=states["finished"],
        pruned=states["pruned"],
        failed=states["failed"],
        reasons=_reasons(journal),
        trial=best.number,
        best=_searched(best, axes),
        best_loss=float(np.mean(best.losses)),
        in_force_loss=journal.trials[IN_FORCE].loss,
        comparison=compared,
        improved=improved,
        written=written,
        command=run_command(family.name, values),
        counted=_counted(ground, log),
        unlogged=log.fault,
        journal=str(journal.path),
        seconds=monotonic() - begun,
    )


def _identity(ground: _Ground, family: Family, axes: Sequence[Axis], request: Request) -> dict[str, Any]:
    """Everything that shapes the trials of a search, as JSON holds it."""
    params, arrays = ground.params, hashlib.sha256()
    for array in (ground.data.times, ground.data.x, ground.data.y, ground.data.w, ground.data.t1):
        arrays.update(np.ascontiguousarray(array).data)
    spans = {axis.name: axis.where for axis in axes}
    return {
        "model": ground.held.model,
        "family": family.name,
        "data": arrays.hexdigest(),
        "target": ground.data.target.kind,
        "given": family.read_params(params.train.family_params(family.name)).model_dump(mode="json"),
        "space": {
            name: list(where.values) if isinstance(where, Options) else [where.low, where.high, where.log]
            for name, where in spans.items()
        },
        "metric": request.metric,
        "scope": request.scope,
        "splits": params.splits.walk_forward(),
        "seed": params.train.seed,
        "window": params.train.window,
        "backtest": params.backtest.model_dump(mode="json"),
    }


def _search(
    ground: _Ground,
    family: Family,
    axes: tuple[Axis, ...],
    journal: Journal,
    fits: Bench,
    request: Request,
    log: SearchLog,
    on_progress: OnProgress,
) -> None:
    """Trial after trial until there are enough, or the time is up; the journal first, then the registry."""
    given = ground.params.train.family_params(family.name)
    judge, search = Judge(ground.data, request.metric), Search.begin(axes, ground.params.train.seed)
    end = monotonic() + (float("inf") if request.timeout is None else request.timeout)
    if not journal.trials:
        at = in_force(axes, family.read_params(given).model_dump()) or {}
        journal.append(attempt(IN_FORCE, given, at, fits, judge, ground.record))
    for trial in journal.trials:
        search.add(trial)
    log.catch_up()
    _tell(journal, request, on_progress)
    while len(journal.tried) < request.trials and monotonic() < end:
        number = len(journal.tried) + 1
        journal.append(propose_and_attempt(search, number, given, fits, judge, ground.record))
        log.catch_up()
        _tell(journal, request, on_progress)


def _tell(journal: Journal, request: Request, on_progress: OnProgress) -> None:
    best, done = best_of(journal.trials), len(journal.tried)
    loss = None if best is None else best.loss
    on_progress(Progress(journal.search["family"], done, max(done, request.trials), loss, str(journal.path)))


def _best(journal: Journal, family: Family) -> Trial:
    best = best_of(journal.trials)
    if best is not None:
        return best
    failed = [trial.reason for trial in journal.trials if trial.state == "failed"]
    reason, times = Counter(failed).most_common(1)[0]
    raise DataError(
        f"none of {len(journal.tried)} trials of {family.name} could be fitted, nor the parameters in force; "
        f"the commonest reason ({times} times): {reason}"
    )


def _reasons(journal: Journal) -> dict[str, int]:
    """Why trials failed, the commonest first."""
    return dict(Counter(trial.reason for trial in journal.tried if trial.state == "failed").most_common())


def _compare(
    ground: _Ground, family: Family, best: Trial, journal: Journal, fits: Bench
) -> Comparison | None:
    """The best against what is in force, on the blocks held out; None when one of them cannot be fitted."""
    folds, metric, early = fits.folds, journal.search["metric"], journal.search["scope"] == "early"
    rows = np.concatenate([fold.test for fold in folds])
    if len(rows) <= max(ground.params.labels.horizon, 2):
        return None
    given = [ground.params.train.family_params(family.name)] * len(folds)
    chosen = [best.params] * len(folds) if early else nested_choice(journal.trials)
    predicted = [_predictions(fits, params) for params in (given, chosen)]
    if predicted[0] is None or predicted[1] is None:
        return None
    w = ground.data.w[rows] / ground.data.w[rows].mean()
    before, after = (w * scores(ground.data.y[rows], p, metric) for p in predicted if p is not None)
    test = better(before, after, horizon=ground.params.labels.horizon)
    return Comparison(len(rows), len(folds), float(before.mean()), float(after.mean()), test.p_second_better)


def _predictions(fits: Bench, params: Sequence[Mapping[str, Any]]) -> Floats | None:
    blocks = list(fits.tested(params))
    found = [block for block in blocks if not isinstance(block, BellwetherError)]
    if len(found) < len(blocks) or not all(np.isfinite(block).all() for block in found):
        return None
    return np.concatenate(found)


def _searched(trial: Trial, axes: Sequence[Axis]) -> dict[str, Any]:
    return {axis.name: trial.params[axis.name] for axis in axes if axis.name in trial.params}


def _counted(ground: _Ground, log: SearchLog) -> int:
    """Trials that count against the model now; those in var/ alone when the registry cannot be read."""
    sets = list(trials.known(ground.settings.var_dir, ground.held.model))
    if not log.fault:
        try:
            sets += promotion.open_registry(ground.settings).trial_sets(ground.held.model)
        except RegistryError as error:
            log.fault = str(error)
    return gather(sets, 0).count


def run_command(family: str, values: Mapping[str, Any]) -> str:
    """The command that runs with these parameters, for a shell; as YAML, which reads 1e-5 as a word."""
    said = yaml.safe_dump(dict(values), default_flow_style=True, width=10**6).strip()
    return f"bellwether run --set 'train.{family}={said}'"


def _times(data: Dataset, rows: Rows) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(data.times[rows], tz="UTC", name="timestamp")
