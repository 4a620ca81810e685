"""Calibration: it mends a bent scale and does no harm on little evidence."""

import numpy as np
import pytest

from core.errors import ArtifactError, ConfigurationError, DataError
from core.files import canonical_json
from models.calibration import KINDS, Calibrator, Kind, fit_calibrator
from models.logits import softmax


def make_outcomes(n: int, bend: float, classes: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-odds [n, K-1] that are `bend` times too extreme, outcomes, and weights."""
    rng = np.random.default_rng(5)
    z = rng.normal(size=(n, classes - 1))
    y = (softmax(z).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return bend * z, y.astype(np.float64), np.ones(n)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_overconfidence_is_mended(kind: Kind, classes: int) -> None:
    z, y, w = make_outcomes(20_000, 3.0, classes)
    mended = fit_calibrator(kind, z, y, w).predict(z)
    assert mended.shape == (20_000, classes)
    np.testing.assert_allclose(mended.sum(axis=1), 1.0, rtol=1e-12)
    # One-versus-rest maps of three classes cannot undo a scale they share exactly.
    close = 0.02 if (kind, classes) != ("isotonic", 3) else 0.05
    assert np.abs(mended - softmax(z / 3.0)).mean() < close
    assert np.abs(softmax(z) - softmax(z / 3.0)).mean() > 2.0 * close


@pytest.mark.parametrize("kind", KINDS)
def test_calibrated_probabilities_never_fall_as_the_stack_rises(kind: Kind) -> None:
    z, y, w = make_outcomes(300, -1.0)
    grid = np.linspace(-5.0, 5.0, 400)[:, None]
    calibrated = fit_calibrator(kind, z, y, w).predict(grid)[:, 1]
    assert (np.diff(calibrated) >= 0.0).all()
    assert ((calibrated > 0.0) & (calibrated < 1.0)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_of_three_classes_never_falls_as_its_log_odds_rise(kind: Kind) -> None:
    """The other two are equally likely, so that nothing else moves."""
    z, y, w = make_outcomes(900, 1.0, 3)
    if kind == "isotonic":  # each map is monotone on its own
        for step in fit_calibrator(kind, z, y, w).steps:
            assert (np.diff(step(np.linspace(0.0, 1.0, 300))) >= 0.0).all()
        return
    grid = np.column_stack([np.zeros(400), np.linspace(-5.0, 5.0, 400)])
    assert (np.diff(fit_calibrator(kind, z, y, w).predict(grid)[:, 2]) >= 0.0).all()


def test_few_rows_hardly_move_the_identity() -> None:
    z, y, w = make_outcomes(30, 1.0)
    fitted = fit_calibrator("sigmoid", 0.1 * z, y, w)
    assert fitted.a == pytest.approx(1.0, abs=0.2)
    assert fitted.b[0] == pytest.approx(0.0, abs=0.03)


def test_two_classes_are_fitted_as_before_there_were_three() -> None:
    """Figures of the calibrator that had P(up) only."""
    i = np.arange(600.0)
    z = (np.sin(0.7 * i) + 0.1)[:, None]
    y = (np.sin(0.7 * i) + np.sin(2.9 * i) > 0.0).astype(float)
    fitted = fit_calibrator("sigmoid", z, y, 0.5 + 0.5 * np.cos(0.1 * i) ** 2)
    np.testing.assert_allclose([fitted.a, *fitted.b], [1.7414388884409846, -0.04030364249814481], rtol=1e-10)


def test_temperature_has_no_intercept_and_one_number() -> None:
    z, y, w = make_outcomes(5000, 2.0, 3)
    fitted = fit_calibrator("temperature", z, y, w)
    assert fitted.a == pytest.approx(0.5, abs=0.05)
    assert fitted.b == (0.0, 0.0)
    even = fitted.predict(np.zeros((1, 2)))
    np.testing.assert_allclose(even, [[1 / 3, 1 / 3, 1 / 3]], rtol=1e-12)


def test_more_shrinkage_stays_nearer_to_the_identity() -> None:
    z, y, w = make_outcomes(200, 3.0)
    for kind in ("sigmoid", "temperature"):
        loose, tight = (fit_calibrator(kind, z, y, w, shrinkage=s).a for s in (0.1, 100.0))  # type: ignore[arg-type]
        assert abs(tight - 1.0) < abs(loose - 1.0)


def test_one_class_stays_inside_zero_and_one() -> None:
    fitted = fit_calibrator("isotonic", np.zeros((8, 1)), np.ones(8), np.ones(8))
    assert fitted.predict(np.array([[0.0]]))[0].tolist() == pytest.approx([0.1, 0.9])


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_that_never_came_stays_possible(kind: Kind) -> None:
    z, y, w = make_outcomes(500, 1.0, 3)
    y[y == 1.0] = 0.0
    fitted = fit_calibrator(kind, z, y, w)
    extremes = np.array([[50.0, -50.0], [-50.0, 50.0], [-50.0, -50.0], [0.0, 0.0]])
    p = fitted.predict(np.vstack([z, extremes]))
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)
    assert (p[: len(z)] > 0.0).all()


def test_a_few_rows_at_the_edge_do_not_make_a_certainty() -> None:
    rng = np.random.default_rng(3)
    z = np.linspace(-0.1, 0.1, 250)[:, None]
    y = (rng.random(250) < 0.55).astype(float)
    y[-3:] = 1.0
    y[:3] = 0.0
    fitted = fit_calibrator("isotonic", z, y, np.full(250, 1.0 / 6.0))
    assert fitted.predict(np.array([[5.0]]))[0, 1] < 0.8
    assert fitted.predict(np.array([[-5.0]]))[0, 1] > 0.2


def test_json_round_trip_is_exact() -> None:
    import json

    for classes in (2, 3):
        z, y, w = make_outcomes(200, 2.0, classes)
        for kind in KINDS:
            fitted = fit_calibrator(kind, z, y, w)  # type: ignore[arg-type]
            assert Calibrator.from_json(json.loads(canonical_json(fitted.to_json()))) == fitted


def test_bad_input_is_refused() -> None:
    none = np.empty(0)
    with pytest.raises(DataError, match="0 rows"):
        fit_calibrator("sigmoid", none[:, None], none, none)
    with pytest.raises(ConfigurationError, match="spline"):
        fit_calibrator("spline", np.ones((3, 1)), np.ones(3), np.ones(3))  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match="calibrator"):
        Calibrator.from_json({"kind": "sigmoid"})
