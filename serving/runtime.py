"""ONNX Runtime around one graph: from bytes, one thread, nothing read from beside it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as native

from core.errors import ArtifactError
from serving.artefact import Golden

INPUT = "features"
OUTPUTS = ("probability", "base_probabilities", "confidence")
_FAULTS = (
    native.EPFail,
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.InvalidProtobuf,
    native.NoSuchFile,
    native.NotFound,
    native.NotImplemented,
    native.RuntimeException,
)
# A tensor stored outside the file carries the protobuf entry key="location".
_EXTERNAL = b"\x0a\x08location"


@dataclass(frozen=True)
class Outputs:
    """What the graph says of N windows: float64 [N], [N, M] and [N]."""

    probability: NDArray[np.float64]
    base_probabilities: NDArray[np.float64]
    confidence: NDArray[np.float64]


class Runtime:
    """A loaded graph; `run` may be called from several threads."""

    def __init__(self, model: bytes, *, window: int, features: int, base_models: int) -> None:
        """Load `model`; ArtifactError when it is not the graph the manifest describes."""
        if _EXTERNAL in model:
            raise ArtifactError("model.onnx refers to data outside the file: export it as one file")
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except _FAULTS as error:
            raise ArtifactError(f"model.onnx cannot be loaded ({error}): export the bundle again") from error
        self.window, self.features, self.base_models = window, features, base_models
        self._check_signature()

    def run(self, windows: NDArray[np.float32]) -> Outputs:
        """Score windows, float32 [N, T, F], the newest row last; NaN is a missing feature."""
        probability, base, confidence = self._session.run(OUTPUTS, {INPUT: windows})
        return Outputs(probability, base, confidence)

    def check_golden(self, golden: Golden) -> None:
        """Score the recorded cases; ArtifactError when an output is off by more than their tolerance."""
        inputs = np.array(golden.inputs, dtype=np.float32)
        if inputs.ndim != 3 or inputs.shape[0] == 0:
            raise ArtifactError(
                f"golden.json has inputs of shape {inputs.shape}: at least one case [N, T, F] is needed"
            )
        try:
            found = self.run(inputs)
        except _FAULTS as error:
            raise ArtifactError(
                f"model.onnx cannot score its golden cases ({error}): export it again"
            ) from error
        for name in OUTPUTS:
            self._compare(name, np.asarray(getattr(golden, name)), getattr(found, name), golden.tolerance)

    @staticmethod
    def _compare(name: str, expected: NDArray[Any], found: NDArray[Any], tolerance: float) -> None:
        if expected.shape != found.shape:
            raise ArtifactError(f"golden {name} has shape {expected.shape}, the model gives {found.shape}")
        worst = float(np.max(np.abs(expected - found), initial=0.0))
        if not worst <= tolerance:
            raise ArtifactError(
                f"golden {name} differs by {worst:.3g}, allowed is {tolerance:.3g}: this runtime does not "
                "reproduce the model; export it again or use the pinned onnxruntime"
            )

    def _check_signature(self) -> None:
        inputs = {i.name: (i.type, i.shape) for i in self._session.get_inputs()}
        outputs = {o.name: o.type for o in self._session.get_outputs()}
        kind, shape = inputs.get(INPUT, (None, []))
        fits = (
            kind == "tensor(float)" and len(inputs) == 1 and _fits(shape, (None, self.window, self.features))
        )
        if not fits or any(outputs.get(name) != "tensor(double)" for name in OUTPUTS):
            raise ArtifactError(
                f"model.onnx has inputs {inputs} and outputs {outputs}; expected {INPUT} float "
                f"[N, {self.window}, {self.features}] and double {', '.join(OUTPUTS)}: export it again"
            )


def _fits(shape: list[Any], wanted: tuple[int | None, ...]) -> bool:
    if len(shape) != len(wanted):
        return False
    return all(
        not isinstance(have, int) or need is None or have == need
        for have, need in zip(shape, wanted, strict=True)
    )
