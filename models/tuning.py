"""Hyper-parameter search over walk-forward folds: what is tried next, when a trial is given up, on processes.

A trial is one set of parameters, fitted on every fold's training rows and scored on its test rows, fold by
fold in time order. Optuna's TPE sampler proposes, a pruner gives up early; what either does depends on the
seed, the number of the trial and the trials before it alone, so a search that was interrupted and goes on
ends as one that was not, and the number of processes changes nothing.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite, log
from typing import Any, Literal, Self, cast

import numpy as np
import optuna

from core.errors import BellwetherError, ConfigurationError, DataError
from evaluation.splits import Fold, walk_forward
from models.bench import Bench
from models.dataset import Dataset, Floats, Rows
from models.families import Family
from models.families.base import Options, SearchSpace, Span
from models.logits import log_losses
from models.training import MIN_FOLDS

Metric = Literal["log_loss", "brier"]
Scope = Literal["early", "all"]
State = Literal["finished", "pruned", "failed"]

_LEVELS = 100
"""Steps between the ends of a range of real numbers: more would only spell out noise."""
_DIGITS = 3
_EARLY_BLOCKS = 6
_GIVE_UP_P = 0.2
_CLIP = 1e-15

_STATES: dict[State, optuna.trial.TrialState] = {
    "finished": optuna.trial.TrialState.COMPLETE,
    "pruned": optuna.trial.TrialState.PRUNED,
    "failed": optuna.trial.TrialState.FAIL,
}

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Axis:
    """One parameter of the search, on whole positions: its own values, levels of a range, or options."""

    name: str
    where: Span | Options
    whole: bool

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """What Optuna samples positions from."""
        if isinstance(self.where, Options):
            return optuna.distributions.CategoricalDistribution(range(len(self.where.values)))
        if self.whole:
            return optuna.distributions.IntDistribution(
                int(self.where.low), int(self.where.high), log=self.where.log
            )
        return optuna.distributions.IntDistribution(0, _LEVELS if self.where.low < self.where.high else 0)

    def value(self, position: int) -> Any:
        """The parameter at a position; real numbers have three digits, but the ends are as given."""
        if isinstance(self.where, Options):
            return self.where.values[position]
        if self.whole or position in (0, _LEVELS):
            return position if self.whole else float(self.where.high if position else self.where.low)
        low, high, share = self.where.low, self.where.high, position / _LEVELS
        inner = low * (high / low) ** share if self.where.log else low + (high - low) * share
        return min(max(float(f"{inner:.{_DIGITS}g}"), low), high)

    def position(self, value: Any) -> int | None:
        """The position nearest to a value; None outside the range."""
        if isinstance(self.where, Options):
            return self.where.values.index(value) if value in self.where.values else None
        low, high = self.where.low, self.where.high
        if not low <= value <= high:
            return None
        if self.whole or low == high:
            return int(value) if self.whole else 0
        share = log(value / low) / log(high / low) if self.where.log else (value - low) / (high - low)
        return round(share * _LEVELS)


@dataclass(frozen=True)
class Trial:
    """One set of parameters tried. `losses` are those of the folds it reached, in order, weighted means.

    `params` are the family's own, complete with what is not searched; `positions` those on the axes.
    `reason` says why a failed one failed. `record`: Sharpe per period and number of returns of its signal,
    None where it made no predictions.
    """

    number: int
    params: dict[str, Any]
    positions: dict[str, int]
    state: State
    losses: tuple[float, ...]
    seconds: float
    reason: str = ""
    record: tuple[float, int] | None = None

    @property
    def loss(self) -> float | None:
        """Mean over the folds of a trial that reached them all."""
        return float(np.mean(self.losses)) if self.state == "finished" else None


def axes_of(family: Family, given: Mapping[str, Any], changes: SearchSpace) -> tuple[Axis, ...]:
    """The family's own search space with `changes`; `given` are its parameters in force.

    ConfigurationError lists every range that cannot be searched: nothing to tune, an unknown parameter, ends
    the wrong way round, values that the family does not take.
    """
    fields = type(family.read_params(given)).model_fields
    space = {**family.search_space(), **changes}
    if not space:
        raise ConfigurationError(f"{family.name} has nothing to tune: choose another --family")
    faults = [fault for name, where in space.items() for fault in _faults(family, given, name, where)]
    if faults:
        raise ConfigurationError(faults)
    return tuple(
        Axis(name, where, whole=fields[name].annotation is int) for name, where in sorted(space.items())
    )


def _faults(family: Family, given: Mapping[str, Any], name: str, where: Span | Options) -> list[str]:
    fields = type(family.read_params(given)).model_fields
    said = f"search space of {family.name}: {name}"
    if name not in fields:
        return [f"{said} is not a parameter: choose from {', '.join(fields)}"]
    if isinstance(where, Options):
        values = list(where.values)
    else:
        whole = fields[name].annotation is int
        if fields[name].annotation not in (int, float):
            return [f"{said} is not a number and has no range: give options, {name}=a,b"]
        if not (isfinite(where.low) and isfinite(where.high) and where.low <= where.high):
            return [f"{said} {where.low:g}:{where.high:g}: low must not exceed high, both finite"]
        if where.log and where.low <= 0:
            return [f"{said} {where.low:g}:{where.high:g}: a log range must begin above 0"]
        if whole and not (float(where.low).is_integer() and float(where.high).is_integer()):
            return [f"{said} {where.low:g}:{where.high:g}: must be whole numbers"]
        values = [int(end) if whole else float(end) for end in (where.low, where.high)]
    faults = []
    for value in values:
        try:
            family.read_params({**given, name: value})
        except ConfigurationError as error:
            faults += [f"search space: {fault}" for fault in error.faults]
    return faults


def search_folds(data: Dataset, folds: Sequence[Fold], scope: Scope, splits: Mapping[str, Any]) -> list[Fold]:
    """The folds that a search is scored on. `folds`, `splits`: the walk-forward and its arguments.

    "early": the rows before the first block that the evaluation judges, which it leaves to the stack and the
    calibrator, cut into smaller blocks. A row whose label reaches into a judged block is left out. Parameters
    chosen there have seen no judged row, so whatever is measured on the judged ones stays out of sample.
    "all": every fold, the judged ones included: more to go by, and a record that flatters what it chose.
    SplitError (a DataError): too few rows.
    """
    if scope == "all":
        return list(folds)
    if len(folds) < MIN_FOLDS:
        raise DataError(
            f"{len(folds)} folds: the search needs the blocks before the first judged one, which is number "
            f"{MIN_FOLDS}; add history or lower splits.test_rows or splits.train_rows"
        )
    judged = int(folds[MIN_FOLDS - 1].test[0])
    size = ceil((judged - splits["train_rows"]) / _EARLY_BLOCKS)
    early = walk_forward(
        data.times[:judged],
        data.t1[:judged],
        scheme=splits["scheme"],
        train_rows=splits["train_rows"],
        test_rows=size,
        embargo=splits["embargo"],
    )
    kept = [Fold(fold.train, fold.test[data.t1[fold.test] <= data.times[judged]]) for fold in early]
    return [fold for fold in kept if len(fold.test)]


def held_out_folds(folds: Sequence[Fold], scope: Scope) -> list[Fold]:
    """The folds on which the best is set against the parameters in force: those that the evaluation judges.

    After an "early" search neither has seen them. After one over all folds they are the ones it was chosen
    on, and the comparison flatters.
    """
    return list(folds[MIN_FOLDS - 1 :] if scope == "early" else folds)


def scores(y: Floats, probability: Floats, metric: Metric) -> Floats:
    """Loss of every row [n] of class probabilities [n, K]: nats, or half the squared error over classes."""
    if metric == "log_loss":
        return log_losses(y, probability, _CLIP)
    missed = probability.copy()
    missed[np.arange(len(y)), y.astype(np.int64)] -= 1.0
    return np.asarray(0.5 * (missed**2).sum(axis=1))


@dataclass(eq=False)
class Search:
    """Proposes trials from those before, and says when one is given up.

    The pruner is Wilcoxon's signed-rank test of the trial's losses against those of the best one, fold by
    fold: blocks differ more in difficulty than parameters do, and only pairs take that out. (Optuna's median
    rule sets a trial's best value over the folds against the median at the latest, so an easy first block
    shelters every trial.) At this level it needs three folds, all worse.
    """

    axes: tuple[Axis, ...]
    seed: int
    study: optuna.Study

    @classmethod
    def begin(cls, axes: tuple[Axis, ...], seed: int) -> Self:
        """A search without trials, in memory: the journal is the caller's."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            pruner = optuna.pruners.WilcoxonPruner(p_threshold=_GIVE_UP_P)
        return cls(axes, seed, optuna.create_study(direction="minimize", pruner=pruner))

    def add(self, trial: Trial) -> None:
        """Take a trial into account that was made before; one off the axes tells nothing of them."""
        if not trial.positions:
            return
        self.study.add_trial(
            optuna.create_trial(
                state=_STATES[trial.state],
                value=trial.losses[-1] if trial.state == "pruned" else trial.loss,
                params=trial.positions,
                distributions=self._distributions(),
                intermediate_values=dict(enumerate(trial.losses)),
            )
        )

    def ask(self, number: int) -> optuna.Trial:
        """The next trial, a function of the seed, its number and the trials so far."""
        own = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        self.study.sampler = optuna.samplers.TPESampler(seed=own, multivariate=True)
        return self.study.ask(self._distributions())

    def tell(self, asked: optuna.Trial, trial: Trial) -> None:
        """Take into account what became of a trial."""
        self.study.tell(asked, trial.loss, _STATES[trial.state])

    def _distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        return {axis.name: axis.distribution() for axis in self.axes}


@dataclass(frozen=True, eq=False)
class Judge:
    """Scores predictions: mean loss of a fold's test rows under their weights."""

    data: Dataset
    metric: Metric

    def loss(self, rows: Rows, probability: Floats) -> float:
        """Weighted mean over `rows`; DataError for a probability that is not a number."""
        if bad := int((~np.isfinite(probability)).any(axis=1).sum()):
            raise DataError(f"{bad} of {len(rows)} predictions are not finite")
        w = self.data.w[rows]
        if not np.sum(w) > 0.0:
            raise DataError(f"the {len(rows)} test rows weigh nothing")
        return float(np.sum(w * scores(self.data.y[rows], probability, self.metric)) / np.sum(w))


Record = Callable[[Rows, Floats], tuple[float, int] | None]
"""From test rows [n] and their class probabilities [n, K] to Sharpe per period and number of returns."""


def attempt(
    number: int,
    params: Mapping[str, Any],
    positions: Mapping[str, int],
    bench: Bench,
    judge: Judge,
    record: Record,
    hopeless: Callable[[int, float], bool] = lambda _fold, _loss: False,
) -> Trial:
    """Fit and score `params` fold by fold; `hopeless(fold, loss)` gives the trial up after that fold."""
    begun = time.perf_counter()
    losses, predicted, reason = list[float](), list[Floats](), ""
    state: State = "finished"
    for number_of, outcome in enumerate(bench.tested([params] * len(bench.folds))):
        try:
            if isinstance(outcome, BellwetherError):
                raise outcome
            losses.append(judge.loss(bench.folds[number_of].test, outcome))
        except BellwetherError as fault:
            state, reason = "failed", f"fold {number_of + 1}: {fault}"
            break
        predicted.append(outcome)
        if hopeless(number_of, losses[-1]) and number_of + 1 < len(bench.folds):
            state = "pruned"
            break
    earned = None
    if predicted:
        rows = np.concatenate([fold.test for fold in bench.folds[: len(predicted)]])
        earned = record(rows, np.concatenate(predicted))
    seconds = time.perf_counter() - begun
    return Trial(number, dict(params), dict(positions), state, tuple(losses), seconds, reason, earned)


def propose_and_attempt(
    search: Search, number: int, given: Mapping[str, Any], bench: Bench, judge: Judge, record: Record
) -> Trial:
    """The next trial of a search, made and told to it."""
    asked = search.ask(number)
    positions = {axis.name: int(asked.params[axis.name]) for axis in search.axes}
    params = {**given, **{axis.name: axis.value(positions[axis.name]) for axis in search.axes}}

    def hopeless(fold: int, loss: float) -> bool:
        asked.report(loss, fold)
        return asked.should_prune()

    trial = attempt(number, params, positions, bench, judge, record, hopeless)
    search.tell(asked, trial)
    return trial


def in_force(axes: Sequence[Axis], params: Mapping[str, Any]) -> dict[str, int] | None:
    """Positions nearest to the parameters in force; None when one of them lies outside the search."""
    found = {axis.name: axis.position(params[axis.name]) for axis in axes}
    return None if None in found.values() else cast("dict[str, int]", found)


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The finished trial of least mean loss, the first of equals."""
    finished = [trial for trial in trials if trial.state == "finished"]
    return min(finished, key=lambda trial: np.mean(trial.losses), default=None)


def nested_choice(trials: Sequence[Trial]) -> list[Mapping[str, Any]]:
    """For each fold of a search, the parameters that were best on the folds before it, nothing later used.

    The first fold has nothing before it and gets the first trial's. Trials that were given up are left out:
    at the folds they did not reach, nobody knows.
    """
    finished = [trial for trial in trials if trial.state == "finished"]
    before = np.array([np.cumsum((0.0, *trial.losses[:-1])) for trial in finished])
    return [finished[int(np.argmin(column))].params for column in before.T]
