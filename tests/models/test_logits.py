"""Log-odds of K classes and the shared penalised fit."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.logits import (
    ClassDesign,
    SharedDesign,
    log_odds,
    logit,
    penalised_fit,
    prior_precisions,
    sigmoid,
    softmax,
)

ROOT = Path(__file__).resolve().parents[2]


def test_sigmoid_undoes_logit_and_never_overflows() -> None:
    p = np.array([1e-5, 0.3, 0.5, 0.999])
    np.testing.assert_allclose(sigmoid(logit(p)), p, rtol=1e-12)
    np.testing.assert_array_equal(sigmoid(np.array([-1e4, 1e4])), [0.0, 1.0])


@pytest.mark.parametrize("classes", [2, 3])
def test_softmax_undoes_log_odds(classes: int) -> None:
    p = np.random.default_rng(1).dirichlet(np.ones(classes), size=(50, 4))
    p = np.clip(p, 1e-4, None)
    p /= p.sum(axis=-1, keepdims=True)
    assert log_odds(p).shape == (50, 4, classes - 1)
    np.testing.assert_allclose(softmax(log_odds(p)), p, rtol=1e-12)


def test_two_classes_are_sigmoid_and_logit() -> None:
    p = np.array([0.0, 1e-9, 0.2, 0.5, 0.77, 1.0])
    both = np.column_stack([1.0 - p, p])
    np.testing.assert_allclose(log_odds(both)[:, 0], logit(p), rtol=1e-11)
    z = np.linspace(-40.0, 40.0, 33)
    np.testing.assert_array_equal(softmax(z[:, None])[:, 1], sigmoid(z))


def test_softmax_of_certainties_is_finite_and_sums_to_one() -> None:
    z = np.array([[1e4, -1e4], [-1e4, -1e4], [1e4, 1e4]])
    expected = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]
    np.testing.assert_array_equal(softmax(z), expected)
    assert np.isfinite(log_odds(np.array([[0.0, 0.0, 1.0]]))).all()


def test_fit_agrees_with_sklearns_ridge() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(300, 3)), rng.random(300)
    y = (x[:, 0] + rng.normal(size=300) > 0).astype(float)
    model = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-12, max_iter=1000).fit(
        x, y, sample_weight=w
    )
    for design, size, penalty in ((SharedDesign(x.T[:, None, :]), 3, 2.0), (ClassDesign(x.T, 2), 6, 4.0)):
        ours = penalised_fit(
            design, y, w, offset=np.zeros((300, 1)), centre=np.zeros(size), penalty=np.full(size, penalty)
        )
        found = design.forward(ours)[0]
        np.testing.assert_allclose(found, x @ model.coef_[0], atol=1e-6)


def test_three_classes_agree_with_sklearns_multinomial() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(4)
    x, w = rng.normal(size=(600, 5)), rng.random(600)
    y = np.argmax(x[:, :3] + rng.gumbel(size=(600, 3)), axis=1).astype(float)
    columns = np.vstack([x.T, np.ones(600)])
    ours = penalised_fit(
        ClassDesign(columns, 3),
        y,
        w,
        offset=np.zeros((600, 2)),
        centre=np.zeros(18),
        penalty=np.tile([2.0] * 5 + [0.0], 3),  # the intercepts are free
    ).reshape(3, 6)
    model = LogisticRegression(C=0.5, tol=1e-10, max_iter=5000).fit(x, y, sample_weight=w)
    np.testing.assert_allclose(ours[:, :5], model.coef_, atol=1e-6)
    np.testing.assert_allclose(np.diff(ours[:, 5]), np.diff(model.intercept_), atol=1e-6)


def test_shared_weights_of_three_classes_agree_with_a_general_minimiser() -> None:
    from scipy.optimize import minimize

    rng = np.random.default_rng(5)
    columns, offset = rng.normal(size=(4, 2, 200)), 0.3 * rng.normal(size=(200, 2))
    y, w = rng.integers(0, 3, 200).astype(float), rng.random(200)
    centre, penalty = np.array([0.2, 0.2, 0.0, 0.0]), np.array([3.0, 3.0, 20.0, 20.0])

    def loss(c: np.ndarray) -> float:
        p = softmax(offset + np.stack([columns[:, k].T @ c for k in range(2)], axis=1))
        own = float(-np.sum(w * np.log(p[np.arange(200), y.astype(int)])))
        return own + 0.5 * float(np.sum(penalty * (c - centre) ** 2))

    ours = penalised_fit(SharedDesign(columns), y, w, offset=offset, centre=centre, penalty=penalty)
    theirs = minimize(loss, centre, method="BFGS", options={"gtol": 1e-9}).x
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_no_rows_give_the_centre(classes: int) -> None:
    centre = np.array([0.2, -1.0])
    fitted = penalised_fit(
        SharedDesign(np.empty((2, classes - 1, 0))),
        np.empty(0),
        np.empty(0),
        offset=np.empty((0, classes - 1)),
        centre=centre,
        penalty=np.ones(2),
    )
    assert fitted == pytest.approx(centre)


def test_separable_rows_stay_finite() -> None:
    x = np.linspace(-1.0, 1.0, 40)
    fitted = penalised_fit(
        SharedDesign(np.stack([x, np.ones(40)])[:, None, :]),
        (x > 0.0).astype(float),
        np.ones(40),
        offset=np.zeros((40, 1)),
        centre=np.zeros(2),
        penalty=prior_precisions(0.0, 1),
    )
    assert np.isfinite(fitted).all()
    assert fitted[0] > 10.0


FIT = """
import numpy as np
from models.logits import ClassDesign, penalised_fit
rng = np.random.default_rng(6)
x = rng.normal(size=(40, 3000))
y = (x[:3] + rng.gumbel(size=(3, 3000))).argmax(axis=0).astype(float)
fit = penalised_fit(ClassDesign(x, 3), y, np.ones(3000), offset=np.zeros((3000, 2)), centre=np.zeros(120),
                    penalty=np.full(120, 50.0))
print(fit.tobytes().hex())
"""


def test_the_fit_does_not_depend_on_the_kernels_of_the_linear_algebra_library() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", FIT],
            cwd=ROOT,
            env={**os.environ, "OPENBLAS_CORETYPE": kernel},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for kernel in ("Prescott", "Haswell")
    }
    assert len(found) == 1
    assert len(found.pop()) > 16 * 120
