"""Train and test rows in time order, purged by label end and embargoed.

A label made at the close of bar t is known at `t1`; it spans the half-open interval [t, t1). A
training row is purged when its span overlaps the span of any test row, because its label then
contains prices the test is scored on (López de Prado 2018, ch. 7).

Ten daily rows, labels two days long, four rows of training, blocks of three:

>>> times = np.arange(10)
>>> print(describe(walk_forward(times, times + 2, train_rows=4, test_rows=3), times))
fold  train           test
   1  3 rows 0..2     3 rows 4..6
   2  6 rows 0..5     3 rows 7..9

Row 3 is purged from the first fold: its label ends at 5, after the test begins at 4.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import ceil, comb
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from core.errors import DataError

Rows = npt.NDArray[np.int64]
Times = npt.NDArray[Any]
Scheme = Literal["anchored", "rolling"]


class SplitError(DataError):
    """The rows do not suffice for the folds asked; says how many are needed."""


@dataclass(frozen=True, eq=False)
class Fold:
    """Row positions, both sorted: `train` int64 [k], `test` int64 [m]."""

    train: Rows
    test: Rows


def walk_forward(
    times: Times,
    t1: Times,
    *,
    scheme: Scheme = "anchored",
    train_rows: int,
    test_rows: int,
    max_folds: int | None = None,
    embargo: int = 0,
    remainder: Literal["merge", "drop"] = "merge",
) -> list[Fold]:
    """Consecutive test blocks, each preceded by the rows a model may train on.

    times, t1: [n] bar closes and label ends in one unit (int64 ns, or datetime64), `times` increasing.
    scheme: "anchored" trains from row 0 on, "rolling" on the `train_rows` before the block.
    train_rows: rows before the first test block; purging and embargo shorten the training within them.
    test_rows: rows per block and the step from block to block. It grows until there are at most
        `max_folds` blocks, so that more history never means more fits.
    embargo: rows left out just before each block. Nothing is trained after a block here, so the
        embargo is a gap in front of it. It is counted from the block, as the purge by `t1` is: of the two
        the longer decides, and an embargo of `horizon` rows leaves out one row more than purging does.
    remainder: what becomes of a last block shorter than half of the others: "merge" tests it with the
        block before, "drop" leaves it out. One of at least half the size is a block of its own.

    Raises SplitError with the number of rows needed, or when purging leaves a block no training row.
    """
    _check(times, t1)
    _check_sizes(scheme, train_rows, test_rows, max_folds, embargo)
    spare = len(times) - train_rows
    if spare < test_rows:
        raise SplitError(
            f"{len(times)} labelled rows: {train_rows} to train and {test_rows} to test need at least "
            f"{train_rows + test_rows}; add history or lower the row windows"
        )
    size = test_rows if max_folds is None else max(test_rows, ceil(spare / max_folds))
    bounds = [train_rows + bound for bound in _blocks(spare, size, remainder)]
    folds: list[Fold] = []
    for start, stop in pairwise(bounds):
        first = 0 if scheme == "anchored" else start - train_rows
        test = np.arange(start, stop)
        kept = purge(np.arange(first, max(first, start - embargo)), test, times, t1)
        folds.append(_fold(kept, test, len(folds) + 1, start - first, embargo))
    return folds


def purge(train: Rows, test: Rows, times: Times, t1: Times, embargo: int = 0) -> Rows:
    """The training rows whose labels share nothing with the test rows, in the order given.

    train, test: row positions into `times` and `t1`; `test` may be several separate blocks.
    embargo: rows after the last row of each test block that are left out as well.
    """
    keep = np.ones(len(train), dtype=bool)
    for block in _runs(np.sort(test)):
        start, end = times[block[0]], t1[block].max()
        overlaps = (times[train] < end) & (t1[train] > start)
        after = (train > block[-1]) & (train <= block[-1] + embargo)
        keep &= ~(overlaps | after | np.isin(train, block))
    kept: Rows = train[keep]
    return kept


def k_fold(times: Times, t1: Times, *, folds: int, embargo: int = 0) -> list[Fold]:
    """Purged k-fold: every row is tested once, trained on both sides of the block.

    For the study of a model, not for a claim about trading: it trains on the future of the test block.
    """
    return combinatorial(times, t1, groups=folds, test_groups=1, embargo=embargo)


def combinatorial(times: Times, t1: Times, *, groups: int, test_groups: int, embargo: int = 0) -> list[Fold]:
    """Combinatorial purged cross-validation: every choice of `test_groups` of `groups` blocks is a test.

    Folds come in the order of `itertools.combinations`; `paths` joins them to whole histories.
    Source: López de Prado 2018, ch. 12.
    """
    _check(times, t1)
    if not 1 <= test_groups < groups:
        raise SplitError(f"test_groups {test_groups} of groups {groups}: needs 1 <= test_groups < groups")
    if len(times) < groups:
        raise SplitError(f"{len(times)} labelled rows for {groups} groups: needs at least {groups}")
    everything = np.arange(len(times))
    blocks = np.array_split(everything, groups)
    folds: list[Fold] = []
    for chosen in combinations(range(groups), test_groups):
        test = np.concatenate([blocks[group] for group in chosen])
        kept = purge(everything, test, times, t1, embargo)
        folds.append(_fold(kept, test, len(folds) + 1, len(times) - len(test), embargo))
    return folds


def paths(groups: int, test_groups: int) -> Rows:
    """Which fold of `combinatorial` supplies each group of each path: int64 [paths, groups].

    Every path is one out-of-sample history of all groups; (6, 2) gives 5 of them from 15 folds.
    """
    count = comb(groups, test_groups) * test_groups // groups
    table = np.empty((count, groups), dtype=np.int64)
    filled = [0] * groups
    for fold, chosen in enumerate(combinations(range(groups), test_groups)):
        for group in chosen:
            table[filled[group], group] = fold
            filled[group] += 1
    return table


def describe(folds: Sequence[Fold], times: Times, show: Callable[[Any], object] = str) -> str:
    """The folds as a table of row counts with first and last time, `show` writing each time."""

    def span(rows: Rows) -> str:
        return f"{len(rows)} rows {show(times[rows[0]])}..{show(times[rows[-1]])}"

    lines = [
        f"{number:4d}  {span(fold.train):14s}  {span(fold.test)}" for number, fold in enumerate(folds, 1)
    ]
    return "\n".join([f"fold  {'train':14s}  test", *lines])


def _blocks(spare: int, size: int, remainder: str) -> list[int]:
    """Bounds of the test blocks, counted from the first tested row."""
    bounds = [*range(0, spare + 1, size)]
    rest = spare - bounds[-1]
    if 2 * rest >= size:
        bounds.append(spare)
    elif remainder == "merge":
        bounds[-1] = spare
    return bounds


def _fold(train: Rows, test: Rows, number: int, before: int, embargo: int) -> Fold:
    if not len(train):
        raise SplitError(
            f"fold {number}: purging by label end and embargo {embargo} leaves none of {before} training "
            f"rows; it needs more than {max(before, embargo)}, or a shorter label horizon"
        )
    return Fold(train, test)


def _runs(rows: Rows) -> list[Rows]:
    """Split sorted row positions where they are not consecutive."""
    return np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)


def _check(times: Times, t1: Times) -> None:
    if len(times) != len(t1):
        raise SplitError(f"{len(times)} times but {len(t1)} label ends: need one label end per row")
    if not len(times):
        raise SplitError("no labelled rows: needs at least train_rows + test_rows")
    steps = np.flatnonzero(times[1:] <= times[:-1])
    if len(steps):
        raise SplitError(
            f"times must increase: row {steps[0] + 1} is not after the row before; sort the rows"
        )
    early = np.flatnonzero(t1 < times)
    if len(early):
        raise SplitError(f"row {early[0]}: its label ends before it begins; t1 must not precede times")


def _check_sizes(scheme: str, train_rows: int, test_rows: int, max_folds: int | None, embargo: int) -> None:
    if scheme not in ("anchored", "rolling"):
        raise SplitError(f"scheme {scheme!r}: must be 'anchored' or 'rolling'")
    if min(train_rows, test_rows, 1 if max_folds is None else max_folds) < 1 or embargo < 0:
        raise SplitError(
            f"train_rows {train_rows}, test_rows {test_rows}, max_folds {max_folds}, embargo {embargo}: "
            "the first three must be at least 1, the embargo at least 0"
        )
