"""The whole ensemble as one ONNX graph of standard operators, double wherever training is double.

    features float32 [N, T, F]
      -> every base model -> probabilities of its classes after the first, double [N, K-1]
      -> combination -> calibrator -> class_probabilities double [N, K]
      -> signal -> probability double [N]; base_probabilities double [N, M]: the same of every base model
      -> confidence double [N]

Tabular models read the last row of the window; NaN is missing. Equal models give equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import ArtifactError
from models.combination import Combination, Stack
from models.families import FAMILIES
from models.graph import DOUBLE, FLOAT, Graph
from models.logits import CLIP, Floats
from models.sequence_graph import write_bigru, write_lstm, write_tcn, write_transformer
from models.tree_graph import from_catboost, from_forest, from_lightgbm, from_xgboost

if TYPE_CHECKING:
    from models.calibration import Calibrator, Steps
    from models.ensemble import Ensemble
    from models.targets import Target

INPUT = "features"
OUTPUTS = (
    "probability",
    "base_probabilities",
    "confidence",
    "class_probabilities",
    "base_class_probabilities",
)


def export(ensemble: Ensemble) -> bytes:
    """One graph over windows of `ensemble.window` rows of its features.

    ArtifactError: a family has no writer, or the models do not fit each other.
    """
    _check(ensemble)
    target, head, names = ensemble.target, ensemble.head, ensemble.names
    graph = Graph("bellwether")
    windows = graph.input(INPUT, FLOAT, ["N", ensemble.window, len(ensemble.feature_names)])
    last = _last_row(graph, windows)
    columns = [
        _WRITERS[name](graph, ensemble.fitted[name], windows if FAMILIES[name].sequence else last)
        for name in names
    ]
    base = _join(graph, columns)  # [N, M * (K-1)], model by model
    classes = _write_classes(graph, base, head.combination, head.calibrator, len(target.classes))
    side = None if target.column is None else _write_side(graph, last, target.column)
    signal = _write_signal(graph, target, classes, side)
    signals = _write_base_signals(graph, target, base, len(names), side)
    trust = _write_confidence(graph, signal, signals, head.combination.shares(), head.skill)
    graph.output(signal, OUTPUTS[0], DOUBLE, ["N"])
    graph.output(signals, OUTPUTS[1], DOUBLE, ["N", len(names)])
    graph.output(trust, OUTPUTS[2], DOUBLE, ["N"])
    graph.output(classes, OUTPUTS[3], DOUBLE, ["N", len(target.classes)])
    graph.output(base, OUTPUTS[4], DOUBLE, ["N", len(names) * (len(target.classes) - 1)])
    return graph.to_bytes()


def _check(ensemble: Ensemble) -> None:
    names, width = ensemble.names, len(ensemble.feature_names)
    unknown = sorted(set(names) - set(_WRITERS))
    if unknown:
        raise ArtifactError(
            f"model family {', '.join(unknown)} has no ONNX writer: choose from {', '.join(_WRITERS)}"
        )
    if set(ensemble.fitted) != set(names):
        raise ArtifactError(
            f"fitted models {sorted(ensemble.fitted)} are not the combination's {sorted(names)}: "
            "fit the combination on all of them"
        )
    for name, model in ensemble.fitted.items():
        reads, given = getattr(model, "window", 1), len(getattr(model, "mean", ())) or width
        if reads > ensemble.window:
            raise ArtifactError(
                f"{name} reads {reads} rows, the graph offers {ensemble.window}: "
                f"export with window >= {reads}"
            )
        if given != width:
            raise ArtifactError(
                f"{name} was fitted on {given} features, the graph has {width}: "
                "train and export with one list"
            )


def _last_row(graph: Graph, windows: str) -> str:
    """The last row of every window, widened: double [N, F]."""
    row = graph.node("Gather", [windows, graph.const(-1, np.int64)], axis=1)
    return graph.node("Cast", [row], to=DOUBLE)


def _write_base_rate(graph: Graph, model: Any, last: str) -> str:
    rates = model.rates[None, 1:]
    rows = graph.node("Shape", [last], start=0, end=1)
    shape = graph.node("Concat", [rows, graph.indices(rates.shape[1])], axis=0)
    return graph.node("Expand", [graph.const(rates), shape])


def _write_logistic(graph: Graph, model: Any, last: str) -> str:
    scaled = graph.scale(last, model.mean, model.scale)
    if len(model.intercept) == 1:
        return graph.node("Sigmoid", [_linear(graph, scaled, model.coef.T, model.intercept)])
    # A first column of zeros: the log-odds of the first class against itself.
    weights, bias = np.pad(model.coef.T, ((0, 0), (1, 0))), np.pad(model.intercept, (1, 0))
    return graph.slice(_softmax(graph, _linear(graph, scaled, weights, bias)), 1, axis=1)


def _write_lightgbm(graph: Graph, model: Any, last: str) -> str:
    return from_lightgbm(model.booster).write(graph, last)


def _write_catboost(graph: Graph, model: Any, last: str) -> str:
    return from_catboost(model.model).write(graph, last)


def _write_xgboost(graph: Graph, model: Any, last: str) -> str:
    return from_xgboost(model.booster).write(graph, last)


def _write_random_forest(graph: Graph, model: Any, last: str) -> str:
    return from_forest(model).write(graph, last)


_WRITERS: dict[str, Callable[[Graph, Any, str], str]] = {
    "base_rate": _write_base_rate,
    "logistic": _write_logistic,
    "lightgbm": _write_lightgbm,
    "catboost": _write_catboost,
    "xgboost": _write_xgboost,
    "random_forest": _write_random_forest,
    "lstm": write_lstm,
    "transformer": write_transformer,
    "tcn": write_tcn,
    "bigru": write_bigru,
}


def _write_classes(
    graph: Graph, base: str, combination: Combination, calibrator: Calibrator, classes: int
) -> str:
    """Calibrated class probabilities, double [N, K]."""
    models, others = len(combination.names), classes - 1
    # P(first) of every model beside its others: [N, M * K]
    others_summed = base if others == 1 else graph.node("MatMul", [base, graph.const(_sums(models, others))])
    first = graph.node("Sub", [graph.const(1.0), others_summed])
    every = graph.node("Concat", [base, first], axis=1)
    slope, shift = calibrator.a, np.concatenate([[0.0], calibrator.b])
    if isinstance(combination, Stack):
        # Weights of log-probabilities rather than of log-odds: softmax takes away what all classes share.
        shift = shift + slope * np.concatenate([[0.0], combination.intercept])
        weights = _by_class(slope * combination.coef, others)
        logits = _linear(graph, _log(graph, every), weights, shift)
    else:
        mixed = graph.node("MatMul", [every, graph.const(_by_class(combination.weights, others))])
        logits = _affine(graph, _log(graph, mixed), slope, shift)
    probability = _softmax(graph, logits)
    return (
        probability if calibrator.kind != "isotonic" else _write_steps(graph, calibrator.steps, probability)
    )


def _sums(models: int, others: int) -> Floats:
    """Adds up each model's columns: [M * others, M]."""
    return np.asarray(np.kron(np.eye(models), np.ones((others, 1))), dtype=np.float64)


def _by_class(weights: Floats, others: int) -> Floats:
    """Adds up the models' columns of each class under `weights` [M]: [M * others + M, 1 + others]."""
    after = np.kron(weights[:, None], np.eye(others))  # [M * others, others]
    first = np.pad(weights[:, None], ((0, 0), (0, others)))
    return np.concatenate([np.pad(after, ((0, 0), (1, 0))), first])


def _write_steps(graph: Graph, steps: tuple[Steps, ...], probability: str) -> str:
    """Isotonic maps of class probabilities [N, K]: one of the last class of two, or one per class."""
    if len(steps) == 1:
        up = _write_interpolation(graph, steps[0], _column(graph, probability, 1))
        return graph.node("Concat", [graph.node("Sub", [graph.const(1.0), up]), up], axis=1)
    raised = _join(
        graph, [_write_interpolation(graph, s, _column(graph, probability, k)) for k, s in enumerate(steps)]
    )
    total = graph.node("ReduceSum", [raised, graph.indices(1)], keepdims=1)
    return graph.node("Div", [raised, total])


def _write_interpolation(graph: Graph, steps: Steps, at: str) -> str:
    """Linear interpolation as a sum of ramps: y0 + sum of slope_k * clip(at - x_k, 0, x_(k+1) - x_k)."""
    x, y = np.array(steps.x, dtype=np.float64), np.array(steps.y, dtype=np.float64)
    if len(x) < 2:
        return _affine(graph, at, 0.0, y)
    widths = np.diff(x)
    ramps = graph.node("Sub", [at, graph.const(x[:-1])])  # [N, knots - 1]
    ramps = graph.node("Min", [graph.node("Max", [ramps, graph.const(0.0)]), graph.const(widths)])
    total = _linear(graph, ramps, (np.diff(y) / widths)[:, None], y[:1])
    return graph.node("Clip", [total, graph.const(float(y.min())), graph.const(float(y.max()))])


def _write_side(graph: Graph, last: str, column: int) -> str:
    """-1, 0 or 1: the side of the primary signal, 0 where it is missing; double [N, 1]."""
    side = graph.node("Gather", [last, graph.indices(column)], axis=1)
    missing = graph.node("IsNaN", [side])
    return graph.node("Where", [missing, graph.const(0.0), graph.node("Sign", [side])])


def _write_signal(graph: Graph, target: Target, classes: str, side: str | None) -> str:
    """Target.signal of class probabilities [N, K]: double [N]."""
    if side is None:
        return graph.node("MatMul", [classes, graph.const(_ASCENT[len(target.classes)])])
    sized = _sized(graph, _column(graph, classes, 1), side)
    return graph.node("Squeeze", [sized, graph.indices(1)])


def _write_base_signals(graph: Graph, target: Target, base: str, models: int, side: str | None) -> str:
    """Target.signal of every model, double [N, M], of its classes after the first, [N, M * (K-1)]."""
    if side is not None:
        return _sized(graph, base, side)
    if len(target.classes) == 2:
        return base
    ascent = _ASCENT[len(target.classes)][1:, None]
    return graph.node("MatMul", [base, graph.const(np.kron(np.eye(models), ascent))])


_ASCENT = {2: np.array([0.0, 1.0]), 3: np.array([0.0, 0.5, 1.0])}
"""What each class adds to the signal, by number of classes."""


def _sized(graph: Graph, right: str, side: str) -> str:
    """The side, sized by how far P(right) exceeds a half."""
    excess = graph.node("Max", [graph.node("Sub", [right, graph.const(0.5)]), graph.const(0.0)])
    return graph.node("Add", [graph.node("Mul", [side, excess]), graph.const(0.5)])


def _write_confidence(graph: Graph, signal: str, signals: str, shares: Floats, skill: float) -> str:
    """|2s - 1| * (1 - 2 spread) * skill, clipped to [0, 1], double [N]."""
    departure = graph.node("Abs", [graph.node("Sub", [signal, graph.const(0.5)])])
    if np.count_nonzero(shares) < 2:
        trust = graph.node("Mul", [departure, graph.const(2.0 * skill)])
    else:
        mean = graph.node("MatMul", [signals, graph.const(shares[:, None])])
        apart = graph.node("Sub", [signals, mean])
        variance = graph.node("MatMul", [graph.node("Mul", [apart, apart]), graph.const(shares)])
        agreement = _affine(graph, graph.node("Sqrt", [variance]), -4.0 * skill, np.array(2.0 * skill))
        trust = graph.node("Mul", [departure, agreement])
    return graph.node("Clip", [trust, graph.const(0.0), graph.const(1.0)])


def _linear(graph: Graph, x: str, weights: Floats, bias: Floats) -> str:
    return graph.node("Add", [graph.node("MatMul", [x, graph.const(weights)]), graph.const(bias)])


def _affine(graph: Graph, x: str, slope: float, shift: Floats) -> str:
    if slope != 1.0:
        x = graph.node("Mul", [x, graph.const(slope)])
    return graph.node("Add", [x, graph.const(shift)]) if shift.any() else x


def _log(graph: Graph, probability: str) -> str:
    """Logarithm of clipped probabilities."""
    return graph.node("Log", [graph.node("Clip", [probability, graph.const(CLIP), graph.const(1.0 - CLIP)])])


def _softmax(graph: Graph, logits: str) -> str:
    return graph.node("Softmax", [logits], axis=1)


def _join(graph: Graph, columns: list[str]) -> str:
    return columns[0] if len(columns) == 1 else graph.node("Concat", columns, axis=1)


def _column(graph: Graph, x: str, number: int) -> str:
    """One column [N, 1] of [N, K]."""
    return graph.node("Gather", [x, graph.indices(number)], axis=1)
