"""Checks that catch a leak: what a model, a feature or a backtest knew before it could.

On every run, cheap: `audit_split` where folds are made (a leaking split is a fault: `require` it), and
`audit_features` where models are judged (a feature too good to be true is evidence for the gate). In tests,
since they build, fit or trade again: `prefix_invariant`, `fit_isolated`, `fills_next_open`. Features that
are expressions have closer probes of their own in `features.probes`.

Every check is a pure function and answers with a Finding; none of them can see a leak smaller than the
noise it must allow for, and each says what it allows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from core.errors import DataError
from evaluation.splits import Fold, Rows, Times

Floats = npt.NDArray[np.float64]
Known = TypeVar("Known")

CREDIBLE_AUC = 0.64
"""Rank AUC of a single normal feature whose sign alone would hit 60 % of balanced outcomes."""
MAX_REPEATED = 0.01
"""Share of test rows that may repeat a training row: a market that stands still does so."""
_FALSE_ALARM = 0.001
_AUC_ROWS = 20_000
_SEED = 17


@dataclass(frozen=True)
class Finding:
    """What a check found; `detail` holds value, rule and, when it failed, the remedy."""

    check: str
    passed: bool
    detail: str


def require(findings: Iterable[Finding]) -> None:
    """DataError with the detail of every finding that failed."""
    failed = [f"{finding.check}: {finding.detail}" for finding in findings if not finding.passed]
    if failed:
        raise DataError("; ".join(failed))


def audit_split(
    folds: Sequence[Fold],
    times: Times,
    t1: Times,
    x: npt.NDArray[Any],
    outcome: npt.NDArray[Any],
    *,
    ordered: bool = True,
) -> list[Finding]:
    """`purged`, `in_order` and `distinct` over all folds: one finding each, that of the first fold to fail.

    ordered: False for cross-validation that trains on both sides of a test block on purpose.
    """
    marks = row_marks(x, outcome)
    checks: list[Callable[[Fold], Finding]] = [
        lambda fold: purged(fold, times, t1),
        lambda fold: distinct(fold, marks),
    ]
    if ordered:
        checks.append(lambda fold: in_order(fold, times))
    return [_first_failed(check, folds) for check in checks]


def _first_failed(check: Callable[[Fold], Finding], folds: Sequence[Fold]) -> Finding:
    for number, fold in enumerate(folds, 1):
        found = check(fold)
        if not found.passed:
            return Finding(found.check, False, f"fold {number}: {found.detail}")
    return Finding(found.check, True, f"{len(folds)} folds: {found.detail}")


def purged(fold: Fold, times: Times, t1: Times) -> Finding:
    """No training label's span [times, t1) overlaps the span of a test row; times, t1 [n] in one unit."""
    starts, ends = np.sort(times[fold.test]), np.sort(t1[fold.test])
    # a span that begins before ours ends overlaps it, unless it has ended before ours begins
    begun = np.searchsorted(starts, t1[fold.train], side="left")
    over = np.searchsorted(ends, times[fold.train], side="right")
    shared = np.flatnonzero(begun > over)
    if not len(shared):
        return Finding("purged", True, "no training label shares a bar with a test label")
    row = fold.train[shared[0]]
    return Finding(
        "purged",
        False,
        f"{len(shared)} of {len(fold.train)} training labels overlap test labels, the first at row {row}: "
        "none may; purge by the label's end, as evaluation.splits.purge does",
    )


def in_order(fold: Fold, times: Times) -> Finding:
    """Every training row is before every test row."""
    begin = times[fold.test].min()
    late = np.flatnonzero(times[fold.train] >= begin)
    if not len(late):
        return Finding("in_order", True, "every training row is before every test row")
    return Finding(
        "in_order",
        False,
        f"{len(late)} of {len(fold.train)} training rows are not before the first test row, the first is row "
        f"{fold.train[late[0]]}: a walk-forward trains on the past alone; do not shuffle, use "
        "evaluation.splits.walk_forward",
    )


def row_marks(x: npt.NDArray[Any], outcome: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """A hash of the bits of each row's features and outcome [n]: FNV-1a over words, shifted so that bits mix.

    x [n, F]; outcome [n]: what followed, best as the label's return, by which rows of coarse features differ.
    """
    marks = np.full(len(x), 0xCBF29CE484222325, dtype=np.uint64)
    for column in (*x.T, outcome):
        marks = (marks ^ column.astype(np.float64).view(np.uint64)) * np.uint64(0x100000001B3)
        marks ^= marks >> np.uint64(29)
    return marks


def distinct(fold: Fold, marks: npt.NDArray[np.uint64], *, allowed: float = MAX_REPEATED) -> Finding:
    """No row is trained on and tested, under its own number or as a copy.

    marks [n]: `row_marks`; rows that agree are copies. allowed: share of test rows that may be copies.
    """
    both = np.intersect1d(fold.train, fold.test)
    if len(both):
        return Finding(
            "distinct",
            False,
            f"{len(both)} rows are in both training and test, the first is row {both[0]}: none may be; "
            "build the folds with evaluation.splits",
        )
    copies = np.flatnonzero(np.isin(marks[fold.test], marks[fold.train]))
    share = len(copies) / len(fold.test)
    said = f"{len(copies)} of {len(fold.test)} test rows repeat a training row ({share:.1%})"
    if share <= allowed:
        return Finding("distinct", True, f"{said} <= {allowed:.1%}")
    row = fold.test[copies[0]]
    return Finding(
        "distinct",
        False,
        f"{said} > {allowed:.1%}, features and outcome alike, the first is row {row}: drop repeated rows "
        "before the folds are made",
    )


def audit_features(
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
    names: Sequence[str],
    *,
    overlap: int,
    credible: float = CREDIBLE_AUC,
) -> Finding:
    """No feature alone ranks the outcomes better than any honest one can.

    x [n, F] and y [n] of judged rows in time order, NaN is missing; y counts classes, of which the first and
    the last are compared. overlap: bars that one label spans. The limit on the rank AUC, either way round,
    is `credible` and on top what chance adds once in a thousand audits: where labels overlap and a feature
    changes slowly, rows repeat each other. Of more than 20,000 rows every k-th is used.
    """
    step = max(1, -(-len(y) // _AUC_ROWS))
    x, y, overlap = x[::step], y[::step], -(-overlap // step)
    sigmas = NormalDist().inv_cdf(1 - _FALSE_ALARM / (2 * max(1, len(names))))
    ranked = [
        (abs(auc - 0.5) - limit, name, auc, limit)
        for name, column in zip(names, np.ascontiguousarray(x.T, dtype=np.float64), strict=True)
        for auc, limit in [_association(column, y, overlap, sigmas, credible)]
    ]
    excess, name, auc, limit = max(ranked)
    said = f"{name} alone ranks {len(y)} outcomes with AUC {auc:.3f}"
    if excess <= 0:
        return Finding("label_in_feature", True, f"{said}, within 0.5 ± {limit:.3f}")
    return Finding(
        "label_in_feature",
        False,
        f"{said}, beyond 0.5 ± {limit:.3f}: too good to be true; look for the outcome in its definition, or "
        "leave it out with features.exclude",
    )


def _association(
    column: Floats, y: npt.NDArray[Any], overlap: int, sigmas: float, credible: float
) -> tuple[float, float]:
    """Rank AUC of a feature for the last class against the first, and how far from a half it may be."""
    there = ~np.isnan(column)
    down = np.sort(column[there & (y == y.min())])
    up = column[there & (y == y.max())]
    if not len(up) or not len(down) or y.min() == y.max():
        return 0.5, 0.5
    below = np.searchsorted(down, up, side="left") + np.searchsorted(down, up, side="right")
    auc = float(below.mean()) / (2 * len(down))
    # variance of the Mann-Whitney statistic without ties (ties make it smaller)
    variance = (len(up) + len(down) + 1) / (12 * len(up) * len(down)) * _repetition(column, there, overlap)
    return auc, min(0.5, credible - 0.5 + sigmas * sqrt(variance))


def _repetition(column: Floats, there: npt.NDArray[np.bool_], overlap: int) -> float:
    """Rows per independent row for a feature against labels of `overlap` bars: 1 to `overlap`.

    The variance of a mean of products of two independent series is multiplied by the sum over all lags of
    the products of their autocorrelations; that of overlapping labels falls to 0 in `overlap` steps.
    """
    from scipy.stats import rankdata

    ranks = np.zeros(len(column))
    ranks[there] = rankdata(column[there]) - (there.sum() + 1) / 2
    power = float(ranks @ ranks)
    if power == 0:
        return 1.0
    lags = range(1, min(overlap, len(ranks)))
    shared = (max(0.0, float(ranks[k:] @ ranks[:-k]) / power) * (1 - k / overlap) for k in lags)
    return 1 + 2 * sum(shared)


def prefix_invariant(
    build: Callable[[Known], npt.NDArray[Any]], known: Callable[[int], Known], cuts: Sequence[int]
) -> Finding:
    """What is built for a bar does not change when later bars become known.

    known(n): everything that was known at the close of bar n - 1, as it stood then: of tables that are
    revised, the revisions published by then; of a universe, the members by then. build(known(n)): [n] or
    [n, F], a row per bar. The last of `cuts` is the whole history; rows are compared bit for bit.
    """
    *earlier, rows = sorted(cuts)
    whole = _bits(build(known(rows)))
    for cut in earlier:
        then = _bits(build(known(cut)))
        if then.shape != (cut, *whole.shape[1:]):
            raise DataError(f"build gave shape {then.shape} for {cut} bars: a row per bar is needed")
        moved = np.argwhere(then != whole[:cut])
        if len(moved):
            row, *column = (int(i) for i in moved[0])
            where = f" in column {column[0]}" if column else ""
            return Finding(
                "prefix_invariant",
                False,
                f"{len(moved)} values up to bar {cut - 1} change once later bars are known, the first at bar "
                f"{row}{where}: a value may use what was known at its bar alone; join on the time of "
                "publication, keep members that left, shift nothing back",
            )
    return Finding("prefix_invariant", True, f"the same values from histories cut at {list(earlier)}")


def _bits(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Float64 bit patterns: equality with NaN."""
    return np.ascontiguousarray(values, dtype=np.float64).view(np.int64)


Predict = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
Fit = Callable[[npt.NDArray[Any], npt.NDArray[Any], Rows], Predict]


def fit_isolated(fit: Fit, x: npt.NDArray[Any], y: npt.NDArray[Any], train: Rows, asked: Rows) -> Finding:
    """What is fitted on the rows `train` depends on no other row.

    fit(x, y, train) fits everything, scalers and encoders included, and returns a predictor of rows of x.
    It is fitted thrice: as given, with the other rows' features drawn anew from the upper half of their
    columns, and with the other rows' labels turned to other classes; the answers for x[asked] must be equal
    bit for bit.
    """
    others = np.setdiff1d(np.arange(len(y)), train)
    if not len(others):
        raise DataError("every row is trained on: leave some out, or there is nothing to be isolated from")
    expected = _bits(fit(x, y, train)(x[asked]))
    for what, seen, taught in (
        ("features", _redrawn(x, others), y),
        ("labels", x, _turned(y, others)),
    ):
        moved = np.count_nonzero(_bits(fit(seen, taught, train)(x[asked])) != expected)
        if moved:
            return Finding(
                "fit_isolated",
                False,
                f"{moved} of {expected.size} answers move with the {what} of rows that are not trained on: "
                f"none may; fit scalers, encoders and selections on the training rows of each fold",
            )
    return Finding("fit_isolated", True, f"{expected.size} answers do not move with {len(others)} other rows")


def _redrawn(x: npt.NDArray[Any], rows: Rows) -> npt.NDArray[Any]:
    """A copy with new values at `rows`, each known in its column, so that categories stay categories."""
    rng, copy = np.random.default_rng(_SEED), x.copy()
    for k in range(x.shape[1]):
        present = np.unique(x[~np.isnan(x[:, k].astype(np.float64)), k])
        if len(present):
            copy[rows, k] = rng.choice(present[len(present) // 2 :], len(rows))
    return copy


def _turned(y: npt.NDArray[Any], rows: Rows) -> npt.NDArray[Any]:
    """A copy in which each of `rows` has the class after its own, the last the first."""
    classes, copy = np.unique(y), y.copy()
    copy[rows] = classes[(np.searchsorted(classes, y[rows]) + 1) % len(classes)]
    return copy


Prices = Mapping[str, Floats]
"""open, high, low, close, each [n]."""
Engine = Callable[[Prices, npt.NDArray[np.int8]], float]


def fills_next_open(engine: Engine, *, rows: int = 24) -> Finding:
    """A round trip is worth what the two opens after its decisions say, and nothing else.

    engine(prices, targets): growth of an account without costs that wants `targets` [n] -1, 0 or 1 at each
    close. It trades round trips on made-up prices; then each price but those of the two fills is moved by
    itself. An engine that fills on the deciding bar, at the next close, or at the better end of a bar, moves.
    """
    rng = np.random.default_rng(_SEED)
    for side in (1, -1):
        for entry, leave in ((3, 4), (2, rows // 2), (rows // 3, rows - 4)):
            prices = _made_up(rng, rows)
            targets = np.zeros(rows, dtype=np.int8)
            targets[entry:leave] = side
            fault = _price_that_counts(engine, prices, targets, {entry + 1, leave + 1})
            bought, sold = prices["open"][entry + 1], prices["open"][leave + 1]
            grown, due = engine(prices, targets), 1 + side * (sold / bought - 1)
            if fault is None and abs(grown - due) > 1e-9:
                fault = f"the account grew by {grown:.6f} where those two opens give {due:.6f}"
            if fault is not None:
                return Finding(
                    "fills_next_open",
                    False,
                    f"side {side} decided at the close of bar {entry} and left at that of {leave}: {fault}; "
                    f"only the opens of bars {entry + 1} and {leave + 1} may count, fill there",
                )
    return Finding("fills_next_open", True, "round trips depend on the two opens after their decisions alone")


def _made_up(rng: np.random.Generator, rows: int) -> dict[str, Floats]:
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, rows)))
    opened = close * np.exp(rng.normal(0, 0.01, rows))
    high = np.maximum(opened, close) * np.exp(rng.uniform(0.001, 0.01, rows))
    low = np.minimum(opened, close) * np.exp(-rng.uniform(0.001, 0.01, rows))
    return {"open": opened, "high": high, "low": low, "close": close}


def _price_that_counts(
    engine: Engine, prices: Prices, targets: npt.NDArray[np.int8], fills: set[int]
) -> str | None:
    """The first price that changes the account without being the open of a fill, in words."""
    expected = engine(prices, targets)
    for row in range(len(targets)):
        for column in ("open", "high", "low", "close"):
            if column == "open" and row in fills:
                continue
            other = {name: values.copy() for name, values in prices.items()}
            # highs go up, lows go down, the others stay between them: every bar stays a bar
            other[column][row] *= {"high": 1.01, "low": 0.99}.get(column, 1.0005)
            if abs(engine(other, targets) - expected) > 1e-9:
                return f"it is worth another amount when the {column} of bar {row} moves"
    return None
