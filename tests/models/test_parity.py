"""The parity check passes what is right and catches what is not."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from core.errors import DataError
from models.calibration import Calibrator
from models.dataset import Dataset
from models.ensemble import Ensemble, Recipe
from models.onnx_export import export
from models.parity import check
from tests.models.ensembles import build_ensemble

Rows = np.ndarray[Any, np.dtype[np.int64]]


def test_the_exported_ensemble_is_within_the_limits(
    export_data: Dataset, export_ensemble: Ensemble, export_bytes: bytes, held_out: Rows
) -> None:
    before = export_data.x.copy()
    parity = check(export_bytes, export_ensemble, export_data.x, held_out)
    assert list(parity) == [*export_ensemble.names, "class_probabilities", "probability", "confidence"]
    double = ("base_rate", "logistic", "lightgbm", "catboost", "random_forest")
    assert max(parity[name] for name in double) < 1e-12
    assert all(0.0 < parity[name] <= 1e-6 for name in set(export_ensemble.names) - set(double))
    assert max(parity[name] for name in ("class_probabilities", "probability", "confidence")) <= 1e-6
    np.testing.assert_array_equal(export_data.x, before)


def test_equal_arguments_give_equal_figures(
    export_data: Dataset, export_ensemble: Ensemble, export_bytes: bytes, held_out: Rows
) -> None:
    first, second = (
        check(export_bytes, export_ensemble, export_data.x, held_out, at_least=500) for _ in range(2)
    )
    assert first == second


def test_a_wrong_calibrator_is_caught(
    export_data: Dataset, export_ensemble: Ensemble, export_bytes: bytes, held_out: Rows
) -> None:
    head = replace(export_ensemble.head, calibrator=Calibrator("sigmoid", a=0.2, b=(0.4,)))
    parity = check(export_bytes, replace(export_ensemble, head=head), export_data.x, held_out, at_least=100)
    assert parity["probability"] > 2e-4
    assert parity["class_probabilities"] > 2e-4


def test_another_skill_is_caught_by_the_confidence_alone(
    export_data: Dataset, export_ensemble: Ensemble, export_bytes: bytes, held_out: Rows
) -> None:
    head = replace(export_ensemble.head, skill=0.5)
    parity = check(export_bytes, replace(export_ensemble, head=head), export_data.x, held_out, at_least=100)
    assert parity["confidence"] > 0.01
    assert parity["probability"] <= 1e-6


def test_a_model_that_only_errs_on_missing_values_is_caught(
    export_data: Dataset, export_ensemble: Ensemble, export_bytes: bytes, held_out: Rows
) -> None:
    full = replace(export_data, x=np.nan_to_num(export_data.x))
    logistic = export_ensemble.fitted["logistic"]

    class ZeroFilled:
        def predict(self, x: Any, rows: Rows) -> Any:
            return logistic.predict(np.nan_to_num(x) + np.float32(0.1) * np.isnan(x), rows)

    changed: dict[str, Any] = {**export_ensemble.fitted, "logistic": ZeroFilled()}
    other = replace(export_ensemble, fitted=changed)
    parity = check(export_bytes, other, full.x, held_out, at_least=100)
    assert parity["logistic"] > 1e-4


def test_a_base_model_of_a_meta_target_is_compared_below_one_half_too(
    meta_data: Dataset, held_out: Rows
) -> None:
    trained = build_ensemble(meta_data, np.arange(800), held_out, ["base_rate", "logistic"], Recipe())
    fitted: Any = trained.fitted["logistic"]
    doubtful = replace(fitted, intercept=fitted.intercept - 20.0)
    ensemble = replace(trained, fitted={**trained.fitted, "logistic": doubtful})
    slightly = replace(doubtful, intercept=doubtful.intercept + 10.0)
    other = replace(trained, fitted={**trained.fitted, "logistic": slightly})
    assert check(export(ensemble), ensemble, meta_data.x, held_out, at_least=100)["logistic"] < 1e-12
    parity = check(export(ensemble), other, meta_data.x, held_out, at_least=100)
    assert 1e-6 < parity["logistic"] < 0.5
    np.testing.assert_array_equal(ensemble.predict(meta_data.x, held_out).base[:, 1], 0.5)


def test_no_rows_is_an_error(export_data: Dataset, export_ensemble: Ensemble, export_bytes: bytes) -> None:
    with pytest.raises(DataError, match="0 held-out rows"):
        check(export_bytes, export_ensemble, export_data.x, np.array([], dtype=np.int64))
