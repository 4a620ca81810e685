"""The whole ensemble as one ONNX graph of standard operators, double wherever training is double.

    features float32 [N, T, F]
      -> every base model -> log-odds, margins or probabilities -> one link function for all
      -> base_class_probabilities double [N, M * (K-1)], model by model, of the classes after the first
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
from models.link_graph import Bases, Part, link, log
from models.logits import Floats
from models.sequence_graph import write_bigru, write_lstm, write_tcn, write_transformer
from models.tree_graph import from_catboost, from_forest, from_lightgbm, from_xgboost

if TYPE_CHECKING:
    from models.calibration import Calibrator, Steps
    from models.ensemble import Ensemble

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
    classes = len(target.classes)
    said = [
        _WRITERS[name](graph, ensemble.fitted[name], windows if FAMILIES[name].sequence else last)
        for name in names
    ]
    bases = link(graph, said, classes, last)
    mixed = _write_classes(graph, bases, head.combination, head.calibrator)
    side = None if target.column is None else _write_side(graph, last, target.column)
    signal = _write_signal(graph, mixed, classes, side)
    signals = _write_base_signals(graph, bases, side)
    trust = _write_confidence(graph, signal, signals, head.combination.shares(), head.skill)
    graph.output(signal, OUTPUTS[0], DOUBLE, ["N"])
    graph.output(signals, OUTPUTS[1], DOUBLE, ["N", len(names)])
    graph.output(trust, OUTPUTS[2], DOUBLE, ["N"])
    graph.output(mixed, OUTPUTS[3], DOUBLE, ["N", classes])
    graph.output(bases.probabilities.each(graph, 1), OUTPUTS[4], DOUBLE, ["N", len(names) * (classes - 1)])
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


def _write_base_rate(graph: Graph, model: Any, last: str) -> Floats:
    rates: Floats = model.rates
    return rates


def _write_logistic(graph: Graph, model: Any, last: str) -> Part:
    # In double there are digits enough to spare for the mean to be a part of the bias.
    weights = (model.coef / model.scale).T
    bias = model.intercept - (model.mean[:, None] * weights).sum(axis=0)
    filled = graph.node("Where", [graph.node("IsNaN", [last]), graph.const(model.mean), last])
    two = len(bias) == 1
    if not two:  # a first column of zeros: the log-odds of the first class against itself
        weights, bias = np.pad(weights, ((0, 0), (1, 0))), np.pad(bias, (1, 0))
    return Part(graph.linear(filled, weights, bias), "log_odds" if two else "margins")


def _write_lightgbm(graph: Graph, model: Any, last: str) -> Part:
    return from_lightgbm(model.booster).write(graph, last)


def _write_catboost(graph: Graph, model: Any, last: str) -> Part:
    return from_catboost(model.model).write(graph, last)


def _write_xgboost(graph: Graph, model: Any, last: str) -> Part:
    return from_xgboost(model.booster).write(graph, last)


def _write_random_forest(graph: Graph, model: Any, last: str) -> Part:
    return from_forest(model).write(graph, last)


_WRITERS: dict[str, Callable[[Graph, Any, str], Part | Floats]] = {
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


def _write_classes(graph: Graph, bases: Bases, combination: Combination, calibrator: Calibrator) -> str:
    """Calibrated class probabilities, double [N, K]."""
    classes = bases.probabilities.bias.shape[1]
    slope, shift = calibrator.a, np.concatenate([[0.0], calibrator.b])
    if isinstance(combination, Stack):
        by = _by_class(slope * combination.coef, classes)[:, 1:]
        shift[1:] += slope * combination.intercept
        logits = bases.log_odds(graph).mix(graph, by, shift)
    else:
        mixed = bases.probabilities.mix(graph, _by_class(combination.weights, classes))
        logits = graph.linear(log(graph, mixed), slope * np.eye(classes), shift)
    probability = graph.node("Softmax", [logits], axis=1)
    return (
        probability if calibrator.kind != "isotonic" else _write_steps(graph, calibrator.steps, probability)
    )


def _by_class(weights: Floats, classes: int) -> Floats:
    """Adds up the models' columns of each class under `weights` [M]: [M, K, K]."""
    return np.asarray(weights[:, None, None] * np.eye(classes))


def _write_steps(graph: Graph, steps: tuple[Steps, ...], probability: str) -> str:
    """Isotonic maps of class probabilities [N, K]: one of the last class of two, or one per class."""
    if len(steps) == 1:
        up = _write_interpolation(graph, steps[0], _column(graph, probability, 1))
        return graph.linear(up, np.array([[-1.0, 1.0]]), np.array([1.0, 0.0]))
    raised = graph.join(
        [_write_interpolation(graph, s, _column(graph, probability, k)) for k, s in enumerate(steps)]
    )
    total = graph.node("ReduceSum", [raised, graph.indices(1)], keepdims=1)
    return graph.node("Div", [raised, total])


def _write_interpolation(graph: Graph, steps: Steps, at: str) -> str:
    """Linear interpolation as a sum of ramps: y0 + sum of slope_k * clip(at - x_k, 0, x_(k+1) - x_k)."""
    x, y = np.array(steps.x, dtype=np.float64), np.array(steps.y, dtype=np.float64)
    if len(x) < 2:
        return graph.linear(at, np.zeros((1, 1)), y)
    widths = np.diff(x)
    ramps = graph.node("Sub", [at, graph.const(x[:-1])])  # [N, knots - 1]
    ramps = graph.node("Min", [graph.node("Max", [ramps, graph.const(0.0)]), graph.const(widths)])
    total = graph.linear(ramps, (np.diff(y) / widths)[:, None], y[:1])
    return graph.node("Clip", [total, graph.const(float(y.min())), graph.const(float(y.max()))])


def _write_side(graph: Graph, last: str, column: int) -> str:
    """-1, 0 or 1: the side of the primary signal, 0 where it is missing; double [N, 1]."""
    side = graph.node("Gather", [last, graph.indices(column)], axis=1)
    missing = graph.node("IsNaN", [side])
    return graph.node("Where", [missing, graph.const(0.0), graph.node("Sign", [side])])


def _write_signal(graph: Graph, mixed: str, classes: int, side: str | None) -> str:
    """Target.signal of class probabilities [N, K]: double [N]."""
    if side is None and classes == 2:
        return graph.node("Gather", [mixed, graph.const(1, np.int64)], axis=1)
    if side is None:
        return graph.node("MatMul", [mixed, graph.const(_ASCENT[classes])])
    sized = _sized(graph, _column(graph, mixed, 1), side)
    return graph.node("Squeeze", [sized, graph.indices(1)])


def _write_base_signals(graph: Graph, bases: Bases, side: str | None) -> str:
    """Target.signal of every model, double [N, M]."""
    models, classes = bases.probabilities.bias.shape
    ascent = bases.probabilities.mix(graph, np.eye(models)[:, None] * _ASCENT[classes][:, None])
    return ascent if side is None else _sized(graph, ascent, side)


_ASCENT = {2: np.array([0.0, 1.0]), 3: np.array([0.0, 0.5, 1.0])}
"""What each class adds to the signal, by number of classes."""


def _sized(graph: Graph, right: str, side: str) -> str:
    """The side, sized by how far P(right) exceeds a half."""
    excess = graph.node("Max", [graph.node("Sub", [right, graph.const(0.5)]), graph.const(0.0)])
    return graph.node("Add", [graph.node("Mul", [side, excess]), graph.const(0.5)])


def _write_confidence(graph: Graph, signal: str, signals: str, shares: Floats, skill: float) -> str:
    """|2s - 1| * (1 - 2 spread) * skill, double [N]; nothing in it can exceed 1 or, spread <= 1/2, be < 0."""
    departure = graph.node("Sub", [signal, graph.const(0.5)])
    agreement = graph.const(2.0 * skill)
    heard = np.flatnonzero(shares)
    if len(heard) > 1:
        # The spread is the length of these: each departure from the mean, by the root of its share.
        apart = (np.eye(len(shares)) - shares[:, None])[:, heard] * (4.0 * skill * np.sqrt(shares[heard]))
        spread = graph.node("ReduceL2", [graph.linear(signals, apart), graph.indices(1)], keepdims=0)
        agreement = graph.node("Sub", [agreement, spread])
    return graph.node("Abs", [graph.node("Mul", [departure, agreement])])


def _column(graph: Graph, x: str, number: int) -> str:
    """One column [N, 1] of [N, K]."""
    return graph.node("Gather", [x, graph.indices(number)], axis=1)
