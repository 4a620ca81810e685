"""Importance: planted features are found, unused ones are exactly 0, windows stay whole."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import DataError
from models.dataset import Dataset, Features, Floats, Rows
from models.families import FAMILIES
from models.families.base import Fitted
from models.importance import Importance, explain
from models.logits import sigmoid
from models.targets import Target

DAY = 86_400_000_000_000
TEST = np.arange(900, 1152)
WITH_SHAP = ["logistic", "lightgbm", "catboost", "xgboost"]


def dataset(x: Features, y: Floats, target: Target | None = None) -> Dataset:
    times = np.arange(len(x), dtype=np.int64) * DAY
    names = tuple(f"f{k}" for k in range(x.shape[1]))
    return Dataset(times, x, y, np.ones(len(x)), times + DAY, names, target or Target())


def planted(rows: int = 1200, width: int = 12, lag: int = 0, classes: int = 2) -> Dataset:
    """Feature 4, `lag` bars back, decides most of the outcome; feature 9 never changes."""
    rng = np.random.default_rng(12)
    x = rng.normal(size=(rows, width)).astype(np.float32)
    x[rng.random((rows, width)) < 0.02] = np.nan
    x[:, 9] = 3.0
    cause = np.roll(np.nan_to_num(x[:, 4].astype(np.float64)), lag)
    score = cause + rng.normal(0, 0.6, rows)
    edges = [0.0] if classes == 2 else [-0.5, 0.5]
    target = Target("direction" if classes == 2 else "barrier")
    return dataset(x, np.digitize(score, edges).astype(np.float64), target)


def value(seen: Features, feature: int, back: int = 0) -> Floats:
    """A feature `back` bars before the last of each window, missing as 0 [k]."""
    return np.nan_to_num(seen[:, -1 - back, feature].astype(np.float64))


@dataclass(frozen=True)
class Rule:
    """A model by hand: log-odds of up from the window of each row [k, T, F]."""

    score: Callable[[Features], Floats]
    window: int = 1
    weights: Floats | None = None
    asked: list[Floats] = field(default_factory=list)

    def predict(self, x: Features, rows: Rows) -> Floats:
        seen = np.stack([x[row - self.window + 1 : row + 1] for row in rows])
        up = sigmoid(self.score(seen))
        self.asked.append(up)
        return np.column_stack([1.0 - up, up])

    def importance(self) -> Floats | None:
        return self.weights

    def contributions(self, x: Features, rows: Rows) -> Floats | None:
        return None

    def save(self, directory: Path) -> None: ...


def ranking(found: Importance) -> list[str]:
    return list(found.to_frame()["feature"])


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", [*WITH_SHAP, "random_forest"])
def test_a_planted_feature_is_first_by_either_measure(name: str, classes: int) -> None:
    data = planted(classes=classes)
    fitted = FAMILIES[name].fit(data, np.arange(900), seed=1, window=8, params={})
    found = explain(fitted, data, TEST, seed=5)
    assert ranking(found)[0] == "f4"
    assert found.permutation[4] > max(0.005, 3 * np.delete(found.permutation, 4).max())
    assert (found.permutation[9], found.permutation_std[9]) == (0.0, 0.0)
    if name in WITH_SHAP:
        assert found.shap is not None
        assert (int(np.argmax(found.shap)), found.shap[9]) == (4, 0.0)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", WITH_SHAP)
def test_shap_values_and_a_constant_make_up_the_log_odds(name: str, classes: int) -> None:
    data = planted(classes=classes)
    fitted = FAMILIES[name].fit(data, np.arange(900), seed=1, window=8, params={})
    p, values = fitted.predict(data.x, TEST), fitted.contributions(data.x, TEST)
    assert values is not None
    base = np.log(p[:, -1] / p[:, 0]) - values.sum(axis=1)
    assert np.ptp(values.sum(axis=1)) > 0.05
    np.testing.assert_allclose(base, base.mean(), rtol=0, atol=2e-6)


def test_a_sequence_model_finds_the_feature_of_an_earlier_bar() -> None:
    data = planted(lag=3)
    settings = {"max_epochs": 8, "weight_decay": 0.01, "learning_rate": 0.01}
    fitted = FAMILIES["lstm"].fit(data, np.arange(900), seed=1, window=6, params=settings)
    found = explain(fitted, data, TEST, seed=5)
    assert ranking(found)[0] == "f4"
    assert found.permutation[4] > 5 * np.delete(found.permutation, 4).max()
    assert found.shap is None
    assert found.to_frame()["shap"].isna().all()


def test_a_model_of_one_earlier_bar_uses_its_feature_alone() -> None:
    data = planted(lag=3)
    found = explain(Rule(lambda seen: 2.0 * value(seen, 4, back=3), window=6), data, TEST, seed=5)
    assert found.permutation[4] > 0.1
    assert np.delete(found.permutation, 4).tolist() == [0.0] * 11
    assert np.delete(found.permutation_std, 4).tolist() == [0.0] * 11


def test_windows_are_exchanged_whole() -> None:
    """A rule of neighbouring values gives the same answers in another order, as nothing is cut apart."""
    data = planted()
    rule = Rule(lambda seen: value(seen, 2) * value(seen, 2, back=1) + value(seen, 2, back=4), window=5)
    explain(rule, data, TEST, seed=5, repeats=2)
    plain, *_, permuted = rule.asked
    plain = np.sort(plain)
    blocks = permuted.reshape(-1, len(TEST))
    assert len(blocks) == 12 * 2
    assert not np.array_equal(blocks[4], blocks[5])
    for block in blocks:
        np.testing.assert_array_equal(np.sort(block), plain)


def test_the_increase_is_that_of_all_pairings_of_rows() -> None:
    """Over many repeats it tends to the loss of every row's outcome with every row's value."""
    data = planted()
    rule = Rule(lambda seen: 1.5 * value(seen, 4))
    up = sigmoid(1.5 * np.nan_to_num(data.x[TEST, 4].astype(np.float64)))
    y = data.y[TEST]
    plain = -np.mean(np.log(np.where(y > 0.5, up, 1.0 - up)))
    pairs = -np.mean([np.log(up if outcome > 0.5 else 1.0 - up).mean() for outcome in y])
    found = explain(rule, data, TEST, seed=5, repeats=200)
    assert found.log_loss == pytest.approx(plain, rel=1e-12)
    assert abs(found.permutation[4] - (pairs - plain)) < 4 * found.permutation_std[4] / np.sqrt(200)
    assert found.permutation_std[4] > 0.0


def test_rows_that_weigh_nothing_do_not_count() -> None:
    data = planted()
    light = TEST[::2]
    w = data.w.copy()
    w[light] = 0.0
    x, y = data.x.copy(), data.y.copy()
    x[light], y[light] = 9.0, 0.0
    rule = Rule(lambda seen: value(seen, 4))
    found = explain(rule, replace(data, x=x, y=y, w=w), TEST, seed=5)
    assert found.rows == 126
    alone = explain(rule, data, TEST[1::2], seed=5)
    assert found.permutation.tolist() == alone.permutation.tolist()


def test_weights_weigh_the_loss() -> None:
    data = planted()
    doubled = np.repeat(TEST[:100], 2)
    wide = dataset(data.x[doubled], data.y[doubled])
    w = np.where(np.arange(len(data)) < 1000, 2.0, 1.0)
    rule = Rule(lambda seen: value(seen, 4))
    assert explain(rule, wide, np.arange(200), seed=1).log_loss == pytest.approx(
        explain(rule, replace(data, w=w), TEST[:100], seed=1).log_loss
    )


def test_an_importance_of_zero_that_is_not_true_is_not_believed() -> None:
    data, score = planted(), lambda seen: value(seen, 4)
    liar = explain(Rule(score, weights=np.zeros(12)), data, TEST, seed=5)
    assert liar.permutation.tolist() == explain(Rule(score), data, TEST, seed=5).permutation.tolist()
    assert liar.permutation[4] > 0.0


def test_features_without_importance_are_not_tried_one_by_one() -> None:
    data, weights = planted(), np.eye(12)[4]
    rule = Rule(lambda seen: value(seen, 4), weights=weights)
    found = explain(rule, data, TEST, seed=5, repeats=3)
    assert sum(map(len, rule.asked)) == len(TEST) * (1 + 1 + 3)
    assert (
        found.permutation.tolist()
        == explain(replace(rule, weights=None), data, TEST, seed=5).permutation.tolist()
    )


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data, rule = planted(), Rule(lambda seen: value(seen, 4) + value(seen, 5, back=2), window=3)
    whole = explain(rule, data, TEST, seed=5)
    monkeypatch.setattr("models.importance._BATCH_BYTES", 1)
    assert explain(rule, data, TEST, seed=5).permutation.tobytes() == whole.permutation.tobytes()


def test_equal_arguments_give_equal_numbers_and_leave_the_data_alone() -> None:
    data = planted()
    before = data.x.copy()
    fitted = FAMILIES["lightgbm"].fit(data, np.arange(900), seed=1, window=8, params={})
    first, again, other = (explain(fitted, data, TEST, seed=seed) for seed in (5, 5, 6))
    assert first.permutation.tobytes() == again.permutation.tobytes()
    assert first.permutation.tobytes() != other.permutation.tobytes()
    np.testing.assert_array_equal(data.x, before)


def test_the_first_rows_have_shorter_windows() -> None:
    data = planted(lag=3)
    found = explain(Rule(lambda seen: value(seen, 4, back=3), window=6), data, np.arange(0, 300), seed=5)
    assert found.permutation[4] > 0.05


def test_one_row_cannot_be_permuted() -> None:
    rule = Rule(lambda seen: np.zeros(len(seen)))
    with pytest.raises(DataError, match="1 rows weigh anything, permuting needs 2"):
        explain(rule, planted(), TEST[:1], seed=5)


def test_89_features_of_300_trees_take_well_under_two_seconds() -> None:
    data = planted(width=89)
    fitted: Fitted = FAMILIES["lightgbm"].fit(
        data, np.arange(900), seed=1, window=8, params={"patience": 300, "learning_rate": 0.001}
    )
    begun = time.process_time()
    explain(fitted, data, TEST, seed=5)
    assert time.process_time() - begun < 1.5
