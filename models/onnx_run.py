"""Running an exported graph outside the service: for parity and golden cases."""

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as state

from core.errors import ArtifactError
from models.ensemble import Predictions
from models.onnx_export import INPUT, OUTPUTS

_FAULTS = (
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NotImplemented,
    state.RuntimeException,
)


class Runner:
    """An exported graph on one thread; ArtifactError when it is not a model or does not fit the rows."""

    def __init__(self, model: bytes) -> None:
        try:
            self._session = open_session(model)
        except _FAULTS as error:
            raise _unusable(error) from error

    def __call__(self, windows: NDArray[np.float32]) -> Predictions:
        """Answers for windows float32 [N, T, F]; ArtifactError for N = 0, which would abort the process."""
        if len(windows) == 0:
            raise ArtifactError("the ONNX graph was given 0 windows: ask for at least 1")
        try:
            probability, signals, confidence, classes, base = self._session.run(
                list(OUTPUTS), {INPUT: np.ascontiguousarray(windows)}
            )
        except _FAULTS as error:
            raise _unusable(error) from error
        return Predictions(signals, classes, probability, confidence, _whole(base, classes.shape[1]))


def open_session(model: bytes) -> Any:
    """ONNX Runtime on a graph, one thread, silent."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _whole(others: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
    """Class probabilities [N, M, K] of base models from those after the first class, [N, M * (K-1)]."""
    later = others.reshape(len(others), -1, classes - 1)
    return np.concatenate([1.0 - later.sum(axis=2, keepdims=True), later], axis=2)


def _unusable(error: Any) -> ArtifactError:
    reason = " ".join(str(error).split())
    return ArtifactError(f"the ONNX graph cannot be run: {reason}; export it again")
