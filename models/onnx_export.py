"""The whole ensemble as one ONNX graph of standard operators, double wherever training is double.

    features float32 [N, T, F]
      -> every base model -> base_probabilities float64 [N, M]
      -> stack -> calibrator -> probability float64 [N]; confidence float64 [N]

Tabular models read the last row of the window; NaN is missing. Equal models give equal bytes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from core.errors import ArtifactError
from models.calibration import Calibrator
from models.ensemble import REFERENCE, Stack
from models.graph import DOUBLE, FLOAT, Graph
from models.logits import CLIP
from models.sequence_graph import write_lstm
from models.tree_graph import from_catboost, from_lightgbm

INPUT = "features"
OUTPUTS = ("probability", "base_probabilities", "confidence")


def export(
    fitted: Mapping[str, Any], stack: Stack, calibrator: Calibrator, *, features: int, window: int
) -> bytes:
    """One graph over windows of `window` rows of `features` columns, base models in the order of the stack.

    ArtifactError: a family has no writer, or the models do not fit each other.
    """
    _check(fitted, stack, features, window)
    graph = Graph("bellwether")
    windows = graph.input(INPUT, FLOAT, ["N", window, features])
    last = _last_row(graph, windows)
    columns = [
        _WRITERS[name](graph, fitted[name], windows if name == "lstm" else last) for name in stack.names
    ]
    base = graph.node("Concat", columns, axis=1)  # [N, M]
    probability = _write_calibrator(graph, calibrator, _write_stack(graph, stack, base))  # [N, 1]
    confidence = _write_confidence(graph, probability, columns, stack.names)  # [N, 1]
    graph.output(_flatten(graph, probability), OUTPUTS[0], DOUBLE, ["N"])
    graph.output(base, OUTPUTS[1], DOUBLE, ["N", len(stack.names)])
    graph.output(_flatten(graph, confidence), OUTPUTS[2], DOUBLE, ["N"])
    return graph.to_bytes()


def _check(fitted: Mapping[str, Any], stack: Stack, features: int, window: int) -> None:
    unknown = sorted(set(stack.names) - set(_WRITERS))
    if unknown:
        raise ArtifactError(
            f"model family {', '.join(unknown)} has no ONNX writer: choose from {', '.join(_WRITERS)}"
        )
    if set(fitted) != set(stack.names):
        raise ArtifactError(
            f"fitted models {sorted(fitted)} are not the stack's {sorted(stack.names)}: "
            "fit the stack on all of them"
        )
    lstm = fitted.get("lstm")
    if lstm is not None and lstm.window > window:
        raise ArtifactError(
            f"the LSTM reads {lstm.window} rows, the graph offers {window}: "
            f"export with window >= {lstm.window}"
        )
    for name, model in fitted.items():
        width = len(getattr(model, "mean", ())) or features
        if width != features:
            raise ArtifactError(
                f"{name} was fitted on {width} features, the graph has {features}: "
                "train and export with one list"
            )


def _last_row(graph: Graph, windows: str) -> str:
    """The last row of every window, widened: double [N, F]."""
    row = graph.node("Gather", [windows, graph.const(-1, np.int64)], axis=1)
    return graph.node("Cast", [row], to=DOUBLE)


def _write_base_rate(graph: Graph, model: Any, last: str) -> str:
    rows = graph.node("Shape", [last], start=0, end=1)
    shape = graph.node("Concat", [rows, graph.indices(1)], axis=0)
    return graph.node("Expand", [graph.const([[model.rate]]), shape])


def _write_logistic(graph: Graph, model: Any, last: str) -> str:
    scaled = graph.scale(last, model.mean, model.scale)
    margin = graph.node("MatMul", [scaled, graph.const(np.reshape(model.coef, (-1, 1)))])
    return graph.node("Sigmoid", [graph.node("Add", [margin, graph.const(model.intercept)])])


def _write_lightgbm(graph: Graph, model: Any, last: str) -> str:
    return from_lightgbm(model.booster).write(graph, last)


def _write_catboost(graph: Graph, model: Any, last: str) -> str:
    return from_catboost(model.model).write(graph, last)


_WRITERS: dict[str, Callable[[Graph, Any, str], str]] = {
    "base_rate": _write_base_rate,
    "logistic": _write_logistic,
    "lightgbm": _write_lightgbm,
    "catboost": _write_catboost,
    "lstm": write_lstm,
}


def _write_stack(graph: Graph, stack: Stack, base: str) -> str:
    """Log-odds of the ensemble, double [N, 1]."""
    clipped = graph.node("Clip", [base, graph.const(CLIP), graph.const(1.0 - CLIP)])
    odds = graph.node("Div", [clipped, graph.node("Sub", [graph.const(1.0), clipped])])
    logits = graph.node("Log", [odds])
    total = graph.node("MatMul", [logits, graph.const(np.reshape(stack.coef, (-1, 1)))])
    return graph.node("Add", [total, graph.const(stack.intercept)])


def _write_calibrator(graph: Graph, calibrator: Calibrator, z: str) -> str:
    """Calibrated probability of log-odds `z`, double [N, 1]."""
    if calibrator.kind == "sigmoid":
        scaled = graph.node("Mul", [z, graph.const(calibrator.a)])
        return graph.node("Sigmoid", [graph.node("Add", [scaled, graph.const(calibrator.b)])])
    return _write_interpolation(
        graph, np.array(calibrator.x, float), np.array(calibrator.y, float), graph.node("Sigmoid", [z])
    )


def _write_interpolation(graph: Graph, x: Any, y: Any, at: str) -> str:
    """Linear interpolation as a sum of ramps: y0 + sum of slope_k * clip(at - x_k, 0, x_(k+1) - x_k)."""
    if len(x) < 2:
        zero = graph.node("Mul", [at, graph.const(0.0)])
        return graph.node("Add", [zero, graph.const(y[0] if len(y) else 0.5)])
    steps = np.diff(x)
    ramps = graph.node("Sub", [at, graph.const(x[:-1])])  # [N, K]
    ramps = graph.node("Min", [graph.node("Max", [ramps, graph.const(0.0)]), graph.const(steps)])
    rise = graph.node("MatMul", [ramps, graph.const((np.diff(y) / steps).reshape(-1, 1))])
    total = graph.node("Add", [rise, graph.const(y[0])])
    return graph.node("Clip", [total, graph.const(float(y.min())), graph.const(float(y.max()))])


def _write_confidence(graph: Graph, probability: str, columns: list[str], names: tuple[str, ...]) -> str:
    """|2p - 1| * (1 - 2 std of the voting models), clipped to [0, 1], double [N, 1]."""
    doubled = graph.node("Mul", [probability, graph.const(2.0)])
    conviction = graph.node("Abs", [graph.node("Sub", [doubled, graph.const(1.0)])])
    voters = [column for column, name in zip(columns, names, strict=True) if name != REFERENCE]
    if len(voters) > 1:
        votes = graph.node("Concat", voters, axis=1)
        axes = graph.indices(1)
        departure = graph.node("Sub", [votes, graph.node("ReduceMean", [votes, axes], keepdims=1)])
        square = graph.node("Mul", [departure, departure])
        spread = graph.node("Sqrt", [graph.node("ReduceMean", [square, axes], keepdims=1)])
        agreement = graph.node("Sub", [graph.const(1.0), graph.node("Mul", [spread, graph.const(2.0)])])
        conviction = graph.node("Mul", [conviction, agreement])
    return graph.node("Clip", [conviction, graph.const(0.0), graph.const(1.0)])


def _flatten(graph: Graph, column: str) -> str:
    return graph.node("Squeeze", [column, graph.indices(1)])
