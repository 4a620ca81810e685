"""Head and ensemble: confidence keeps its definition, skill counts evidence once, files round-trip."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from core.errors import ArtifactError
from core.files import canonical_json, directory_hashes
from models.calibration import Calibrator
from models.combination import Known, Pool, Stack
from models.dataset import Dataset
from models.ensemble import Ensemble, Head, Recipe, confidence, fit_head, measure_skill
from models.families import get_families
from models.targets import Target

SHARES = np.array([0.0, 0.5, 0.5])


def make_known(n: int, seed: int = 0) -> Known:
    """Two classes; the second model knows half of what moves the outcome."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=n)
    up = np.column_stack([np.full(n, 0.5), 1.0 / (1.0 + np.exp(-0.5 * signal))])
    y = (rng.random(n) < 1.0 / (1.0 + np.exp(-signal))).astype(np.float64)
    return Known(np.arange(n), np.stack([1.0 - up, up], axis=2), y, np.ones(n), np.ones(n))


def test_confidence_by_hand() -> None:
    base = np.array([[0.9, 0.6, 0.8], [0.9, 0.0, 1.0], [0.9, 0.7, 0.7]])
    got = confidence(np.array([0.75, 0.9, 0.5]), base, SHARES, 0.8)
    assert got.tolist() == pytest.approx([0.5 * (1 - 2 * 0.1) * 0.8, 0.0, 0.0])


def test_confidence_is_bounded_and_rises_with_conviction_agreement_and_skill() -> None:
    rng = np.random.default_rng(1)
    signal, base = rng.random(2000), rng.random((2000, 5))
    shares = rng.dirichlet(np.ones(5))
    some = confidence(signal, base, shares, 0.6)
    assert ((some >= 0.0) & (some <= 1.0)).all()
    bolder = np.clip(signal + 0.1 * np.sign(signal - 0.5), 0.0, 1.0)
    assert (confidence(bolder, base, shares, 0.6) >= some - 1e-15).all()
    nearer = base.mean(axis=1, keepdims=True) + 0.5 * (base - base.mean(axis=1, keepdims=True))
    assert (confidence(signal, nearer, shares, 0.6) >= some - 1e-15).all()
    assert (confidence(signal, base, shares, 0.9) >= some).all()
    assert confidence(np.array([1.0]), np.ones((1, 5)), shares, 1.0).item() == pytest.approx(1.0)


def test_skill_is_students_t_on_the_difference_of_losses() -> None:
    known = make_known(300)
    ours, theirs = known.base[:, 1], known.base[:, 0]
    y = known.y.astype(int)
    gain = -np.log(theirs[np.arange(300), y]) + np.log(ours[np.arange(300), y])
    test = stats.ttest_1samp(gain, 0.0, alternative="greater")
    assert measure_skill(known, ours, theirs, 1e12) == pytest.approx(1.0 - test.pvalue, abs=1e-9)
    assert measure_skill(known, theirs, ours, 1e12) == pytest.approx(test.pvalue, abs=1e-9)


def test_rows_that_repeat_each_other_are_no_further_evidence() -> None:
    known = make_known(60)
    names = ("rows", "base", "y", "w", "evidence")
    five = Known(*(np.repeat(getattr(known, name), 5, axis=0) for name in names))
    honest = replace(five, evidence=five.evidence / 5.0)
    once = measure_skill(known, known.base[:, 1], known.base[:, 0], 1e12)
    assert measure_skill(honest, five.base[:, 1], five.base[:, 0], 1e12) == pytest.approx(once, abs=1e-9)
    assert measure_skill(five, five.base[:, 1], five.base[:, 0], 1e12) > once


def test_skill_is_recent_skill() -> None:
    known = make_known(600)
    late = np.where((np.arange(600) < 400)[:, None], known.base[:, 0], known.base[:, 1])
    early = np.where((np.arange(600) < 400)[:, None], known.base[:, 1], known.base[:, 0])
    late_skill, early_skill = (measure_skill(known, p, known.base[:, 0], 60.0) for p in (late, early))
    assert late_skill > 0.95 > early_skill


def test_what_cannot_be_told_is_one_half() -> None:
    known = make_known(300)
    assert measure_skill(known, known.base[:, 0], known.base[:, 0], 50.0) == 0.5
    assert measure_skill(known[:1], known.base[:1, 1], known.base[:1, 0], 50.0) == 0.5
    assert measure_skill(known[:0], known.base[:0, 1], known.base[:0, 0], 50.0) == 0.5
    weightless = replace(known, evidence=np.zeros(300))
    assert measure_skill(weightless, known.base[:, 1], known.base[:, 0], 50.0) == 0.5
    sure = np.tile([0.4, 0.6], (300, 1))
    alike = replace(known, y=np.ones(300))
    assert measure_skill(alike, sure, known.base[:, 0], 50.0) == 1.0


def test_models_of_noise_have_no_skill() -> None:
    """The mean over many draws is near a half: overlapping evidence does not make luck certain."""
    found = []
    for seed in range(40):
        known = make_known(500, seed)
        noise = replace(known, y=np.random.default_rng(100 + seed).integers(0, 2, 500).astype(np.float64))
        found.append(fit_head(("base_rate", "m"), noise[:250], noise[250:], noise, Recipe()).skill)
    assert 0.3 < np.mean(found) < 0.7
    assert min(found) < 0.4 < 0.6 < max(found)


@pytest.mark.parametrize("method", ["stack", "blend", "vote"])
def test_a_model_that_knows_something_has_skill(method: str) -> None:
    known = make_known(800)
    recipe = Recipe(method=method)  # type: ignore[arg-type]
    head = fit_head(("base_rate", "m"), known[:400], known[400:], known, recipe)
    assert head.skill > 0.99


def test_a_blend_is_used_with_the_weights_of_all_that_is_known() -> None:
    known = make_known(400)
    head = fit_head(("base_rate", "m"), known[:50], known[50:], known, Recipe("blend", half_life=1e9))
    assert isinstance(head.combination, Pool)
    fewer = fit_head(("base_rate", "m"), known[:50], known[50:], known[:50], Recipe("blend", half_life=1e9))
    assert isinstance(fewer.combination, Pool)
    assert head.combination.weights[1] > fewer.combination.weights[1]
    assert head.calibrator == fewer.calibrator
    assert head.skill == fewer.skill


def test_predictions_of_three_classes_by_hand() -> None:
    base = np.array([[[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]])
    head = Head(Pool(("a", "b"), np.array([0.25, 0.75])), Calibrator("temperature", b=(0.0, 0.0)), 0.5)
    found = head.predict(base, Target("barrier"), None)
    np.testing.assert_allclose(found.classes, [[0.5, 0.3, 0.2]])
    np.testing.assert_allclose(found.base, [[0.65, 0.25]])
    np.testing.assert_allclose(found.probability, [0.35])
    spread = np.sqrt(0.25 * (0.65 - 0.35) ** 2 + 0.75 * (0.25 - 0.35) ** 2)
    np.testing.assert_allclose(found.confidence, [0.3 * (1 - 2 * spread) * 0.5])


def test_a_bet_that_is_more_likely_wrong_than_right_is_no_signal() -> None:
    """Nor has it any confidence."""
    base = np.array([[[0.3, 0.7]], [[0.3, 0.7]], [[0.7, 0.3]], [[0.3, 0.7]]])
    head = Head(Pool(("a",), np.ones(1)), Calibrator("sigmoid"), 1.0)
    found = head.predict(base, Target("meta", 0), np.array([1.0, -1.0, 1.0, np.nan]))
    np.testing.assert_allclose(found.probability, [0.7, 0.3, 0.5, 0.5])
    np.testing.assert_allclose(found.confidence, [0.4, 0.4, 0.0, 0.0])


def test_head_survives_json() -> None:
    known = make_known(200)
    head = fit_head(("base_rate", "m"), known[:100], known[100:], known, Recipe("stack"))
    stored = json.loads(canonical_json(head.to_json()))
    again = Head.from_json(stored)
    for field in ("probability", "classes", "confidence"):
        one, other = (getattr(h.predict(known.base, Target(), None), field) for h in (head, again))
        np.testing.assert_array_equal(one, other)
    del stored["skill"]
    with pytest.raises(ArtifactError, match="skill"):
        Head.from_json(stored)


def test_saved_ensemble_predicts_the_same_and_writes_the_same_bytes(
    meta_data: Dataset, tmp_path: Path
) -> None:
    rows = np.arange(300)
    fitted = {
        f.name: f.fit(meta_data, rows, seed=1, window=4, params={})
        for f in get_families(["base_rate", "logistic"])
    }
    stack = Stack(("base_rate", "logistic"), np.array([0.4, 0.6]), np.array([0.01]))
    head = Head(stack, Calibrator("sigmoid", 0.9, (0.1,)), 0.7)
    ensemble = Ensemble(fitted, head, meta_data.target, meta_data.names, 4)
    for name in ("one", "two"):
        ensemble.save(tmp_path / name)
    assert directory_hashes(tmp_path / "one") == directory_hashes(tmp_path / "two")
    loaded, test = Ensemble.load(tmp_path / "one"), np.arange(300, 400)
    np.testing.assert_array_equal(
        loaded.predict(meta_data.x, test).probability, ensemble.predict(meta_data.x, test).probability
    )
    assert loaded.target == meta_data.target
    assert set(loaded.importance()) == {"logistic"}
    (tmp_path / "one" / "logistic" / "model.npz").write_bytes(b"PK")
    with pytest.raises(ArtifactError, match=r"model\.npz"):
        Ensemble.load(tmp_path / "one")
