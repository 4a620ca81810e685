"""Ten leaks planted for real, each beside its honest twin: what finds them, and what they would have scored.

All share one random walk, on which nothing honest scores, but for the universe of survivorship.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.honesty import worlds
from benchmarks.honesty.worlds import Floats
from evaluation import leaks
from evaluation.classification import log_loss
from evaluation.leaks import Finding
from evaluation.performance import sharpe
from evaluation.splits import Fold, Rows, walk_forward
from features import build
from features.probes import future
from features.selection import select
from models.dataset import Dataset
from models.families import get_family
from models.labels import make_labels
from trading.backtest import PositionRule, run_signal
from trading.costs import Costs

SEED, BARS, HORIZON = 11, 2000, 20
FEATURES = ("return_1", "return_20", "sma_ratio_20", "sma_ratio_50", "rsi_14", "from_high_20", "realised_20")
LOG_LOSS, SHARPE = "log-loss", "Sharpe"
_FOREST = {"max_depth": 14, "min_samples_leaf": 3, "prior_rows": 3.0, "max_features": 0.5}
_LINEAR = {"l2": 30.0}


@dataclass(frozen=True)
class Trial:
    """One side of a leak, planted or honest: what the check says, and the score it reaches."""

    finding: Finding
    score: float


@dataclass(frozen=True)
class Leak:
    """A kind of leak. `check` names what must find it; `try_it(planted)` plants it or its honest twin."""

    name: str
    planted: str
    check: str
    measure: str
    try_it: Callable[[bool], Trial]


def examine(leak: Leak) -> dict[str, Any]:
    """Plant it, and do it right: one line of the table, for JSON."""
    planted, honest = leak.try_it(True), leak.try_it(False)
    return {
        "leak": leak.name,
        "planted": leak.planted,
        "check": leak.check,
        "measure": leak.measure,
        "caught": not planted.finding.passed,
        "clean_passes": honest.finding.passed,
        "with_leak": planted.score,
        "without": honest.score,
        "found": asdict(planted.finding),
    }


@dataclass(frozen=True)
class Scene:
    """Bars of a random walk, its training matrix, label returns and purged folds."""

    bars: pd.DataFrame
    data: Dataset
    ret: Floats
    folds: tuple[Fold, ...]


@cache
def scene() -> Scene:
    """The set-up that is clean until a leak is planted into it."""
    rng = np.random.default_rng(SEED)
    table = worlds.bars(rng, worlds.random_walk(rng, BARS)).set_index("date")
    table.index = pd.DatetimeIndex(table.index, tz="UTC", name="timestamp") + pd.Timedelta(days=1)
    built = _core(table).dropna()
    labels = make_labels(table, horizon=HORIZON)
    labels = labels[labels.index >= built.index[0]]
    data = Dataset.from_frames(built, labels)
    folds = walk_forward(data.times, data.t1, train_rows=800, test_rows=225)
    return Scene(table, data, labels["ret"].to_numpy(), tuple(folds))


def _core(bars: pd.DataFrame) -> pd.DataFrame:
    chosen = select("core", {}, ())
    return build(bars, {name: chosen[name] for name in FEATURES})


def _scored(data: Dataset, folds: Sequence[Fold], family: str, params: dict[str, Any]) -> float:
    """Log-loss of one family over all test rows."""
    kind, told = get_family(family), []
    for fold in folds:
        fitted = kind.fit(data, fold.train, seed=SEED, window=1, params=params)
        told.append(fitted.predict(data.x, fold.test)[:, 1])
    rows = np.concatenate([fold.test for fold in folds])
    return log_loss(data.y[rows], np.concatenate(told))


def _with_feature(column: Floats) -> Dataset:
    """The scene's matrix and one more feature [n]."""
    data = scene().data
    x = np.column_stack([data.x, column.astype(np.float32)])
    return replace(data, x=x, names=(*data.names, "planted"))


def future_bar(planted: bool) -> Trial:
    """The one-bar return, indexed one bar early."""
    bars = scene().bars

    def made(frame: pd.DataFrame) -> pd.DataFrame:
        built = _core(frame)
        return built.assign(planted=built["return_1"].shift(-1) if planted else built["return_1"].shift(1))

    built = made(bars)
    findings = future(made, bars, built)
    said = "; ".join(f"{one.feature}: {one.detail}" for one in findings) or "no feature moves"
    column = built["planted"].reindex(pd.DatetimeIndex(scene().data.times, tz="UTC")).to_numpy()
    score = _scored(_with_feature(column), scene().folds, "logistic", _LINEAR)
    return Trial(Finding("future", not findings, said), score)


def label_in_feature(planted: bool) -> Trial:
    """The label's own return under as much noise again."""
    noise = np.random.default_rng(SEED).normal(size=len(scene().ret)) * scene().ret.std()
    data = _with_feature(noise + scene().ret * planted)
    rows = np.concatenate([fold.test for fold in scene().folds])
    found = leaks.audit_features(data.x[rows], data.y[rows], data.names, overlap=HORIZON)
    return Trial(found, _scored(data, scene().folds, "logistic", _LINEAR))


def no_purge(planted: bool) -> Trial:
    """Short test blocks directly behind training rows whose labels reach into them."""
    data = scene().data
    ends = data.times + 1 if planted else data.t1
    folds = walk_forward(data.times, ends, scheme="rolling", train_rows=250, test_rows=HORIZON)
    return _split_trial(data, folds, "purged", trees=15)


def shuffled(planted: bool) -> Trial:
    """Five folds of rows drawn at random."""
    data = scene().data
    order = np.random.default_rng(SEED).permutation(len(data))
    parts = [np.sort(part) for part in np.array_split(order, 5)]
    everything = np.arange(len(data))
    folds = [Fold(np.setdiff1d(everything, part), part) for part in parts]
    return _split_trial(data, folds if planted else scene().folds, "in_order")


def repeated_rows(planted: bool) -> Trial:
    """Every third test row fed again among the rows that are trained on."""
    clean, fold = scene().data, scene().folds[0]
    source = fold.test[::3]
    target = np.random.default_rng(SEED).choice(fold.train, len(source), replace=False)
    x, y, ret = clean.x.copy(), clean.y.copy(), scene().ret.copy()
    if planted:
        x[target], y[target], ret[target] = x[source], y[source], ret[source]
    return _split_trial(replace(clean, x=x, y=y), [fold], "distinct", ret)


def _split_trial(
    data: Dataset, folds: Sequence[Fold], check: str, ret: Floats | None = None, trees: int = 40
) -> Trial:
    outcome = scene().ret if ret is None else ret
    found = leaks.audit_split(folds, data.times, data.t1, data.x, outcome)
    named = next(one for one in found if one.check == check)
    return Trial(named, _scored(data, folds, "random_forest", {**_FOREST, "n_estimators": trees}))


def scaler(planted: bool) -> Trial:
    """Standardised by mean and deviation of all rows, then a ridge logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    def fit(x: npt.NDArray[Any], y: npt.NDArray[Any], train: Rows) -> leaks.Predict:
        scale = StandardScaler().fit(x if planted else x[train])
        model = LogisticRegression(C=0.01).fit(scale.transform(x[train]), y[train])
        return lambda asked: np.asarray(model.predict_proba(scale.transform(asked))[:, 1])

    level = np.log(scene().bars["close"]).reindex(pd.DatetimeIndex(scene().data.times, tz="UTC"))
    return _fit_trial(fit, _with_feature(level.to_numpy()).x.astype(np.float64))


def target_encoding(planted: bool) -> Trial:
    """The calendar month of a bar, encoded by the share of "up" among all its rows."""
    from sklearn.linear_model import LogisticRegression

    def fit(x: npt.NDArray[Any], y: npt.NDArray[Any], train: Rows) -> leaks.Predict:
        rows = np.arange(len(y)) if planted else train
        rates = pd.Series(y[rows]).groupby(x[rows, 0]).mean()

        def encode(asked: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.asarray(rates.reindex(asked[:, 0]).fillna(y[train].mean()))[:, None]

        model = LogisticRegression(C=1.0).fit(encode(x[train]), y[train])
        return lambda asked: np.asarray(model.predict_proba(encode(asked))[:, 1])

    times = pd.DatetimeIndex(scene().data.times)
    return _fit_trial(fit, (times.year * 12 + times.month).to_numpy(dtype=np.float64)[:, None])


def _fit_trial(fit: leaks.Fit, x: Floats) -> Trial:
    y, folds = scene().data.y, scene().folds
    found = leaks.fit_isolated(fit, x, y, folds[0].train, folds[0].test)
    told = [fit(x, y, fold.train)(x[fold.test]) for fold in folds]
    rows = np.concatenate([fold.test for fold in folds])
    return Trial(found, log_loss(y[rows], np.concatenate(told)))


def survivorship(planted: bool) -> Trial:
    """Sixty symbols without drift, delisted once they lost half; held are those that never left."""
    rng, symbols = np.random.default_rng(SEED), 60
    returns = 0.025 * rng.standard_normal((BARS, symbols))
    wealth = np.exp(np.cumsum(returns - 0.025**2 / 2, axis=0))
    listed = np.minimum.accumulate(wealth, axis=0) > 0.5
    prices = np.where(listed, wealth, np.nan)

    def members(history: Floats) -> Floats:
        there = ~np.isnan(history)
        chosen = there & there[-1] if planted else there
        return np.asarray(chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1))

    found = leaks.prefix_invariant(members, lambda n: prices[:n], (BARS // 3, BARS // 2, BARS))
    # a member of a bar earns the next one, in which it may be delisted
    earned = (members(prices)[:-1] * np.expm1(np.diff(np.log(wealth), axis=0))).sum(axis=1)
    return Trial(found, sharpe(earned, worlds.PERIODS))


def as_of(planted: bool) -> Trial:
    """A monthly figure about the bars after its month, published 20 bars late, joined on the month's end."""
    close, every, late = scene().bars["close"].to_numpy(), 21, 20
    ends = np.arange(every, BARS - late, every)
    after = close[ends + late] / close[ends] - 1
    values = after + np.random.default_rng(SEED).normal(size=len(ends)) * after.std()

    def join(published: tuple[int, Floats]) -> Floats:
        rows, figures = published
        since = ends[: len(figures)] + (0 if planted else late)
        newest = np.searchsorted(since, np.arange(rows), side="right") - 1
        return np.asarray(np.where(newest >= 0, np.append(figures, np.nan)[newest], np.nan))

    def known(rows: int) -> tuple[int, Floats]:
        return rows, values[: np.searchsorted(ends + late, rows - 1, side="right")]

    found = leaks.prefix_invariant(join, known, (BARS // 3, BARS // 2, BARS))
    first = scene().bars.index.get_indexer(pd.DatetimeIndex(scene().data.times[:1], tz="UTC"))[0]
    column = join(known(BARS))[first : first + len(scene().data)]
    return Trial(found, _scored(_with_feature(column), scene().folds, "logistic", _LINEAR))


def next_bar_fill(planted: bool) -> Trial:
    """The position decided at a close, filled at the open of the bar that decided it."""

    def returns(prices: leaks.Prices, targets: npt.NDArray[np.int8]) -> Floats:
        n = len(targets)
        if planted:
            opens = np.append(prices["open"], prices["close"][-1])
            return np.asarray(targets * (opens[1:] / opens[:-1] - 1))
        index = pd.date_range("2020-01-01", periods=n, tz="UTC", name="timestamp")
        bars = pd.DataFrame({**prices, "volume": np.ones(n)}, index=index)
        signal = pd.Series(0.5 + 0.4 * targets, index)
        run = run_signal(bars, signal, PositionRule(allow_short=True), Costs(0.0, 0.0))
        return np.asarray(run.returns)

    def engine(prices: leaks.Prices, targets: npt.NDArray[np.int8]) -> float:
        return float(np.prod(1 + returns(prices, targets)))

    bars = {name: scene().bars[name].to_numpy() for name in ("open", "high", "low", "close")}
    # follows the bar that has just closed
    followed = np.sign(bars["close"] - bars["open"]).astype(np.int8)
    return Trial(leaks.fills_next_open(engine), sharpe(returns(bars, followed), worlds.PERIODS))


def _in_leaks(check: str) -> str:
    return f"evaluation.leaks.{check}"


LEAKS: tuple[Leak, ...] = (
    Leak(
        "future bar in a feature",
        "the one-bar return, one bar early",
        "features.probes.future",
        LOG_LOSS,
        future_bar,
    ),
    Leak(
        "label in a feature",
        "the label's return under as much noise again",
        _in_leaks("audit_features"),
        LOG_LOSS,
        label_in_feature,
    ),
    Leak(
        "overlapping label without purge",
        "blocks of 20 rows tested right behind 250 that are trained on, labels of 20 bars",
        _in_leaks("purged"),
        LOG_LOSS,
        no_purge,
    ),
    Leak(
        "scaler fitted on all data",
        "mean and deviation of all rows, before a ridge logistic regression",
        _in_leaks("fit_isolated"),
        LOG_LOSS,
        scaler,
    ),
    Leak(
        "target-encoded category",
        "the calendar month, encoded by the labels of all its rows",
        _in_leaks("fit_isolated"),
        LOG_LOSS,
        target_encoding,
    ),
    Leak(
        "shuffled split",
        "five folds of rows drawn at random",
        _in_leaks("in_order"),
        LOG_LOSS,
        shuffled,
    ),
    Leak(
        "survivorship flag",
        "of sixty symbols only those held that are listed at the end",
        _in_leaks("prefix_invariant"),
        SHARPE,
        survivorship,
    ),
    Leak(
        "as-of error",
        "a monthly figure joined on its month, not on its publication 20 bars later",
        _in_leaks("prefix_invariant"),
        LOG_LOSS,
        as_of,
    ),
    Leak(
        "duplicated rows across folds",
        "every third test row again among the training rows",
        _in_leaks("distinct"),
        LOG_LOSS,
        repeated_rows,
    ),
    Leak(
        "next-bar fill",
        "filled at the open of the bar that decided, which so is earned",
        _in_leaks("fills_next_open"),
        SHARPE,
        next_bar_fill,
    ),
)
