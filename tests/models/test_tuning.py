"""The search: what it may see, what it proposes, when it gives up, and that nothing but its seed decides."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from core.errors import ConfigurationError, DataError
from evaluation.splits import Fold, walk_forward
from models import tuning
from models.bench import bench
from models.dataset import Dataset, Rows
from models.families import FAMILIES, Family, get_family
from models.families.base import FamilyParams, Options, Span
from models.tuning import (
    Axis,
    Judge,
    Search,
    Trial,
    attempt,
    axes_of,
    best_of,
    in_force,
    nested_choice,
    propose_and_attempt,
    scores,
    search_folds,
)

DAY = 86_400_000_000_000
HORIZON = 5
SPLITS: dict[str, Any] = {"scheme": "anchored", "train_rows": 200, "test_rows": 60, "embargo": 2}
SMALL = {"max_rounds": 15, "min_data_in_leaf": 20}


class Params(FamilyParams):
    """Of a family whose loss is known: it predicts the truth, pulled towards a half by `bias`."""

    bias: float = 0.3
    steps: int = 4
    mode: str = "fine"


class Known:
    """What it fits."""

    def __init__(self, params: Params, y: Any) -> None:
        self._params, self._y = params, y

    def predict(self, x: Any, rows: Rows) -> Any:
        up = np.where(self._y[rows] == 1, 0.9, 0.1)
        p = 0.5 + (up - 0.5) * (1.0 - abs(self._params.bias - 0.2))
        p = np.full(len(rows), np.nan) if self._params.mode == "nan" else p
        return np.column_stack([1 - p, p])


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Family:
    """A family that is best at bias .2 and fails in the second fold when its mode is `bad`."""
    module = ModuleType("known_family")
    fits: list[int] = []

    def fit(data: Dataset, rows: Rows, *, params: Params, **_: Any) -> Known:
        fits.append(len(rows))
        if params.mode == "bad" and len(rows) > 250:
            raise DataError("too few rows of a kind")
        return Known(params, data.y)

    module.Params, module.fit, module.fits = Params, fit, fits  # type: ignore[attr-defined]
    module.SPACE = {"bias": Span(0.0, 1.0)}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "known_family", module)
    family = Family("known", "known_family")
    monkeypatch.setitem(FAMILIES, "known", family)
    return family


@pytest.fixture(scope="module")
def data() -> Dataset:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(620, 5)).astype(np.float32)
    y = (x[:, 0] + 0.5 * x[:, 1] + rng.normal(size=620) > 0).astype(np.float64)
    times = np.arange(620, dtype=np.int64) * DAY
    w = rng.uniform(0.2, 1.0, size=620)
    return Dataset(times, x, y, w, times + HORIZON * DAY, tuple("abcde"))


@pytest.fixture(scope="module")
def folds(data: Dataset) -> list[Fold]:
    return walk_forward(data.times, data.t1, **SPLITS)


def none(_rows: Rows, _probability: Any) -> None:
    return None


def run(
    family: Family,
    data: Dataset,
    folds: list[Fold],
    trials: int,
    *,
    given: Mapping[str, Any],
    processes: int = 1,
    seed: int = 3,
    before: list[Trial] | None = None,
) -> list[Trial]:
    """The trials of a search, those of before first; 0 is the parameters in force."""
    axes = axes_of(family, given, {})
    search, judge, made = Search.begin(axes, seed), Judge(data, "log_loss"), list(before or [])
    with bench(family, data, folds, given, seed=seed, window=8, processes=processes) as fits:
        if not made:
            at = in_force(axes, family.read_params(given).model_dump()) or {}
            made.append(attempt(0, given, at, fits, judge, none))
        for trial in made:
            search.add(trial)
        while len(made) <= trials:
            made.append(propose_and_attempt(search, len(made), given, fits, judge, none))
    return [replace(trial, seconds=0.0) for trial in made]


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        (Axis("a", Span(0.003, 0.05, log=True), False), {0: 0.003, 50: 0.0122, 100: 0.05}),
        (Axis("a", Span(0.2, 1.0), False), {0: 0.2, 25: 0.4, 100: 1.0}),
        (Axis("a", Span(0.12345, 0.12349), False), {0: 0.12345, 50: 0.12345, 100: 0.12349}),
        (Axis("a", Span(2, 16, log=True), True), {2: 2, 7: 7, 16: 16}),
        (Axis("a", Span(0.5, 0.5), False), {0: 0.5}),
        (Axis("a", Options(("none", None, 3)), False), {0: "none", 1: None, 2: 3}),
    ],
)
def test_positions_stand_for_values_of_few_digits_within_the_ends(axis: Axis, values: dict[int, Any]) -> None:
    assert {position: axis.value(position) for position in values} == values
    for position, value in values.items():
        found = axis.position(value)
        assert found is not None
        assert axis.value(found) == value
        axis.distribution()._contains(position)


def test_a_value_outside_the_range_has_no_position() -> None:
    assert Axis("a", Span(0.1, 0.5), False).position(0.6) is None
    assert Axis("a", Options((1, 2)), False).position(3) is None
    assert in_force([Axis("a", Span(0, 1), False)], {"a": 2.0}) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rate": Span(0.1, 0.01)}, "0.1:0.01: low must not exceed high"),
        ({"lambda_l2": Span(1.0, float("inf"))}, "both finite"),
        ({"lambda_l2": Span(0.0, 1.0, log=True)}, "must begin above 0"),
        ({"num_leaves": Span(2, 4.5)}, "must be whole numbers"),
        ({"num_leaves": Span(1, 4)}, r"num_leaves = 1: .*greater than or equal to 2"),
        ({"class_weight": Options(("none", "x"))}, "class_weight = 'x'"),
        ({"class_weight": Span(0, 1)}, "is not a number and has no range"),
        ({"leaves": Span(2, 4)}, "leaves is not a parameter: choose from"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(changes: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        axes_of(get_family("lightgbm"), {}, changes)


def test_all_faults_of_a_space_are_told_together() -> None:
    changes = {"learning_rate": Span(2, 1), "leaves": Span(1, 2), "num_leaves": Span(0, 1)}
    with pytest.raises(ConfigurationError) as told:
        axes_of(get_family("lightgbm"), {}, changes)
    assert len(told.value.faults) == 4  # both ends of num_leaves


def test_a_family_without_a_space_has_nothing_to_tune() -> None:
    with pytest.raises(ConfigurationError, match="base_rate has nothing to tune"):
        axes_of(get_family("base_rate"), {}, {})


def test_an_early_search_sees_no_price_of_a_judged_row(data: Dataset, folds: list[Fold]) -> None:
    early = search_folds(data, folds, "early", SPLITS)
    judged = int(folds[2].test[0])
    assert len(early) == 6
    for fold in early:
        assert (data.t1[np.concatenate([fold.train, fold.test])] <= data.times[judged]).all()
        assert (data.t1[fold.train] <= data.times[fold.test[0]]).all()
    tested = np.concatenate([fold.test for fold in early])
    assert (np.diff(tested) == 1).all()
    assert (tested[0], tested[-1]) == (200, judged - HORIZON)
    held_out = np.concatenate([fold.test for fold in tuning.held_out_folds(folds, "early")])
    assert held_out[0] == judged
    assert not set(held_out) & set(tested)


def test_a_search_over_all_folds_takes_them_all(data: Dataset, folds: list[Fold]) -> None:
    assert search_folds(data, folds, "all", SPLITS) == folds
    with pytest.raises(DataError, match="2 folds: the search needs the blocks before the first judged one"):
        search_folds(data, folds[:2], "early", SPLITS)


def test_scores_are_those_of_the_textbook() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), size=200)
    y = rng.integers(0, 3, size=200).astype(float)
    w = rng.uniform(size=200)
    own = float(np.average(scores(y, p, "log_loss"), weights=w))
    assert own == pytest.approx(log_loss(y, p, sample_weight=w), rel=1e-12)
    two, binary = p[:, :2] / p[:, :2].sum(axis=1, keepdims=True), (y > 0).astype(float)
    expected = brier_score_loss(binary, two[:, 1])
    assert scores(binary, two, "brier").mean() == pytest.approx(expected, rel=1e-12)


def test_losses_are_weighted_and_what_a_plain_fit_gives(data: Dataset, folds: list[Fold]) -> None:
    """Fits on shared bins score what fits without them do, whatever was fitted in between."""
    lightgbm = get_family("lightgbm")
    early = search_folds(data, folds, "early", SPLITS)
    trials = run(lightgbm, data, early, 4, given=SMALL)
    for trial in (trials[0], trials[1]):
        for fold, loss in zip(early, trial.losses, strict=False):
            fitted = lightgbm.fit(data, fold.train, seed=3, window=8, params=trial.params)
            p = fitted.predict(data.x, fold.test)
            expected = log_loss(data.y[fold.test], p, sample_weight=data.w[fold.test], labels=[0, 1])
            assert loss == pytest.approx(expected, rel=1e-12)


def test_neither_processes_nor_an_interruption_change_a_search(data: Dataset, folds: list[Fold]) -> None:
    lightgbm = get_family("lightgbm")
    early = search_folds(data, folds, "early", SPLITS)
    whole = run(lightgbm, data, early, 14, given=SMALL)
    assert {trial.state for trial in whole} == {"finished", "pruned"}
    assert run(lightgbm, data, early, 14, given=SMALL, processes=2) == whole
    for stop in (1, 5, 12):
        assert run(lightgbm, data, early, 14, given=SMALL, before=whole[:stop]) == whole
    assert run(lightgbm, data, early, 4, given=SMALL, seed=4)[1:] != whole[1:5]


def test_the_search_finds_the_optimum_and_gives_up_what_is_worse(
    known: Family, data: Dataset, folds: list[Fold]
) -> None:
    trials = run(known, data, folds, 40, given={})
    best = best_of(trials)
    assert best is not None
    assert best.params["bias"] == pytest.approx(0.2, abs=0.02)
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert len(pruned) >= 20
    assert all(3 <= len(trial.losses) < len(folds) for trial in pruned)  # two folds cannot say enough
    assert all(abs(trial.params["bias"] - 0.2) > abs(best.params["bias"] - 0.2) for trial in pruned)


def test_a_trial_given_up_fits_no_further_fold(known: Family, data: Dataset, folds: list[Fold]) -> None:
    fits = sys.modules["known_family"].fits
    with bench(known, data, folds, {}, seed=1, window=8, processes=1) as bench_:
        trial = attempt(1, {}, {}, bench_, Judge(data, "log_loss"), none, lambda fold, _loss: fold == 1)
    assert (trial.state, len(trial.losses), len(fits)) == ("pruned", 2, 2)
    assert trial.loss is None


@pytest.mark.parametrize(
    ("mode", "kept", "reason"),
    [("bad", 1, "fold 2: too few rows of a kind"), ("nan", 0, "fold 1: 60 of 60 predictions are not finite")],
)
def test_a_failed_trial_keeps_its_reason_and_the_search_goes_on(
    known: Family, data: Dataset, folds: list[Fold], mode: str, kept: int, reason: str
) -> None:
    judge = Judge(data, "log_loss")
    search = Search.begin(axes_of(known, {"mode": mode}, {}), 1)
    with bench(known, data, folds, {}, seed=1, window=8, processes=1) as fits:
        failed = propose_and_attempt(search, 1, {"mode": mode}, fits, judge, none)
        fine = propose_and_attempt(search, 2, {}, fits, judge, none)
    assert (failed.state, len(failed.losses), failed.reason, failed.loss) == ("failed", kept, reason, None)
    assert fine.state == "finished"
    assert best_of([failed, fine]) == fine
    assert best_of([failed]) is None


def test_rows_that_weigh_nothing_cannot_be_scored(data: Dataset) -> None:
    rows = np.arange(10)
    weightless = replace(data, w=np.where(np.arange(len(data)) < 10, 0.0, data.w))
    with pytest.raises(DataError, match="the 10 test rows weigh nothing"):
        Judge(weightless, "brier").loss(rows, np.full((10, 2), 0.5))


def test_the_record_of_a_trial_is_of_the_rows_it_predicted(
    known: Family, data: Dataset, folds: list[Fold]
) -> None:
    seen: list[tuple[int, int]] = []

    def record(rows: Rows, probability: Any) -> tuple[float, int]:
        seen.append((len(rows), len(probability)))
        return 0.1, len(rows)

    with bench(known, data, folds, {}, seed=1, window=8, processes=1) as fits:
        trial = attempt(1, {"mode": "bad"}, {}, fits, Judge(data, "log_loss"), record)
    assert seen == [(60, 60)]
    assert trial.record == (0.1, 60)


def test_nested_choice_uses_earlier_folds_only() -> None:
    def trial(name: str, losses: tuple[float, ...], state: Any = "finished") -> Trial:
        return Trial(0, {"name": name}, {}, state, losses, 0.0)

    trials = [
        trial("first", (0.5, 0.5, 0.5, 0.5)),
        trial("begins well", (0.4, 0.9, 0.5, 0.0)),
        trial("ends well", (0.6, 0.3, 0.1, 0.9)),
        trial("given up", (0.0, 0.0), "pruned"),
    ]
    chosen = [params["name"] for params in nested_choice(trials)]
    assert chosen == ["first", "begins well", "ends well", "ends well"]


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "base_rate"])
def test_every_family_can_be_tuned_from_its_defaults(name: str) -> None:
    """Its own space is one it accepts, and holds the parameters that it has by default."""
    family = get_family(name)
    axes = axes_of(family, {}, {})
    at = in_force(axes, family.read_params({}).model_dump())
    assert at is not None
    for axis in axes:
        family.read_params({axis.name: axis.value(at[axis.name])})
