"""The stack shrinks to its prior, follows evidence, and confidence keeps its definition."""

from pathlib import Path

import numpy as np
import pytest

from core.errors import ArtifactError
from core.files import directory_hashes
from models.calibration import Calibrator
from models.dataset import Dataset
from models.ensemble import Ensemble, Stack, confidence, fit_stack
from models.families import get_families
from models.logits import logit, sigmoid

NAMES = ("base_rate", "good", "noise")


def make_bases(n: int, edge: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    signal = edge * rng.normal(size=n)
    base = np.column_stack([np.full(n, 0.55), sigmoid(0.2 + signal), sigmoid(0.2 + rng.normal(size=n))])
    return base, (rng.random(n) < sigmoid(0.2 + signal)).astype(float), np.ones(n)


def test_without_evidence_the_stack_is_half_way_to_the_average() -> None:
    none = np.empty(0)
    stack = fit_stack(NAMES, np.empty((0, 3)), none, none)
    assert stack.coef.tolist() == pytest.approx([0.5, 0.25, 0.25])
    assert stack.intercept == 0.0


def test_evidence_picks_the_good_model() -> None:
    stack = fit_stack(NAMES, *make_bases(5000, 1.0))
    assert stack.coef[1] > 0.8
    assert abs(stack.coef[2]) < 0.1


def test_more_shrinkage_stays_nearer_to_the_prior() -> None:
    bases = make_bases(500, 1.0)
    loose, tight = (fit_stack(NAMES, *bases, shrinkage=s).coef[1] for s in (0.1, 100.0))
    assert abs(tight - 0.25) < abs(loose - 0.25)


@pytest.mark.parametrize("names", [NAMES, ("a", "b", "c")])
def test_one_class_and_certain_bases_stay_finite(names: tuple[str, ...]) -> None:
    base = np.array([[0.5, 0.0, 1.0]] * 5)
    predicted = fit_stack(names, base, np.ones(5), np.ones(5), shrinkage=0.0).predict(base)
    assert np.isfinite(predicted).all()


def test_stack_is_linear_in_clipped_log_odds() -> None:
    stack = Stack(("a", "b"), np.array([0.5, 2.0]), 0.1)
    base = np.array([[0.2, 1.0]])
    expected = 0.1 + 0.5 * np.log(0.25) + 2.0 * np.log((1 - 1e-6) / 1e-6)
    assert stack.logit(base).item() == pytest.approx(expected)
    assert Stack.from_json(stack.to_json()).coef.tolist() == stack.coef.tolist()
    assert logit(stack.predict(np.array([[0.5, 0.5]]))).item() == pytest.approx(0.1)


def test_confidence_by_hand() -> None:
    base = np.array([[0.9, 0.6, 0.8], [0.9, 0.0, 1.0], [0.9, 0.7, 0.7]])
    got = confidence(np.array([0.75, 0.9, 0.5]), base, NAMES)
    assert got.tolist() == pytest.approx([0.5 * (1 - 2 * 0.1), 0.0, 0.0])


def test_saved_ensemble_predicts_the_same_and_writes_the_same_bytes(
    export_data: Dataset, tmp_path: Path
) -> None:
    rows = np.arange(300)
    fitted = {
        f.name: f.fit(export_data, rows, seed=1, window=4, params={})
        for f in get_families(["base_rate", "logistic"])
    }
    stack = Stack(("base_rate", "logistic"), np.array([0.4, 0.6]), 0.01)
    ensemble = Ensemble(fitted, stack, Calibrator("sigmoid", 0.9, 0.1), export_data.names, 4)
    for name in ("one", "two"):
        ensemble.save(tmp_path / name)
    assert directory_hashes(tmp_path / "one") == directory_hashes(tmp_path / "two")
    loaded, test = Ensemble.load(tmp_path / "one"), np.arange(300, 400)
    np.testing.assert_array_equal(
        loaded.predict(export_data.x, test).probability, ensemble.predict(export_data.x, test).probability
    )
    assert set(loaded.importance()) == {"logistic"}
    (tmp_path / "one" / "logistic" / "model.npz").write_bytes(b"PK")
    with pytest.raises(ArtifactError, match=r"model\.npz"):
        Ensemble.load(tmp_path / "one")
