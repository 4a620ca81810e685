"""Out-of-fold predictions in processes, the nested ensemble over them, and the final fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from core.errors import ConfigurationError, DataError
from evaluation.splits import Fold, combinatorial, paths
from models.calibration import Kind as Calibration
from models.columns import FINAL, from_columns, model_names, to_columns
from models.combination import REFERENCE, Known, Method, fit_combination
from models.dataset import Dataset, Features, Floats, Rows
from models.ensemble import Ensemble, Head, Recipe, fit_head
from models.families import Family, get_families
from models.families.base import check_classes
from models.fitting import FINAL_FIT, Progress, Result, StoredModel, Task, run_all
from models.logits import softmax

if TYPE_CHECKING:
    from models.families.base import Fitted

FamilyParameters = Mapping[str, Mapping[str, Any]]

MIN_FOLDS = 3
"""One block for the combination, one for the calibrator, one to be judged on."""


class Options(TypedDict, total=False):
    """The fields of models.ensemble.Recipe, each with its default."""

    method: Method
    half_life: float
    shrinkage: float
    calibration: Calibration


@dataclass(frozen=True)
class OutOfFold:
    """What `out_of_fold` found.

    predictions: `row` (index into the data), `fold` (from 1), and the columns of every family
    (models.columns), a line per test row in fold order. importance: a line per family and feature with
    `permutation`, `permutation_std` and `shap` (models.importance) on the last fold's test rows, which the
    model had not seen; the base rate has none. fitted: the families fitted on every row.
    """

    predictions: pd.DataFrame
    importance: pd.DataFrame
    fitted: dict[str, Fitted]


def out_of_fold(
    data: Dataset,
    folds: Sequence[Fold],
    families: Sequence[str],
    params: FamilyParameters,
    *,
    seed: int,
    window: int,
    processes: int = 1,
    final: bool = True,
    on_progress: Callable[[Progress], None] | None = None,
) -> OutOfFold:
    """Fit every family on every fold's training rows and predict its test rows; with `final`, fit it on every
    row as well, for `fit_final`.

    Each fit has one thread; `processes` fits run at a time over one mapped copy of the data, and the result
    does not depend on how many. `on_progress` is called in this process.
    ConfigurationError: unknown family or parameter. DataError, before anything is fitted, names the fold and
    the rows it lacks; with `final` that includes what the ensemble over the folds will need.
    """
    kinds = get_families(families)
    # The last fold has the most history and lies nearest to what the exported model will see.
    tasks = [
        replace(task, explain=task.fold == len(folds) and task.family.name != REFERENCE)
        for task in _fold_tasks(data, folds, kinds, params, seed, window)
    ]
    if final:
        _blocks(pd.concat(pd.DataFrame({"row": f.test, "fold": k}) for k, f in enumerate(folds, 1)), data)
        everything = np.arange(len(data))
        tasks += [
            Task(FINAL_FIT, kind, everything, everything[:0], seed, window, params.get(kind.name, {}))
            for kind in kinds
        ]
    found = run_all(data, tasks, processes, on_progress)
    blocks = [_block(number, fold, data, families, found) for number, fold in enumerate(folds, 1)]
    fitted = {
        kind.name: cast("Fitted", StoredModel(kind, files))
        for kind in kinds
        if final and (files := found[FINAL_FIT, kind.name].files) is not None
    }
    return OutOfFold(pd.concat(blocks, ignore_index=True), _importance(found), fitted)


def nested_ensemble(oof: pd.DataFrame, data: Dataset, **options: Unpack[Options]) -> pd.DataFrame:
    """Honest out-of-sample predictions of the whole ensemble, from the third block on.

    `oof` are the predictions of `out_of_fold`. Block k is predicted by a combination fitted on the blocks
    before k - 1 and a calibrator fitted on block k - 1, each without the rows whose label ends after the
    next block begins; a blend takes its weights from all of these rows. Returns the lines of `oof` for
    those blocks with further columns: `probability` (models.columns), its `signal` and `confidence`.
    """
    recipe, blocks = Recipe(**options), _blocks(oof, data)
    with threadpool_limits(1):
        return pd.concat(
            [
                _judge(blocks[k], data, _fit_head(data, blocks[:k], blocks[k], recipe))
                for k in range(MIN_FOLDS - 1, len(blocks))
            ],
            ignore_index=True,
        )


def nested_baseline(oof: pd.DataFrame, data: Dataset, **options: Unpack[Options]) -> Floats:
    """Class probabilities [n, K] of an ensemble of the base rate alone, for the lines of `nested_ensemble`.

    Stack and calibrator move with the rate of recent blocks, whatever the features say. A baseline without
    them lags that rate, and an ensemble of models that know nothing beats it.
    """
    base = from_columns(oof, REFERENCE, data.classes)
    alone = oof[["row", "fold"]].assign(**to_columns(REFERENCE, base, data.classes))
    return from_columns(nested_ensemble(alone, data, **options), FINAL, data.classes)


def fit_final(data: Dataset, found: OutOfFold, *, window: int, **options: Unpack[Options]) -> Ensemble:
    """The ensemble that is exported: the base models of every row, the combination of every block of `found`
    but the last (a blend of all), the calibrator and the skill of the last.

    ConfigurationError unless `out_of_fold` ran with `final`.
    """
    oof = found.predictions
    names = model_names(oof)
    if set(found.fitted) != set(names):
        raise ConfigurationError(
            f"final fit: {sorted(found.fitted)} are fitted of {sorted(names)}: "
            "run out_of_fold with final=True"
        )
    with threadpool_limits(1):
        head = _fit_head(data, _blocks(oof, data), None, Recipe(**options))
    return Ensemble(found.fitted, head, data.target, data.names, window)


def combinatorial_paths(
    data: Dataset,
    groups: int,
    test_groups: int,
    embargo: int,
    families: Sequence[str],
    params: FamilyParameters,
    *,
    seed: int,
    window: int,
    processes: int = 1,
    on_progress: Callable[[Progress], None] | None = None,
) -> pd.DataFrame:
    """Every row predicted out of sample as often as combinatorial purged cross-validation has paths.

    Returns a line per path and row, in that order: `path` (from 1), `row`, the columns of every family and
    those of `probability`, the vote of all but the base rate, with its `signal`. For the study of a model:
    most folds are trained on what came after their test rows, so that the paths measure how much luck one
    history holds, and are no claim about trading. Nothing that is fitted to outcomes combines the models,
    since every row is some fold's training row. López de Prado 2018, ch. 12; errors as in `out_of_fold`.
    """
    folds = combinatorial(data.times, data.t1, groups=groups, test_groups=test_groups, embargo=embargo)
    kinds = get_families(families)
    found = run_all(data, _fold_tasks(data, folds, kinds, params, seed, window), processes, on_progress)
    tested = [_block(n, fold, data, families, found) for n, fold in enumerate(folds, 1)]
    rows = np.array_split(np.arange(len(data)), groups)
    histories = [
        pd.concat([tested[fold].query("row in @group") for fold, group in zip(chosen, rows, strict=True)])
        for chosen in paths(groups, test_groups)
    ]
    lines = pd.concat([line.assign(path=n) for n, line in enumerate(histories, 1)], ignore_index=True)
    return _vote(lines, data, families)


def _fold_tasks(
    data: Dataset,
    folds: Sequence[Fold],
    kinds: Sequence[Family],
    params: FamilyParameters,
    seed: int,
    window: int,
) -> list[Task]:
    _check_folds(data, folds, window if any(kind.sequence for kind in kinds) else 1)
    return [
        Task(number, kind, fold.train, fold.test, seed, window, params.get(kind.name, {}))
        for number, fold in enumerate(folds, 1)
        for kind in kinds
    ]


def _importance(found: Mapping[tuple[int, str], Result]) -> pd.DataFrame:
    explained = [
        result.importance.to_frame().assign(family=family)
        for (_, family), result in found.items()
        if result.importance is not None
    ]
    order = ["feature", "family", "permutation", "permutation_std", "shap"]
    return pd.concat(explained, ignore_index=True)[order] if explained else pd.DataFrame(columns=order)


def _block(
    number: int,
    fold: Fold,
    data: Dataset,
    families: Sequence[str],
    found: Mapping[tuple[int, str], Result],
) -> pd.DataFrame:
    columns: dict[str, Any] = {"row": fold.test, "fold": np.full(len(fold.test), number)}
    for name in families:
        columns |= to_columns(name, found[number, name].probability, data.classes)
    return pd.DataFrame(columns)


def _vote(lines: pd.DataFrame, data: Dataset, families: Sequence[str]) -> pd.DataFrame:
    known = _known(lines, data)
    recipe = Recipe()
    vote = fit_combination("vote", families, known, half_life=recipe.half_life, shrinkage=recipe.shrinkage)
    probability = softmax(vote.logit(known.base))
    signal = data.target.signal(probability, data.side(known.rows))
    given = lines[["path", "row", *lines.columns.difference(["path", "row", "fold"], sort=False)]]
    return given.assign(**to_columns(FINAL, probability, data.classes), signal=signal)


def _judge(block: pd.DataFrame, data: Dataset, head: Head) -> pd.DataFrame:
    known = _known(block, data)
    outcome = head.predict(known.base, data.target, data.side(known.rows))
    final = to_columns(FINAL, outcome.classes, data.classes)
    return block.assign(**final, signal=outcome.probability, confidence=outcome.confidence)


def _fit_head(
    data: Dataset, blocks: Sequence[pd.DataFrame], judged: pd.DataFrame | None, recipe: Recipe
) -> Head:
    """What stands on the base models from `blocks`, without labels that reach into what follows."""
    last, earlier = blocks[-1], pd.concat(blocks[:-1])
    below = _known(_before(earlier, data, last), data)
    above = _known(_before(last, data, judged), data)
    known = _known(_before(pd.concat(blocks), data, judged), data)
    return fit_head(model_names(last), below, above, known, recipe)


def _before(block: pd.DataFrame, data: Dataset, following: pd.DataFrame | None) -> pd.DataFrame:
    if following is None:
        return block
    begin = data.times[following["row"].to_numpy()].min()
    kept: pd.DataFrame = block[data.t1[block["row"].to_numpy()] <= begin]
    return kept


def _known(block: pd.DataFrame, data: Dataset) -> Known:
    rows = block["row"].to_numpy(dtype=np.int64)
    base = np.stack([from_columns(block, name, data.classes) for name in model_names(block)], axis=1)
    return Known(rows, base, data.y[rows], data.w[rows], _evidence(data, rows))


def _evidence(data: Dataset, rows: Rows) -> Floats:
    """How many independent rows each row stands for [k]: its weight, at most 1 / bars its label spans."""
    step = max(float(np.median(np.diff(data.times))), 1.0) if len(data) > 1 else 1.0
    beyond = np.maximum(data.t1[rows] - data.times[-1], 0) / step
    span = (
        np.searchsorted(data.times, data.t1[rows]) - rows + np.where(beyond > 0.0, np.ceil(beyond) - 1.0, 0.0)
    )
    return np.asarray(np.minimum(data.w[rows], 1.0 / np.maximum(span, 1.0)), dtype=np.float64)


def _blocks(oof: pd.DataFrame, data: Dataset) -> list[pd.DataFrame]:
    """The lines of each fold; DataError when they are too few, or too short to learn from before the next."""
    blocks = [block for _, block in oof.groupby("fold", sort=True)]
    if len(blocks) < MIN_FOLDS:
        size = max((len(block) for block in blocks), default=0)
        needed = len(data) - len(oof) + MIN_FOLDS * size
        raise DataError(
            f"{len(blocks)} folds: the ensemble needs {MIN_FOLDS} (stack, calibrator, judgement), which is "
            f"about {needed} labelled rows with test blocks of {size}, and there are {len(data)}; "
            "add history or lower splits.test_rows or splits.train_rows"
        )
    for block, following in pairwise(blocks):
        if _before(block, data, following).empty:
            rows = block["row"].to_numpy(dtype=np.int64)
            needed = int((np.searchsorted(data.times, data.t1[rows]) - rows).min())
            raise DataError(
                f"fold {block['fold'].iloc[0]}: {len(rows)} test rows, and 0 after purging for what is "
                f"fitted before the next fold, since labels span {needed} rows: splits.test_rows of at least "
                f"{needed} is needed, or a shorter labels.horizon"
            )
    return blocks


def _check_folds(data: Dataset, folds: Sequence[Fold], window: int) -> None:
    if not folds:
        raise DataError("0 folds: at least 1 is needed; add history or lower the row windows")
    for number, fold in enumerate(folds, 1):
        try:
            check_classes(data, fold.train)
        except DataError as fault:
            raise DataError(f"fold {number}: {fault}") from fault
        if len(fold.train) < window:
            raise DataError(
                f"fold {number}: train.window = {window} is more than its {len(fold.train)} training rows: "
                f"at most {len(fold.train)}, or lengthen the fold"
            )
        if not _varies(data.x[fold.train]):
            raise DataError(
                f"fold {number}: none of {len(data.names)} features takes two values in {len(fold.train)} "
                "training rows, at least one must: lengthen the fold or mend the features"
            )


def _varies(x: Features) -> bool:
    """Whether any column holds two values, missing left out."""
    for column in x.T:
        held = column[~np.isnan(column)]
        if len(held) and held.min() < held.max():
            return True
    return False
