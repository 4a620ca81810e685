"""ONNX Runtime around one graph: from bytes, one thread, nothing read from beside it."""

from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as native

from core.errors import ArtifactError
from serving.artefact import Golden

INPUT = "features"
OUTPUTS = ("probability", "base_probabilities", "confidence", "class_probabilities")
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


class Outputs(NamedTuple):
    """What the graph says of N windows: float64 [N], [N, M], [N] and [N, K]."""

    probability: NDArray[np.float64]
    base_probabilities: NDArray[np.float64]
    confidence: NDArray[np.float64]
    class_probabilities: NDArray[np.float64]

    def rows(self, start: int, end: int) -> "Outputs":
        """Of some of the windows."""
        return Outputs(
            self.probability[start:end],
            self.base_probabilities[start:end],
            self.confidence[start:end],
            self.class_probabilities[start:end],
        )

    def listed(self) -> "Listed":
        """The same for reading one window after another."""
        return Listed(*(values.tolist() for values in self))


class Listed(NamedTuple):
    """Outputs as lists of Python's numbers, by window."""

    probability: list[float]
    base_probabilities: list[list[float]]
    confidence: list[float]
    class_probabilities: list[list[float]]


class Runtime:
    """A loaded graph; `run` may be called from several threads."""

    def __init__(self, model: bytes, *, window: int, features: int, base_models: int, classes: int) -> None:
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
        self.window, self.features = window, features
        self.output_shapes: dict[str, tuple[int | None, ...]] = {
            "probability": (None,),
            "base_probabilities": (None, base_models),
            "confidence": (None,),
            "class_probabilities": (None, classes),
        }
        """Of each output; None is the number of windows."""
        self._check_signature()

    def run(self, windows: NDArray[np.float32]) -> Outputs:
        """Score windows, float32 [N, T, F], the newest row last; NaN is a missing feature."""
        return Outputs(*self._session.run(OUTPUTS, {INPUT: windows}))

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
            expected = getattr(golden, name)
            if expected is not None:
                self._compare(name, np.asarray(expected), getattr(found, name), golden.tolerance)

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
        outputs = {o.name: (o.type, o.shape) for o in self._session.get_outputs()}
        wanted = {INPUT: ("tensor(float)", (None, self.window, self.features))}
        answers = {name: ("tensor(double)", shape) for name, shape in self.output_shapes.items()}
        fits = all(_fits(inputs.get(name), kind) for name, kind in wanted.items()) and len(inputs) == 1
        if not fits or not all(_fits(outputs.get(name), kind) for name, kind in answers.items()):
            shown = ", ".join(f"{name} {_shown(shape)}" for name, shape in self.output_shapes.items())
            raise ArtifactError(
                f"model.onnx has inputs {inputs} and outputs {outputs}; expected {INPUT} float "
                f"[N, {self.window}, {self.features}] and double {shown}: export it again"
            )


def _fits(found: tuple[str, list[Any]] | None, wanted: tuple[str, tuple[int | None, ...]]) -> bool:
    """True when type and shape of a tensor allow what is wanted; a size that is no number is free."""
    if found is None or found[0] != wanted[0] or len(found[1]) != len(wanted[1]):
        return False
    sizes = zip(found[1], wanted[1], strict=True)
    return all(not isinstance(have, int) or need is None or have == need for have, need in sizes)


def _shown(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join('N' if size is None else str(size) for size in shape)}]"
