"""Every family is tested by being listed in the catalogue."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import ArtifactError, ConfigurationError, DataError
from core.files import directory_hashes
from models.dataset import Dataset
from models.families import FAMILIES, get_families
from models.families.base import Fitted, Scaler, class_balance, inner_split
from models.families.lstm import Params as LstmParams
from models.families.lstm import _count_epochs

ROWS = np.arange(800)
TEST = np.arange(800, 1200)
WINDOW = 8

every_family = pytest.mark.parametrize("name", list(FAMILIES))
skilled_family = pytest.mark.parametrize("name", [name for name in FAMILIES if name != "base_rate"])


def fit(name: str, data: Dataset, rows: np.ndarray = ROWS, **params: Any) -> Fitted:
    return FAMILIES[name].fit(data, rows, seed=3, window=WINDOW, params=params)


def auc(y: np.ndarray, p: np.ndarray) -> float:
    up, down = p[y > 0.5], p[y < 0.5]
    return float((up[:, None] > down).mean() + 0.5 * (up[:, None] == down).mean())


@pytest.fixture(scope="module")
def fitted(export_data: Dataset) -> dict[str, Fitted]:
    return {name: fit(name, export_data) for name in FAMILIES}


@every_family
def test_predicts_one_probability_per_row(name: str, fitted: dict[str, Fitted], export_data: Dataset) -> None:
    p = fitted[name].predict(export_data.x, TEST)
    assert p.shape == TEST.shape
    assert p.dtype == np.float64
    assert ((p > 0.0) & (p < 1.0)).all()
    assert len(fitted[name].predict(export_data.x, TEST[:0])) == 0


@every_family
def test_prediction_of_a_row_depends_on_nothing_after_it(
    name: str, fitted: dict[str, Fitted], export_data: Dataset
) -> None:
    poisoned = export_data.x.copy()
    poisoned[901:] = 1e6
    alone = fitted[name].predict(poisoned[:901], np.array([900]))
    together = fitted[name].predict(export_data.x, TEST)[[100]]
    np.testing.assert_allclose(alone, together, rtol=1e-6)
    np.testing.assert_array_equal(
        fitted[name].predict(poisoned, TEST[:101]), fitted[name].predict(poisoned, TEST[:101])
    )


@every_family
def test_nothing_outside_the_training_rows_is_read(
    name: str, fitted: dict[str, Fitted], export_data: Dataset
) -> None:
    x, y = export_data.x.copy(), export_data.y.copy()
    x[800:], y[800:] = 7.0, 1.0
    elsewhere = fit(name, replace(export_data, x=x, y=y))
    np.testing.assert_array_equal(
        elsewhere.predict(export_data.x, TEST), fitted[name].predict(export_data.x, TEST)
    )


@every_family
def test_the_same_fit_writes_the_same_bytes_and_leaves_its_input_alone(
    name: str, fitted: dict[str, Fitted], export_data: Dataset, tmp_path: Path
) -> None:
    before = export_data.x.copy()
    for place, model in (("one", fitted[name]), ("two", fit(name, export_data))):
        (tmp_path / place).mkdir()
        model.save(tmp_path / place)
    assert directory_hashes(tmp_path / "one") == directory_hashes(tmp_path / "two")
    np.testing.assert_array_equal(export_data.x, before)


@every_family
def test_saved_and_loaded_predicts_bit_for_bit(
    name: str, fitted: dict[str, Fitted], export_data: Dataset, tmp_path: Path
) -> None:
    fitted[name].save(tmp_path)
    loaded = FAMILIES[name].load(tmp_path)
    np.testing.assert_array_equal(
        loaded.predict(export_data.x, TEST), fitted[name].predict(export_data.x, TEST)
    )


@every_family
def test_a_missing_or_cut_file_is_an_artifact_error(
    name: str, fitted: dict[str, Fitted], tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="model"):
        FAMILIES[name].load(tmp_path)
    fitted[name].save(tmp_path)
    (file,) = (path for path in tmp_path.iterdir() if path.suffix != ".sha256")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ArtifactError):
        FAMILIES[name].load(tmp_path)


@every_family
def test_weights_matter(name: str, fitted: dict[str, Fitted], export_data: Dataset) -> None:
    tilted = replace(export_data, w=np.where(export_data.y > 0.5, 3.0, 1.0))
    more = fit(name, tilted).predict(export_data.x, TEST).mean()
    assert more > fitted[name].predict(export_data.x, TEST).mean() + 0.1


@skilled_family
def test_planted_signal_is_found(name: str, fitted: dict[str, Fitted], export_data: Dataset) -> None:
    assert auc(export_data.y[TEST], fitted[name].predict(export_data.x, TEST)) > 0.6


@every_family
def test_balanced_classes_keep_the_true_rate(name: str, export_data: Dataset) -> None:
    rare = replace(export_data, y=export_data.y * (np.arange(1200) % 3 == 0))
    p = fit(name, rare, class_weight="balanced").predict(export_data.x, ROWS)
    assert p.mean() == pytest.approx(rare.y[ROWS].mean(), abs=0.05)


@every_family
def test_noise_scores_near_the_base_rate(name: str, export_data: Dataset) -> None:
    rng = np.random.default_rng(11)
    noise = replace(export_data, y=(rng.random(1200) < 0.55).astype(float))
    p, y = fit(name, noise).predict(noise.x, TEST), noise.y[TEST]
    rate = noise.y[ROWS].mean()
    loss, reference = (-np.mean(np.log(np.where(y > 0.5, q, 1 - q))) for q in (p, np.full(len(y), rate)))
    assert loss < reference + 0.01


@every_family
def test_constant_and_empty_features_are_harmless(name: str, export_data: Dataset) -> None:
    x = export_data.x.copy()
    x[:, 4], x[:, 5] = 3.3, np.nan
    model = fit(name, replace(export_data, x=x))
    assert np.isfinite(model.predict(x, TEST)).all()
    importance = model.importance()
    assert importance is None or (importance[[4, 5]] == 0.0).all()


@every_family
def test_importance_is_one_value_per_feature(
    name: str, fitted: dict[str, Fitted], export_data: Dataset
) -> None:
    importance = fitted[name].importance()
    if importance is not None:
        assert importance.shape == (10,)
        assert importance.argmax() == 0


@every_family
def test_one_class_is_refused(name: str, export_data: Dataset) -> None:
    with pytest.raises(DataError, match="one class only"):
        fit(name, replace(export_data, y=np.ones(1200)))


@every_family
def test_all_faults_of_the_parameters_are_reported_together(name: str, export_data: Dataset) -> None:
    with pytest.raises(ConfigurationError) as caught:
        fit(name, export_data, learnrate=0.1, class_weight="even")
    assert len(caught.value.faults) == 2
    assert f"train.{name}.learnrate" in str(caught.value)


@every_family
def test_every_parameter_is_described(name: str) -> None:
    fields = type(FAMILIES[name].read_params({})).model_fields
    assert all(field.description for field in fields.values())


def test_an_unknown_family_lists_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="'xgb' is unknown: choose from base_rate, logistic"):
        get_families(["lstm", "xgb"])


def test_inner_block_is_purged_by_label_end(export_data: Dataset) -> None:
    day = export_data.times[1]
    long = replace(export_data, t1=export_data.times + 20 * day)
    fitting, tail = inner_split(long, ROWS, 0.25)
    assert tail.tolist() == list(range(600, 800))
    assert fitting.tolist() == list(range(581))
    assert long.t1[fitting].max() <= long.times[tail[0]]


def test_too_few_rows_for_the_inner_block_name_the_number(export_data: Dataset) -> None:
    with pytest.raises(DataError, match=r"too few rows: 50 training rows leave 10 early-stopping rows.*20"):
        inner_split(export_data, np.arange(50), 0.2)


def test_scaler_leaves_out_missing_and_does_not_magnify_rounding() -> None:
    x = np.array([[1.0, np.nan, 0.1], [3.0, np.nan, 0.1], [np.nan, np.nan, 0.1]], dtype=np.float32)
    scaled = Scaler.fit(x).transform(x)
    np.testing.assert_allclose(scaled, [[-1, 0, 0], [1, 0, 0], [0, 0, 0]], atol=1e-12)


def test_balance_gives_both_classes_half_the_weight() -> None:
    y, w = np.array([1.0, 1.0, 1.0, 0.0]), np.array([1.0, 2.0, 1.0, 1.0])
    balanced, offset = class_balance(y, w, "balanced")
    assert balanced[:3].sum() == pytest.approx(balanced[3]) == pytest.approx(2.5)
    assert offset == pytest.approx(np.log(0.8 / 0.2))


def test_lstm_on_noise_may_choose_no_epoch_at_all(export_data: Dataset) -> None:
    rng = np.random.default_rng(1)
    noise = replace(export_data, y=(rng.random(1200) < 0.5).astype(float))
    counts = [
        _count_epochs(noise, ROWS[:600], ROWS[600:], seed, WINDOW, LstmParams(patience=1))
        for seed in range(4)
    ]
    assert min(counts) == 0


def test_stored_catboost_carries_no_time_stamp(fitted: dict[str, Fitted], tmp_path: Path) -> None:
    fitted["catboost"].save(tmp_path)
    assert "model_info" not in json.loads((tmp_path / "model.json").read_text())
