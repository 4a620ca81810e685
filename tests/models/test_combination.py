"""Stack, blend and vote: laws of each, two classes as ever, three beside them."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from core.errors import ArtifactError, ConfigurationError
from core.files import canonical_json
from models.combination import (
    Known,
    Method,
    Pool,
    Stack,
    combination_from_json,
    fit_blend,
    fit_combination,
    fit_stack,
)
from models.logits import log_odds, logit, sigmoid, softmax

NAMES = ("base_rate", "good", "noise")
METHODS: tuple[Method, ...] = ("stack", "blend", "vote")


def both(up: np.ndarray) -> np.ndarray:
    """Class probabilities [..., 2] of P(up)."""
    return np.stack([1.0 - up, up], axis=-1)


def make_known(n: int, edge: float, classes: int = 2) -> Known:
    """A model that is right, one of noise, and the base rate; the noise is as bold as the model."""
    rng = np.random.default_rng(2)
    drift = np.linspace(0.0, 0.2, classes)[1:]
    signal, noise = (edge * rng.normal(size=(n, classes - 1)) for _ in range(2))
    base = np.stack([softmax(drift + z) for z in (np.zeros_like(signal), signal, noise)], axis=1)
    y = (base[:, 1].cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).astype(np.float64)
    return Known(np.arange(n), base, y, np.ones(n), np.ones(n))


@pytest.mark.parametrize("classes", [2, 3])
def test_without_evidence_the_stack_is_half_way_to_the_average(classes: int) -> None:
    stack = fit_stack(NAMES, make_known(5, 1.0, classes)[:0])
    assert stack.coef.tolist() == pytest.approx([0.5, 0.25, 0.25])
    assert stack.intercept.tolist() == [0.0] * (classes - 1)


@pytest.mark.parametrize("classes", [2, 3])
def test_evidence_picks_the_good_model(classes: int) -> None:
    stack = fit_stack(NAMES, make_known(5000, 1.0, classes))
    assert stack.coef[1] > 0.8
    assert abs(stack.coef[2]) < 0.1


def test_more_shrinkage_stays_nearer_to_the_prior() -> None:
    loose, tight = (fit_stack(NAMES, make_known(500, 1.0), shrinkage=s).coef[1] for s in (0.1, 100.0))
    assert abs(tight - 0.25) < abs(loose - 0.25)


@pytest.mark.parametrize("names", [NAMES, ("a", "b", "c")])
def test_one_class_and_certain_bases_stay_finite(names: tuple[str, ...]) -> None:
    base = both(np.array([[0.5, 0.0, 1.0]] * 5))
    ones = np.ones(5)
    known = Known(np.arange(5), base, ones, ones, ones)
    assert np.isfinite(fit_stack(names, known, shrinkage=0.0).logit(base)).all()


def test_a_class_that_never_comes_stays_possible_and_finite() -> None:
    """The middle class has no row; models that call it impossible and outcomes agree."""
    known = make_known(400, 1.0, 3)
    base = np.stack([known.base[..., 0], np.zeros((400, 3)), 1.0 - known.base[..., 0]], axis=-1)
    never = replace(known, base=base, y=np.where(known.y > 0.0, 2.0, 0.0))
    for method in METHODS:
        combined = fit_combination(method, NAMES, never, half_life=100.0, shrinkage=1.0)
        p = softmax(combined.logit(base))
        assert np.isfinite(p).all()
        assert (p[:, 1] < 1e-4).all()
        np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)


def test_two_classes_are_fitted_as_before_there_were_three() -> None:
    """Figures of the formula that had two classes only, P(up) as input and one intercept."""
    i = np.arange(600.0)
    up = np.column_stack([np.full(600, 0.55), 0.5 + 0.3 * np.sin(0.7 * i), 0.5 + 0.2 * np.cos(1.3 * i)])
    y = (np.sin(0.7 * i) + np.sin(2.9 * i) > 0.0).astype(float)
    w = 0.5 + 0.5 * np.cos(0.1 * i) ** 2
    known = Known(np.arange(600), both(up), y, w, w)
    with_rate = fit_stack(("base_rate", "a", "b"), known, shrinkage=2.0)
    expected = [-0.25537829191388184, 1.1781704796707908, 0.07720781224309102]
    np.testing.assert_allclose(with_rate.coef, expected, rtol=1e-11)
    np.testing.assert_allclose(with_rate.intercept, [0.006580687322759203], rtol=1e-11)
    without = fit_stack(("x", "a", "b"), known)
    expected = [0.1337872814508646, 1.3158673730647368, 0.02747608483508986]
    np.testing.assert_allclose(without.coef, expected, rtol=1e-11)
    np.testing.assert_allclose(without.intercept, [-0.007352310031317173], rtol=1e-10)
    np.testing.assert_allclose(
        with_rate.logit(both(up))[:, 0], logit(up) @ with_rate.coef + with_rate.intercept[0], rtol=1e-9
    )


def test_stack_is_linear_in_clipped_log_odds() -> None:
    stack = Stack(("a", "b"), np.array([0.5, 2.0]), np.array([0.1]))
    expected = 0.1 + 0.5 * np.log(0.25) + 2.0 * np.log((1 - 1e-6) / 1e-6)
    assert stack.logit(both(np.array([[0.2, 1.0]]))).item() == pytest.approx(expected)
    three = Stack(("a", "b"), np.array([0.5, 2.0]), np.array([0.1, -0.1]))
    base = np.array([[[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]])
    expected_z = [
        0.1 + 0.5 * np.log(0.3 / 0.2) + 2.0 * np.log(0.3 / 0.6),
        -0.1 + 0.5 * np.log(0.5 / 0.2) + 2.0 * np.log(0.1 / 0.6),
    ]
    assert three.logit(base)[0].tolist() == pytest.approx(expected_z)


def test_swapping_the_classes_swaps_the_answer() -> None:
    known = make_known(300, 1.0, 3)
    turned = replace(known, base=known.base[:, :, ::-1].copy(), y=2.0 - known.y)
    for method in ("blend", "vote"):
        one, other = (fit_combination(method, NAMES, k, half_life=50, shrinkage=1) for k in (known, turned))
        np.testing.assert_allclose(
            softmax(one.logit(known.base)), softmax(other.logit(turned.base))[:, ::-1], rtol=1e-9
        )


@pytest.mark.parametrize("classes", [2, 3])
def test_the_vote_is_the_mean_of_all_but_the_base_rate(classes: int) -> None:
    known = make_known(50, 1.0, classes)
    vote = fit_combination("vote", NAMES, known, half_life=1.0, shrinkage=1.0)
    np.testing.assert_allclose(softmax(vote.logit(known.base)), known.base[:, 1:].mean(axis=1), rtol=1e-9)
    alone = fit_combination("vote", ["base_rate"], known, half_life=1.0, shrinkage=1.0)
    np.testing.assert_allclose(alone.logit(known.base[:, :1]), log_odds(known.base[:, 0]), rtol=1e-12)


@pytest.mark.parametrize("classes", [2, 3])
def test_blend_weights_are_those_of_bayes_rule(classes: int) -> None:
    """Without forgetting, a model's weight is its share of the likelihood."""
    known = make_known(40, 0.5, classes)
    weights = fit_blend(NAMES, known, half_life=1e12).weights
    likelihood = [np.prod(known.base[np.arange(40), m, known.y.astype(int)]) for m in range(3)]
    np.testing.assert_allclose(weights, np.array(likelihood) / np.sum(likelihood), rtol=1e-8)


def test_blend_weights_sum_to_one_and_adapt_to_the_better_model() -> None:
    """The good model turns into the worse: the weight follows, the faster the shorter the half-life."""
    known = make_known(1000, 1.0)
    swapped = known.base[:, [0, 2, 1]]
    turned = replace(known, base=np.where((np.arange(1000) < 900)[:, None, None], known.base, swapped))
    before = fit_blend(NAMES, turned[:900], half_life=50.0).weights
    assert before[1] > 0.99
    after = [fit_blend(NAMES, turned, half_life=h).weights for h in (5000.0, 200.0, 20.0)]
    assert after[0][2] < after[1][2] < after[2][2]
    assert after[2][2] > 0.9
    for weights in (before, *after):
        assert weights.sum() == pytest.approx(1.0, abs=1e-12)
        assert (weights >= 0.0).all()


def test_rows_that_repeat_each_other_count_once() -> None:
    known = make_known(60, 0.5)
    twice = Known(*(np.repeat(getattr(known, k), 2, axis=0) for k in ("rows", "base", "y", "w", "evidence")))
    halved = replace(twice, evidence=0.5 * twice.evidence)
    once, same = (fit_blend(NAMES, k, half_life=1e12).weights for k in (known, halved))
    np.testing.assert_allclose(once, same, rtol=1e-9)


def test_the_weights_of_no_rows_are_equal() -> None:
    assert fit_blend(NAMES, make_known(5, 1.0)[:0], half_life=10.0).weights.tolist() == [1 / 3] * 3


def test_a_certain_miss_does_not_silence_a_model_for_ever() -> None:
    known = make_known(500, 1.0)
    base = known.base.copy()
    base[0, 1] = both(1.0 - known.y[0])
    assert fit_blend(NAMES, replace(known, base=base), half_life=50.0).weights[1] > 0.9


def test_shares_leave_out_the_base_rate_and_sum_to_one() -> None:
    assert Stack(NAMES, np.array([0.9, 0.3, -0.2]), np.zeros(1)).shares().tolist() == [0.0, 1.0, 0.0]
    assert Stack(NAMES, np.array([1.5, -0.3, -0.2]), np.zeros(1)).shares().tolist() == [0.0, 0.5, 0.5]
    assert Pool(NAMES, np.array([0.5, 0.3, 0.2])).shares().tolist() == pytest.approx([0.0, 0.6, 0.4])
    assert Pool(("base_rate",), np.ones(1)).shares().tolist() == [1.0]


def test_a_batch_says_what_its_rows_say_alone() -> None:
    known = make_known(64, 1.0, 3)
    for method in METHODS:
        combined = fit_combination(method, NAMES, known, half_life=30.0, shrinkage=1.0)
        alone = np.concatenate([combined.logit(known.base[k : k + 1]) for k in range(64)])
        np.testing.assert_array_equal(combined.logit(known.base), alone)


def test_json_round_trip_is_exact() -> None:
    known = make_known(100, 1.0, 3)
    for method in METHODS:
        fitted = fit_combination(method, NAMES, known, half_life=30.0, shrinkage=1.0)
        stored = json.loads(canonical_json(fitted.to_json()))
        again = combination_from_json(stored)
        assert type(again) is type(fitted)
        np.testing.assert_array_equal(again.logit(known.base), fitted.logit(known.base))
        del stored["names"]
        with pytest.raises(ArtifactError, match="combination"):
            combination_from_json(stored)


def test_an_unknown_method_is_refused() -> None:
    method: Any = "mean"
    with pytest.raises(ConfigurationError, match="must be stack, blend or vote"):
        fit_combination(method, NAMES, make_known(5, 1.0), half_life=1.0, shrinkage=1.0)


def test_one_model_of_two_classes_is_its_own_log_odds() -> None:
    up = np.array([0.2, 0.5, 0.9])
    pool = Pool(("a",), np.ones(1))
    np.testing.assert_allclose(sigmoid(pool.logit(both(up)[:, None])[:, 0]), up, rtol=1e-12)
