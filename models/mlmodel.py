"""The files beside a bundle by which MLflow's onnx and pyfunc flavours can load it."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from core.bundle import MODEL, Manifest
from core.files import write_json, write_text

_REQUIREMENTS = ("mlflow", "numpy", "onnx", "onnxruntime")
_PYTHON = "3.11"


def write_mlmodel(directory: Path, manifest: Manifest, run_id: str) -> None:
    """Write MLmodel, requirements.txt and python_env.yaml; nothing is inferred by loading the model."""
    pins = [f"{name}=={version(name)}" for name in _REQUIREMENTS]
    write_text(directory / "requirements.txt", "\n".join(pins) + "\n")
    environment = {"python": _PYTHON, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    # JSON is YAML; canonical JSON is also the same for equal input.
    write_json(directory / "python_env.yaml", environment)
    write_json(directory / "MLmodel", _describe(manifest, run_id))


def _describe(manifest: Manifest, run_id: str) -> dict[str, Any]:
    window, features = manifest.window, len(manifest.features)
    outputs = [
        _tensor("probability", "float64", -1),
        _tensor("base_probabilities", "float64", -1, len(manifest.base_models)),
        _tensor("confidence", "float64", -1),
        _tensor("class_probabilities", "float64", -1, len(manifest.classes)),
        _tensor(
            "base_class_probabilities", "float64", -1, len(manifest.base_models) * (len(manifest.classes) - 1)
        ),
    ]
    return {
        "artifact_path": "bundle",
        "run_id": run_id,
        "mlflow_version": version("mlflow"),
        "model_uuid": manifest.files[MODEL][:32],
        "utc_time_created": manifest.as_of,
        "signature": {
            "inputs": json.dumps([_tensor("features", "float32", -1, window, features)]),
            "outputs": json.dumps(outputs),
            "params": None,
        },
        "flavors": {
            "onnx": {
                "code": None,
                "data": MODEL,
                "onnx_version": version("onnx"),
                "providers": ["CPUExecutionProvider"],
            },
            "python_function": {
                "data": MODEL,
                "env": {"virtualenv": "python_env.yaml"},
                "loader_module": "mlflow.onnx",
                "python_version": _PYTHON,
            },
        },
    }


def _tensor(name: str, dtype: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "type": "tensor", "tensor-spec": {"dtype": dtype, "shape": list(shape)}}
