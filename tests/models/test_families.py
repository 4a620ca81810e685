"""Every family is tested by being listed in the catalogue, with two classes and with three."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from core.errors import ArtifactError, ConfigurationError, DataError
from core.files import directory_hashes
from models.dataset import Dataset, windows
from models.families import FAMILIES, get_families
from models.families.base import Fitted, Options, Scaler, class_balance, inner_split
from models.graph import DOUBLE, FLOAT, Graph
from models.link_graph import link
from models.onnx_export import _WRITERS, _last_row
from models.targets import Target

ROOT = Path(__file__).resolve().parents[2]
ROWS = np.arange(800)
TEST = np.arange(800, 1200)
WINDOW = 8
QUICK: dict[str, dict[str, Any]] = {
    "lightgbm": {"max_rounds": 150},
    "catboost": {"max_rounds": 150},
    "xgboost": {"max_rounds": 150},
    "random_forest": {"n_estimators": 60},
} | {name: {"max_epochs": 5, "learning_rate": 0.01} for name, family in FAMILIES.items() if family.sequence}

every_family = pytest.mark.parametrize("name", list(FAMILIES))
skilled_family = pytest.mark.parametrize("name", [name for name in FAMILIES if name != "base_rate"])
tabular_family = pytest.mark.parametrize("name", [name for name, f in FAMILIES.items() if not f.sequence])
every_target = pytest.mark.parametrize("data", [2, 3], indirect=True, ids=["two", "three"])


def fit(name: str, data: Dataset, rows: np.ndarray = ROWS, **params: Any) -> Fitted:
    return FAMILIES[name].fit(data, rows, seed=3, window=WINDOW, params=QUICK.get(name, {}) | params)


def auc(up: np.ndarray, down: np.ndarray) -> float:
    return float((up[:, None] > down).mean() + 0.5 * (up[:, None] == down).mean())


def rates(data: Dataset, rows: np.ndarray) -> np.ndarray:
    return np.bincount(data.y[rows].astype(int), minlength=len(data.classes)) / len(rows)


def log_loss(data: Dataset, rows: np.ndarray, p: np.ndarray) -> float:
    return float(-np.mean(np.log(p[np.arange(len(rows)), data.y[rows].astype(int)])))


def against_first(p: np.ndarray) -> np.ndarray:
    """Log-odds of the last class against the first."""
    return np.log(p[:, -1] / p[:, 0])


@pytest.fixture(scope="module")
def data(request: pytest.FixtureRequest, export_data: Dataset) -> Dataset:
    if request.param == 2:
        return export_data
    x = export_data.x.astype(float)
    drive = x[:, 0] + x[:, 1] * x[:, 2] + np.random.default_rng(8).normal(size=len(x))
    y = np.digitize(drive, [-0.8, 0.5]).astype(float)
    return replace(export_data, y=y, target=Target("barrier"))


@pytest.fixture(scope="module")
def fitted() -> Callable[[str, Dataset], Fitted]:
    """fitted(name, data): the fit on `ROWS`, made once."""
    made: dict[tuple[str, int], Fitted] = {}

    def look_up(name: str, data: Dataset) -> Fitted:
        key = name, len(data.classes)
        if key not in made:
            made[key] = fit(name, data)
        return made[key]

    return look_up


Look = Callable[[str, Dataset], Fitted]


@every_target
@every_family
def test_predicts_the_probability_of_every_class(name: str, fitted: Look, data: Dataset) -> None:
    p = fitted(name, data).predict(data.x, TEST)
    assert p.shape == (len(TEST), len(data.classes))
    assert p.dtype == np.float64
    assert ((p > 0.0) & (p < 1.0)).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=0, atol=1e-12)
    assert fitted(name, data).predict(data.x, TEST[:0]).shape == (0, len(data.classes))


@every_target
@every_family
def test_prediction_of_a_row_depends_on_nothing_after_it(name: str, fitted: Look, data: Dataset) -> None:
    poisoned = data.x.copy()
    poisoned[901:] = 1e6
    alone = fitted(name, data).predict(poisoned[:901], np.array([900]))
    together = fitted(name, data).predict(data.x, TEST)[[100]]
    np.testing.assert_allclose(alone, together, rtol=1e-6)
    np.testing.assert_array_equal(
        fitted(name, data).predict(poisoned, TEST[:101]), fitted(name, data).predict(data.x, TEST[:101])
    )


@every_target
@every_family
def test_equal_rows_give_equal_bytes_whatever_lies_outside_them(
    name: str, fitted: Look, data: Dataset, tmp_path: Path
) -> None:
    """Twice the same fit; neither early stopping nor scaling has seen a test row; the input is left alone."""
    x, y = data.x.copy(), data.y.copy()
    x[800:], y[800:] = 7.0, 1.0
    given = x.copy()
    for place, model in (("one", fitted(name, data)), ("two", fit(name, replace(data, x=x, y=y)))):
        (tmp_path / place).mkdir()
        model.save(tmp_path / place)
    assert directory_hashes(tmp_path / "one") == directory_hashes(tmp_path / "two")
    np.testing.assert_array_equal(x, given)


@every_target
@every_family
def test_saved_and_loaded_predicts_bit_for_bit(
    name: str, fitted: Look, data: Dataset, tmp_path: Path
) -> None:
    model = fitted(name, data)
    model.save(tmp_path)
    loaded = FAMILIES[name].load(tmp_path)
    np.testing.assert_array_equal(loaded.predict(data.x, TEST), model.predict(data.x, TEST))
    again = tmp_path / "again"
    again.mkdir()
    loaded.save(again)
    assert directory_hashes(again).items() <= directory_hashes(tmp_path).items()


@every_family
def test_a_missing_or_cut_file_is_an_artifact_error(
    name: str, fitted: Look, export_data: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="model"):
        FAMILIES[name].load(tmp_path)
    fitted(name, export_data).save(tmp_path)
    (file,) = (path for path in tmp_path.iterdir() if path.suffix != ".sha256")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ArtifactError):
        FAMILIES[name].load(tmp_path)


@every_target
@every_family
def test_weights_matter(name: str, fitted: Look, data: Dataset) -> None:
    tilted = replace(data, w=np.where(data.y == data.y.max(), 3.0, 1.0))
    more = fit(name, tilted).predict(data.x, TEST)[:, -1].mean()
    assert more > fitted(name, data).predict(data.x, TEST)[:, -1].mean() + 0.1


@every_target
@every_family
def test_a_row_of_weight_zero_is_absent(name: str, fitted: Look, data: Dataset) -> None:
    y = np.where(np.arange(1200) < 800, data.y, 0.0)
    weightless = replace(data, y=y, w=(np.arange(1200) < 800).astype(float))
    more = fit(name, weightless, np.arange(1000))
    np.testing.assert_array_equal(more.predict(data.x, TEST), fitted(name, data).predict(data.x, TEST))


@every_target
@pytest.mark.parametrize(
    ("name", "params", "tolerance"),
    [
        ("base_rate", {}, 1e-15),
        ("logistic", {}, 1e-10),
        ("lightgbm", {"bagging_fraction": 1.0, "min_data_in_leaf": 1}, 1e-9),
        ("catboost", {"subsample": 1.0, "random_strength": 0.0}, 1e-9),
        ("xgboost", {"subsample": 1.0}, 1e-5),
        ("random_forest", {"min_samples_leaf": 1}, 1e-9),
    ],
)
def test_a_row_of_weight_two_is_two_rows(
    name: str, params: dict[str, Any], tolerance: float, data: Dataset
) -> None:
    """With few values and none missing: what draws borders and sends missing values counts rows."""
    coarse = replace(data, x=np.clip(np.round(np.nan_to_num(data.x)), -2.0, 2.0))
    twice = fit(name, coarse, np.repeat(ROWS, 2), **params)
    heavy = fit(name, replace(coarse, w=np.full(1200, 2.0)), **params)
    np.testing.assert_allclose(
        twice.predict(coarse.x, TEST), heavy.predict(coarse.x, TEST), rtol=0, atol=tolerance
    )


@every_target
@skilled_family
def test_planted_signal_is_found(name: str, fitted: Look, data: Dataset) -> None:
    p, y = against_first(fitted(name, data).predict(data.x, TEST)), data.y[TEST]
    assert auc(p[y == y.max()], p[y == 0.0]) > 0.6


@every_target
@every_family
def test_balanced_classes_keep_the_true_rates(name: str, data: Dataset) -> None:
    rare = replace(data, y=np.where(np.arange(1200) % 3 == 0, data.y, np.minimum(data.y, data.y.max() - 1)))
    p = fit(name, rare, class_weight="balanced").predict(rare.x, ROWS)
    np.testing.assert_allclose(p.mean(axis=0), rates(rare, ROWS), rtol=0, atol=0.05)


@every_target
@every_family
def test_noise_scores_near_the_base_rates(name: str, data: Dataset) -> None:
    rng = np.random.default_rng(11)
    chances = [0.45, 0.55] if len(data.classes) == 2 else [0.3, 0.25, 0.45]
    noise = replace(data, y=rng.choice(len(chances), size=1200, p=chances).astype(float))
    model = FAMILIES[name].fit(noise, ROWS, seed=3, window=WINDOW, params={})
    p = model.predict(noise.x, TEST)
    reference = np.tile(rates(noise, ROWS), (len(TEST), 1))
    assert log_loss(noise, TEST, p) < log_loss(noise, TEST, reference) + 0.01


@every_target
@every_family
def test_constant_and_empty_features_and_empty_rows_are_harmless(name: str, data: Dataset) -> None:
    x = data.x.copy()
    x[::40] = np.nan
    x[:, 4], x[:, 5] = 3.3, np.nan
    model = fit(name, replace(data, x=x))
    p = model.predict(x, TEST)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-12)
    importance = model.importance()
    assert importance is None or (importance[[4, 5]] == 0.0).all()


@every_target
@every_family
def test_importance_is_one_value_per_feature(name: str, fitted: Look, data: Dataset) -> None:
    importance = fitted(name, data).importance()
    if importance is not None:
        assert importance.shape == (10,)
        assert (importance >= 0.0).all()
        assert importance.argmax() == 0


@every_target
@every_family
def test_contributions_add_up_to_the_log_odds(name: str, fitted: Look, data: Dataset) -> None:
    model = fitted(name, data)
    values = model.contributions(data.x, TEST)
    if values is None:
        return
    assert values.shape == (len(TEST), 10)
    rest = against_first(model.predict(data.x, TEST)) - values.sum(axis=1)
    # XGBoost finds them in float32.
    assert np.ptp(rest) < (1e-5 if name == "xgboost" else 1e-9)
    assert np.abs(values).mean(axis=0).argmax() == 0
    empty = model.contributions(data.x, TEST[:0])
    assert empty is not None
    assert empty.shape == (0, 10)


@every_target
@every_family
def test_the_graph_says_what_the_model_says(name: str, fitted: Look, data: Dataset) -> None:
    model, x = fitted(name, data), data.x.copy()
    x[np.random.default_rng(2).random(x.shape) < 0.1] = np.nan
    graph = Graph(name)
    window = graph.input("features", FLOAT, ["N", WINDOW, 10])
    last = _last_row(graph, window)
    said = _WRITERS[name](graph, model, window if FAMILIES[name].sequence else last)
    bases = link(graph, [said], len(data.classes), last)
    graph.output(bases.probabilities.each(graph, 1), "p", DOUBLE, ["N", len(data.classes) - 1])
    session = onnxruntime.InferenceSession(graph.to_bytes(), providers=["CPUExecutionProvider"])
    (p,) = session.run(None, {"features": windows(x, TEST, WINDOW)})
    np.testing.assert_allclose(p, model.predict(x, TEST)[:, 1:], rtol=0, atol=1e-6)


@every_target
@every_family
def test_one_class_is_refused(name: str, data: Dataset) -> None:
    with pytest.raises(DataError, match="one class only"):
        fit(name, replace(data, y=np.ones(1200)))
    with pytest.raises(DataError, match="one class only"):
        fit(name, replace(data, w=np.zeros(1200)))


@every_family
def test_a_class_without_rows_is_refused(name: str, export_data: Dataset) -> None:
    with pytest.raises(DataError, match=r"too few classes .*up 0\)"):
        fit(name, replace(export_data, target=Target("barrier")))


@pytest.mark.parametrize(
    "name", [name for name, family in FAMILIES.items() if hasattr(family.read_params({}), "inner_share")]
)
def test_too_few_rows_name_the_number_needed(name: str, export_data: Dataset) -> None:
    with pytest.raises(DataError, match=r"too few rows: 50 training rows leave 10 early-stopping rows.*20"):
        fit(name, export_data, ROWS[:50])


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


@every_family
def test_all_that_tuning_may_try_is_a_parameter(name: str) -> None:
    defaults = FAMILIES[name].read_params({})
    for parameter, place in FAMILIES[name].search_space().items():
        default = getattr(defaults, parameter)
        kind = type(default)
        values = place.values if isinstance(place, Options) else [kind(place.low), kind(place.high)]
        for value in values:
            FAMILIES[name].read_params({parameter: value})
        assert default in values if isinstance(place, Options) else place.low <= default <= place.high


@every_target
@pytest.mark.parametrize(
    ("name", "params", "other"),
    [
        ("lightgbm", {"min_data_in_leaf": 20, "num_leaves": 8}, {"max_bin": 15}),
        ("catboost", {"depth": 4, "l2_leaf_reg": 1.0}, {"border_count": 15}),
        ("xgboost", {"max_depth": 4, "reg_lambda": 1.0}, {"max_bin": 15}),
    ],
)
def test_fits_that_share_their_bins_are_the_same_fits(
    name: str, params: dict[str, Any], other: dict[str, Any], data: Dataset, tmp_path: Path
) -> None:
    """Also for parameters, or rows, that need other bins than those prepared."""
    few = {"max_rounds": 40}
    prepared = FAMILIES[name].prepare(data, ROWS, few)
    assert prepared is not None
    trials = [
        (params, ROWS),
        (other, ROWS),
        ({"class_weight": "balanced"}, ROWS),
        ({}, ROWS[:700]),
        ({}, ROWS),
    ]
    for number, (own, rows) in enumerate(trials):
        shared, alone = (
            FAMILIES[name].fit(data, rows, seed=3, window=WINDOW, params=few | own, prepared=given)
            for given in (prepared, None)
        )
        for place, model in (("shared", shared), ("alone", alone)):
            (tmp_path / f"{place}{number}").mkdir()
            model.save(tmp_path / f"{place}{number}")
        kept = directory_hashes(tmp_path / f"shared{number}")
        assert kept == directory_hashes(tmp_path / f"alone{number}")


@pytest.mark.parametrize("value", [1.5, np.nan])
@every_family
def test_features_that_say_nothing_give_the_base_rates_or_a_data_error(
    name: str, value: float, export_data: Dataset
) -> None:
    silent = replace(export_data, x=np.full_like(export_data.x, value))
    if name == "catboost":
        with pytest.raises(DataError, match="every feature is constant over 640 training rows"):
            fit(name, silent)
        return
    p = fit(name, silent).predict(silent.x, TEST)
    assert np.ptp(p[:, 1]) < 1e-9
    np.testing.assert_allclose(p[0], rates(silent, ROWS), atol=0.06)


@every_target
@pytest.mark.parametrize("l2", [10.0, 3000.0])
def test_logistic_is_scikit_learns_ridge(l2: float, data: Dataset) -> None:
    weighted = replace(data, w=np.random.default_rng(4).uniform(0.1, 1.0, 1200))
    model, classes = fit("logistic", weighted, l2=l2), len(data.classes)
    scaled = Scaler.fit(data.x[ROWS]).transform(data.x)
    # Its ridge on several classes is on one coefficient for each; of two, on their difference.
    ridge = l2 if classes == 2 else 4.0 / classes * l2
    oracle = LogisticRegression(C=1.0 / ridge, solver="newton-cholesky", tol=1e-12, max_iter=200)
    oracle.fit(scaled[ROWS], data.y[ROWS], sample_weight=weighted.w[ROWS])
    np.testing.assert_allclose(
        model.predict(data.x, TEST), oracle.predict_proba(scaled[TEST]), rtol=0, atol=1e-8
    )


def test_logistic_does_not_depend_on_the_kernels_of_blas() -> None:
    """OpenBLAS multiplies in another order on another processor."""
    code = """
import numpy as np
from models.dataset import Dataset
from models.families import logistic
rng = np.random.default_rng(0)
x, times = rng.normal(size=(500, 40)).astype(np.float32), np.arange(500)
data = Dataset(times, x, (x[:, 0] + rng.normal(size=500) > 0) * 1.0, np.ones(500), times + 1, ("f",) * 40)
model = logistic.fit(data, times, seed=0, window=1, params=logistic.Params(l2=20.0))
print((model.coef.tobytes() + model.predict(x, times).tobytes()).hex())
"""
    made = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "OPENBLAS_CORETYPE": core, "OPENBLAS_NUM_THREADS": "1"},
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        for core in ("Haswell", "Prescott")
    }
    assert len(made) == 1


@every_target
def test_forest_without_a_prior_is_scikit_learns(data: Dataset) -> None:
    """Own traversal, own leaves: the same as the library's, missing values included."""
    shared = {"n_estimators": 40, "max_depth": 8, "min_samples_leaf": 5, "max_features": "sqrt"}
    model = fit("random_forest", data, **shared, max_samples=0.7, prior_rows=1e-9)
    oracle = RandomForestClassifier(**shared, max_samples=560, random_state=3)
    oracle.fit(data.x[ROWS], data.y[ROWS], sample_weight=np.ones(800))
    x = data.x.copy()
    x[np.random.default_rng(2).random(x.shape) < 0.2] = np.nan
    np.testing.assert_allclose(model.predict(x, TEST), oracle.predict_proba(x[TEST]), rtol=0, atol=1e-9)


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


def test_scaler_leaves_out_missing_and_does_not_magnify_rounding() -> None:
    x = np.array([[1.0, np.nan, 0.1], [3.0, np.nan, 0.1], [np.nan, np.nan, 0.1]], dtype=np.float32)
    scaled = Scaler.fit(x).transform(x)
    np.testing.assert_allclose(scaled, [[-1, 0, 0], [1, 0, 0], [0, 0, 0]], atol=1e-12)


def test_balance_gives_both_classes_half_the_weight() -> None:
    y, w = np.array([1.0, 1.0, 1.0, 0.0]), np.array([1.0, 2.0, 1.0, 1.0])
    balanced, offsets = class_balance(y, w, "balanced", 2)
    assert balanced[:3].sum() == pytest.approx(balanced[3]) == pytest.approx(2.5)
    np.testing.assert_allclose(offsets, [0.0, np.log(0.8 / 0.2)])


def test_balance_of_three_classes_gives_each_a_third() -> None:
    y, w = np.array([0.0, 1.0, 1.0, 2.0, 2.0, 2.0]), np.array([1.0, 1.0, 2.0, 1.0, 1.0, 4.0])
    balanced, offsets = class_balance(y, w, "balanced", 3)
    np.testing.assert_allclose(np.bincount(y.astype(int), balanced), 10.0 / 3.0)
    np.testing.assert_allclose(offsets, np.log([1.0, 3.0, 6.0]))


def test_stored_catboost_carries_no_time_stamp(fitted: Look, export_data: Dataset, tmp_path: Path) -> None:
    fitted("catboost", export_data).save(tmp_path)
    assert set(json.loads((tmp_path / "model.json").read_text())["model_info"]) == {"params"}
