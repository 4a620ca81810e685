"""The shared penalised fit."""

import numpy as np
import pytest

from models.logits import logit, penalised_fit, sigmoid


def test_sigmoid_undoes_logit_and_never_overflows() -> None:
    p = np.array([1e-5, 0.3, 0.5, 0.999])
    np.testing.assert_allclose(sigmoid(logit(p)), p, rtol=1e-12)
    np.testing.assert_array_equal(sigmoid(np.array([-1e4, 1e4])), [0.0, 1.0])


def test_fit_agrees_with_sklearns_ridge() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(300, 3)), rng.random(300)
    y = (x[:, 0] + rng.normal(size=300) > 0).astype(float)
    zero = np.zeros(3)
    ours = penalised_fit(x, y, w, offset=np.zeros(300), centre=zero, penalty=np.full(3, 2.0))
    model = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-12, max_iter=1000).fit(
        x, y, sample_weight=w
    )
    np.testing.assert_allclose(ours, model.coef_[0], atol=1e-6)


def test_no_rows_give_the_centre() -> None:
    centre = np.array([0.2, -1.0])
    none = np.empty(0)
    fitted = penalised_fit(np.empty((0, 2)), none, none, offset=none, centre=centre, penalty=np.ones(2))
    assert fitted == pytest.approx(centre)
