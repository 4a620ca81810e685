"""The whole graph: right, dynamic, standard and the same bytes every time."""

import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from core.errors import ArtifactError
from core.files import sha256_bytes, write_json
from models.calibration import Calibrator
from models.dataset import Dataset, windows
from models.ensemble import Ensemble, Stack
from models.onnx_export import export
from models.onnx_run import Runner

WINDOW = 8
CALIBRATOR = Calibrator("sigmoid")
ROOT = Path(__file__).resolve().parents[2]
Rows = np.ndarray[Any, np.dtype[np.int64]]

EXPORT_AGAIN = """
import sys
from pathlib import Path
from core.files import read_json, sha256_bytes
from models.calibration import Calibrator
from models.ensemble import Stack
from models.families import FAMILIES
from models.onnx_export import export
folder = Path(sys.argv[1])
stack = Stack.from_json(read_json(folder / "stack.json"))
calibrator = Calibrator.from_json(read_json(folder / "calibrator.json"))
fitted = {name: FAMILIES[name].load(folder / name) for name in reversed(stack.names)}
print(sha256_bytes(export(fitted, stack, calibrator, features=10, window=8)))
"""


def exported(ensemble: Ensemble, **changes: Any) -> bytes:
    parts = {"stack": ensemble.stack, "calibrator": ensemble.calibrator, **changes}
    return export(ensemble.fitted, parts["stack"], parts["calibrator"], features=10, window=WINDOW)


def test_every_output_is_what_training_says(
    export_data: Dataset, export_ensemble: Ensemble, export_bytes: bytes, held_out: Rows
) -> None:
    rows = np.concatenate([np.arange(WINDOW), held_out])  # the first windows reach back before the data
    native = export_ensemble.predict(export_data.x, rows)
    answers = Runner(export_bytes)(windows(export_data.x, rows, WINDOW))
    np.testing.assert_allclose(answers.base, native.base, rtol=0, atol=1e-6)
    np.testing.assert_allclose(answers.probability, native.probability, rtol=0, atol=1e-6)
    np.testing.assert_allclose(answers.confidence, native.confidence, rtol=0, atol=1e-6)
    assert {a.dtype for a in (answers.base, answers.probability, answers.confidence)} == {np.dtype("float64")}


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_batch_is_dynamic(export_data: Dataset, export_bytes: bytes, held_out: Rows, batch: int) -> None:
    inputs = windows(export_data.x, held_out, WINDOW)
    runner = Runner(export_bytes)
    whole, part = runner(inputs[:50]), runner(inputs[:batch])
    assert part.probability.shape == part.confidence.shape == (batch,)
    assert part.base.shape == (batch, 5)
    np.testing.assert_allclose(part.probability, whole.probability[:batch], rtol=0, atol=1e-7)
    np.testing.assert_allclose(part.base, whole.base[:batch], rtol=0, atol=1e-7)


def test_the_graph_is_standard_onnx_without_metadata(export_bytes: bytes) -> None:
    model = onnx.load_from_string(export_bytes)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {"", "ai.onnx.ml"}
    assert not model.metadata_props
    assert not model.functions
    assert [i.name for i in model.graph.input] == ["features"]
    assert [o.name for o in model.graph.output] == ["probability", "base_probabilities", "confidence"]
    assert all(t.data_location == onnx.TensorProto.DEFAULT for t in model.graph.initializer)


def test_two_processes_write_the_same_bytes(
    export_ensemble: Ensemble, export_bytes: bytes, tmp_path: Path
) -> None:
    for name, model in export_ensemble.fitted.items():
        (tmp_path / name).mkdir()
        model.save(tmp_path / name)
    write_json(tmp_path / "stack.json", export_ensemble.stack.to_json())
    write_json(tmp_path / "calibrator.json", export_ensemble.calibrator.to_json())
    command = [sys.executable, "-c", EXPORT_AGAIN, str(tmp_path)]
    other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == sha256_bytes(export_bytes) == sha256_bytes(exported(export_ensemble))


@pytest.mark.parametrize(
    "calibrator",
    [
        Calibrator("sigmoid", a=0.4, b=-0.2),
        Calibrator("isotonic", x=(0.3, 0.45, 0.5, 0.7), y=(0.2, 0.4, 0.4, 0.9)),
        Calibrator("isotonic", x=(0.45, 0.451), y=(0.1, 0.8)),
        Calibrator("isotonic", x=(0.5,), y=(0.61,)),
    ],
)
def test_every_calibrator(
    export_data: Dataset, export_ensemble: Ensemble, held_out: Rows, calibrator: Calibrator
) -> None:
    ensemble = replace(export_ensemble, calibrator=calibrator)
    native = ensemble.predict(export_data.x, held_out)
    answers = Runner(exported(ensemble))(windows(export_data.x, held_out, WINDOW))
    np.testing.assert_allclose(answers.probability, native.probability, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    "names", [("base_rate",), ("logistic",), ("base_rate", "lstm"), ("lightgbm", "catboost")]
)
def test_any_choice_of_families(
    export_data: Dataset, export_ensemble: Ensemble, held_out: Rows, names: tuple[str, ...]
) -> None:
    fitted = {name: export_ensemble.fitted[name] for name in names}
    stack = Stack(names, np.full(len(names), 1.0 / len(names)), 0.1)
    ensemble = replace(export_ensemble, fitted=fitted, stack=stack)
    native = ensemble.predict(export_data.x, held_out)
    answers = Runner(exported(ensemble))(windows(export_data.x, held_out, WINDOW))
    np.testing.assert_allclose(answers.confidence, native.confidence, rtol=0, atol=1e-6)


def test_a_shorter_lstm_reads_the_end_of_the_window(
    export_data: Dataset, export_ensemble: Ensemble, held_out: Rows
) -> None:
    parts = export_ensemble
    model = export(parts.fitted, parts.stack, parts.calibrator, features=10, window=WINDOW + 5)
    answers = Runner(model)(windows(export_data.x, held_out, WINDOW + 5))
    np.testing.assert_allclose(answers.base, parts.predict(export_data.x, held_out).base, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("features", "window", "names", "message"),
    [
        (10, 4, None, "export with window >= 8"),
        (9, WINDOW, None, "the graph has 9"),
        (10, WINDOW, ("logistic",), "fit the stack on all of them"),
        (10, WINDOW, ("forest",), "'?forest'? has no ONNX writer"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    export_ensemble: Ensemble, features: int, window: int, names: tuple[str, ...] | None, message: str
) -> None:
    stack = export_ensemble.stack if names is None else Stack(names, np.ones(len(names)), 0.0)
    with pytest.raises(ArtifactError, match=message):
        export(export_ensemble.fitted, stack, export_ensemble.calibrator, features=features, window=window)


def test_a_network_the_writer_does_not_know_is_refused(export_ensemble: Ensemble) -> None:
    module = deepcopy(export_ensemble.fitted["lstm"].module)
    module.extra = torch.nn.Linear(2, 2)
    lstm = replace(export_ensemble.fitted["lstm"], module=module)
    with pytest.raises(ArtifactError, match=r"extra\.bias.*must describe one network"):
        export({"lstm": lstm}, Stack(("lstm",), np.ones(1), 0.0), CALIBRATOR, features=10, window=WINDOW)


def test_bytes_that_are_not_a_model_are_refused(export_bytes: bytes, export_data: Dataset) -> None:
    with pytest.raises(ArtifactError, match="export it again"):
        Runner(b"not a model")
    with pytest.raises(ArtifactError, match="0 windows"):
        Runner(export_bytes)(np.empty((0, WINDOW, 10), np.float32))
    with pytest.raises(ArtifactError, match="cannot be run"):
        Runner(export_bytes)(export_data.x[None, :3])
