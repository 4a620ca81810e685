"""Calibration: it mends a bent scale and does no harm on little evidence."""

import numpy as np
import pytest

from core.errors import ArtifactError, ConfigurationError, DataError
from core.files import canonical_json
from models.calibration import Calibrator, fit_calibrator
from models.logits import sigmoid


def make_outcomes(n: int, bend: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-odds that are `bend` times too extreme, and outcomes."""
    rng = np.random.default_rng(5)
    z = rng.normal(size=n)
    return bend * z, (rng.random(n) < sigmoid(z)).astype(float), np.ones(n)


@pytest.mark.parametrize("kind", ["sigmoid", "isotonic"])
def test_overconfidence_is_mended(kind: str) -> None:
    z, y, w = make_outcomes(20_000, 3.0)
    mended = fit_calibrator(kind, z, y, w).predict(z)  # type: ignore[arg-type]
    assert np.abs(mended - sigmoid(z / 3.0)).mean() < 0.02


@pytest.mark.parametrize("kind", ["sigmoid", "isotonic"])
def test_calibrated_probabilities_never_fall_as_the_stack_rises(kind: str) -> None:
    z, y, w = make_outcomes(300, -1.0)
    grid = np.linspace(-5.0, 5.0, 400)
    calibrated = fit_calibrator(kind, z, y, w).predict(grid)  # type: ignore[arg-type]
    assert (np.diff(calibrated) >= 0.0).all()
    assert ((calibrated > 0.0) & (calibrated < 1.0)).all()


def test_few_rows_hardly_move_the_identity() -> None:
    z, y, w = make_outcomes(30, 1.0)
    fitted = fit_calibrator("sigmoid", 0.1 * z, y, w)
    assert fitted.a == pytest.approx(1.0, abs=0.2)
    assert fitted.b == pytest.approx(0.0, abs=0.03)


def test_one_class_stays_inside_zero_and_one() -> None:
    fitted = fit_calibrator("isotonic", np.zeros(8), np.ones(8), np.ones(8))
    assert fitted.predict(np.array([0.0])).item() == pytest.approx(0.9)


def test_a_few_rows_at_the_edge_do_not_make_a_certainty() -> None:
    rng = np.random.default_rng(3)
    z = np.linspace(-0.1, 0.1, 250)
    y = (rng.random(250) < 0.55).astype(float)
    y[-3:] = 1.0
    y[:3] = 0.0
    fitted = fit_calibrator("isotonic", z, y, np.full(250, 1.0 / 6.0))
    assert fitted.predict(np.array([5.0])).item() < 0.8
    assert fitted.predict(np.array([-5.0])).item() > 0.2


def test_json_round_trip_is_exact() -> None:
    import json

    z, y, w = make_outcomes(200, 2.0)
    for kind in ("sigmoid", "isotonic"):
        fitted = fit_calibrator(kind, z, y, w)  # type: ignore[arg-type]
        assert Calibrator.from_json(json.loads(canonical_json(fitted.to_json()))) == fitted


def test_bad_input_is_refused() -> None:
    none = np.empty(0)
    with pytest.raises(DataError, match="0 rows"):
        fit_calibrator("sigmoid", none, none, none)
    with pytest.raises(ConfigurationError, match="spline"):
        fit_calibrator("spline", np.ones(3), np.ones(3), np.ones(3))  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match="calibrator"):
        Calibrator.from_json({"kind": "sigmoid"})
