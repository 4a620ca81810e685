"""8-bit weights for wide layers of an exported graph, where they are measured to be faster and near enough.

What is kept depends on the machine that measures: with `export.int8` equal inputs may give unequal bundles,
so it is off by default. A narrow layer costs more to quantise at run time than its product saves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models.dataset import Features
from models.graph import WIDE
from models.onnx_export import INPUT
from models.onnx_run import open_session

LEAST_GAIN = 1.05
"""Times that the 8-bit graph must be faster: less is within the noise of timing."""
_BLOCKS = 9
# 7 bits of weight: sums of two products stay inside the 16 bits that older processors add them in
_LARGEST = 63


@dataclass(frozen=True)
class Quantised:
    """The graph to use. `used` says whether it has 8-bit weights, `reason` why or why not, in words.

    `seconds` per row of the float graph and of the 8-bit one, median over blocks, one row at a time; None
    when there was nothing to time. `difference` is the largest between their outputs.
    """

    model: bytes
    used: bool
    reason: str
    seconds: tuple[float, float] | None = None
    difference: float | None = None


def quantise(
    model: bytes, x: Features, *, parity_limit: float, clock: Callable[[], float] = time.perf_counter
) -> Quantised:
    """Dynamic 8-bit weights in every MatMul and Gemm of `model` that is WIDE columns wide or more.

    x: windows float32 [N, T, F], N >= 1, on which speed and outputs are measured; all outputs, together and
    one row at a time, may differ by `parity_limit`. The gate judges parity again, against the training
    libraries: base models that are to pass with 8-bit weights need its limit raised knowingly.
    """
    small, layers = _rewrite(model)
    if small is None:
        return Quantised(model, False, f"no layer is {WIDE} wide or more")
    before, after = open_session(model), open_session(small)
    difference = _largest_difference(before, after, x)
    if not difference <= parity_limit:
        reason = f"outputs differ by {difference:.1e} > {parity_limit:g} with 8-bit weights"
        return Quantised(model, False, reason, None, difference)
    seconds = _time(before, after, x, clock)
    gain = seconds[0] / seconds[1]
    told = f"{gain:.2f} times as fast at one row ({seconds[0] * 1e6:.0f} → {seconds[1] * 1e6:.0f} µs)"
    if gain < LEAST_GAIN:
        return Quantised(
            model, False, f"8-bit weights are {told}, needed {LEAST_GAIN:g}", seconds, difference
        )
    reason = f"{layers} layers with 8-bit weights are {told}; outputs differ by {difference:.1e}"
    return Quantised(small, True, reason, seconds, difference)


def _rewrite(model: bytes) -> tuple[bytes | None, int]:
    """The graph with wide layers in 8 bits, and how many those are; None when there is none."""
    proto = onnx.load_model_from_string(model)
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    nodes: list[Any] = []
    layers = 0
    for node in proto.graph.node:
        weight = _wide_weight(node, weights)
        layers += weight is not None
        nodes += [node] if weight is None else _layer(node, weight, proto.graph.initializer)
    if not layers:
        return None, 0
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name in used]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString(deterministic=True)), layers


def _wide_weight(node: Any, weights: dict[str, Any]) -> NDArray[np.float32] | None:
    """The matrix [in, out] that a node multiplies by, if it is one to quantise."""
    if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in weights:
        return None
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    turned = bool(given.pop("transB", 0))
    weight = numpy_helper.to_array(weights[node.input[1]])
    if weight.ndim != 2 or weight.dtype != np.float32 or any(v != _PLAIN[k] for k, v in given.items()):
        return None
    weight = weight.T if turned else weight
    return weight if weight.shape[1] >= WIDE else None


_PLAIN = {"alpha": 1.0, "beta": 1.0, "transA": 0}


def _layer(node: Any, weight: NDArray[np.float32], initializers: Any) -> list[Any]:
    """x @ weight + bias as nodes: x in 8 bits by its own range, weights by that of their column."""
    scale = np.abs(weight).max(axis=0) / np.float32(_LARGEST)
    scale = np.where(scale > 0, scale, np.float32(1)).astype(np.float32)
    own = f"{node.name}_int8"
    for name, value in (("w", np.rint(weight / scale).astype(np.int8)), ("scale", scale)):
        initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), f"{own}_{name}"))
    product, bias = node.output[0], list(node.input[2:3])
    scaled = f"{own}_product" if bias else product
    made: list[tuple[str, list[str], list[str], dict[str, Any]]] = [
        ("DynamicQuantizeLinear", [node.input[0]], [f"{own}_x", f"{own}_x_scale", f"{own}_x_zero"], {}),
        ("MatMulInteger", [f"{own}_x", f"{own}_w", f"{own}_x_zero"], [f"{own}_sum"], {}),
        ("Cast", [f"{own}_sum"], [f"{own}_float"], {"to": onnx.TensorProto.FLOAT}),
        ("Mul", [f"{own}_x_scale", f"{own}_scale"], [f"{own}_both"], {}),
        ("Mul", [f"{own}_float", f"{own}_both"], [scaled], {}),
    ]
    made += [("Add", [scaled, *bias], [product], {})] if bias else []
    return [
        helper.make_node(op, inputs, outputs, name=f"{own}_{k}", **attributes)
        for k, (op, inputs, outputs, attributes) in enumerate(made)
    ]


def _largest_difference(before: Any, after: Any, x: Features) -> float:
    """Over all outputs, of the rows together and one by one: the range of x is that of what is asked."""
    asked = [x, *(x[k : k + 1] for k in range(len(x)))]
    pairs = (
        zip(before.run(None, {INPUT: rows}), after.run(None, {INPUT: rows}), strict=True) for rows in asked
    )
    # np.max keeps NaN, so that an answer that is not a number cannot pass
    return float(np.max([np.max(np.abs(a - b)) for pair in pairs for a, b in pair]))


def _time(before: Any, after: Any, x: Features, clock: Callable[[], float]) -> tuple[float, float]:
    """Median seconds per row of either graph: blocks in turn, so that a busy moment hurts both."""
    blocks = [(_block(before, x, clock), _block(after, x, clock)) for _ in range(_BLOCKS)]
    first, second = zip(*blocks, strict=True)
    return median(first), median(second)


def _block(session: Any, x: Features, clock: Callable[[], float]) -> float:
    rows = [np.ascontiguousarray(x[k : k + 1]) for k in range(len(x))]
    begun = clock()
    for row in rows:
        session.run(None, {INPUT: row})
    return (clock() - begun) / len(rows)
