"""The sequence families as ONNX nodes, written from their tensors: no tracing, so no batch size is frozen in.

Every writer turns windows float32 [N, T', F], T' >= the model's T, into logits, double [N, 1] of two classes
and [N, K] of more. The network is float32 as in training. A layer works on rows [N * T, E] in one Gemm where
it can, and whatever only the last step needs is computed for the last step alone; constant products of
weights are multiplied out in double when they are written.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import ArtifactError
from models.graph import DOUBLE, WIDE, Graph
from models.link_graph import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Array = NDArray[np.float32]
    Tensors = Mapping[str, Array]


def write_lstm(graph: Graph, model: Any, windows: str) -> Part:
    """Append an LSTM pooled by attention."""
    layers = {"embed": 2, "lstm": 4, "pool": 2, "head": 2}
    return _write_recurrent(graph, model, windows, layers, "LSTM", _lstm_gates)


def write_bigru(graph: Graph, model: Any, windows: str) -> Part:
    """Append a bidirectional GRU pooled by attention."""
    layers = {"embed": 2, "gru": 8, "pool": 2, "head": 2}
    torch_rule = {"direction": "bidirectional", "linear_before_reset": 1}
    return _write_recurrent(graph, model, windows, layers, "GRU", _gru_gates, **torch_rule)


def write_tcn(graph: Graph, model: Any, windows: str) -> Part:
    """Append the tree of dilated convolutions that the last step needs."""
    sizes, missing = model.sizes, model.network.missing
    levels = [f"layers.{level}" for level in range(len(model.network.layers))]
    tensors = _read_tensors(model, {"embed": 2, "head": 2, **dict.fromkeys(levels, 2)})
    channels, joined = sizes["channels"], sizes["kernel"] * sizes["channels"]
    x = graph.node("Tanh", [_embed(graph, model, tensors, windows)])  # [N * T, C]
    if missing:
        steps = graph.node("Reshape", [x, graph.indices(-1, sizes["window"], channels)])
        x = graph.node("Pad", [steps, graph.indices(0, missing, 0, 0, 0, 0)])
    for level in levels:
        # The residual of a layer is the newest of the steps it joins: an identity within its weights.
        residual = np.eye(channels, joined, joined - channels, dtype=np.float64)
        rows = graph.node("Reshape", [x, graph.indices(-1, joined)])
        added = _gemm(graph, rows, tensors[f"{level}.weight"] + residual, tensors[f"{level}.bias"])
        x = graph.node("Relu", [added])
    return _finish(graph, tensors, x)


def write_transformer(graph: Graph, model: Any, windows: str) -> Part:
    """Append an encoder whose last layer answers for the last step alone."""
    heads, length, width = (model.sizes[name] for name in ("heads", "window", "width"))
    parts = {"norm_1": 2, "norm_2": 2, "query": 1, "key": 1, "value": 1, "mix": 2, "widen": 2, "narrow": 2}
    layers = [f"layers.{number}" for number in range(model.sizes["layers"])]
    inner = {f"{layer}.{part}": count for layer in layers for part, count in parts.items()}
    tensors = _read_tensors(model, {"": 1, "embed": 2, "norm": 2, "head": 2, **inner})
    rows = _embed(graph, model, tensors, windows, bias=False)  # [N * T, E]
    steps = graph.node("Reshape", [rows, graph.indices(-1, length, width)])
    origin = tensors["position"] + tensors["embed.bias"]
    x = graph.node("Add", [steps, graph.const(origin, np.float32)])  # [N, T, E]
    for layer in layers:
        own = {k.removeprefix(f"{layer}."): v for k, v in tensors.items() if k.startswith(f"{layer}.")}
        attend = _attend_last if layer == layers[-1] else _attend_all
        x = _feed_forward(graph, own, attend(graph, own, x, heads, length))
    return _finish(graph, tensors, _norm(graph, tensors, "norm", x))


def _read_tensors(model: Any, layers: dict[str, int]) -> Tensors:
    """The network's tensors; ArtifactError unless it has exactly `layers`: name -> number of tensors."""
    tensors = {name: tensor.numpy() for name, tensor in model.network.state_dict().items()}
    found: dict[str, int] = {}
    for name in tensors:
        layer = name.rpartition(".")[0]
        found[layer] = found.get(layer, 0) + 1
    if found != layers:
        raise ArtifactError(
            f"the network and its writer disagree on the layers {sorted(found.items() ^ layers.items())}: "
            "the family and models.sequence_graph must describe one network"
        )
    return tensors


def _embed(graph: Graph, model: Any, tensors: Tensors, windows: str, *, bias: bool = True) -> str:
    """Scaled and projected rows [N * T, E] of the last T rows of every window."""
    tail = graph.last_steps(windows, model.window)
    # The mean once per row of the window: one long stretch is subtracted faster than T short ones.
    centred = graph.node("Sub", [tail, graph.const(np.tile(model.mean, (model.window, 1)), np.float32)])
    # Every number is above minus infinity and stays; NaN is not, and becomes 0, the mean.
    filled = graph.node("ThresholdedRelu", [centred], alpha=-math.inf)
    rows = graph.node("Reshape", [filled, graph.indices(-1, len(model.mean))])
    weight = tensors["embed.weight"].astype(np.float64)
    if len(weight) < WIDE:
        weight /= model.scale  # each product is rounded as often as if the rows were divided
    else:
        rows = graph.node("Div", [rows, graph.const(model.scale, np.float32)])
    return _gemm(graph, rows, weight, tensors["embed.bias"] if bias else None)


def _gemm(graph: Graph, x: str, weight: Any, bias: Any = None) -> str:
    """x @ weight.T + bias for x [rows, in], weight [out, in]."""
    return graph.linear(x, np.transpose(weight), bias, np.float32)


def _write_recurrent(
    graph: Graph,
    model: Any,
    windows: str,
    layers: dict[str, int],
    op: str,
    order: Callable[[Array], Array],
    **attributes: Any,
) -> Part:
    tensors, length = _read_tensors(model, layers), model.sizes["window"]
    rows = graph.node("Tanh", [_embed(graph, model, tensors, windows)])  # [N * T, E]
    width = len(tensors["embed.bias"])
    steps = graph.node("Reshape", [rows, graph.indices(-1, length, width)])
    steps = graph.node("Transpose", [steps], perm=[1, 0, 2])  # [T, N, E]
    weights = _recurrent_weights(tensors, op.lower(), order)
    hidden = model.sizes["hidden"]
    states = graph.node(
        op, [steps, *(graph.const(w, np.float32) for w in weights)], hidden_size=hidden, **attributes
    )  # [T, directions, N, H]
    if len(weights[0]) == 1:
        states = graph.node("Transpose", [states], perm=[2, 1, 0, 3])  # [N, 1, T, E]
    else:
        states = graph.node("Transpose", [states], perm=[2, 0, 1, 3])
        states = graph.node("Reshape", [states, graph.indices(-1, 1, length, width)])
    return _finish(graph, tensors, _pool(graph, tensors, states, width))


def _recurrent_weights(tensors: Tensors, layer: str, order: Callable[[Array], Array]) -> list[Array]:
    """Inputs' [D, G * H, E] and states' weights [D, G * H, H] and both biases [D, 2 * G * H]."""
    ends = [
        name.removeprefix(f"{layer}.weight_ih") for name in tensors if name.startswith(f"{layer}.weight_ih")
    ]
    inner, recurrent, first, second = (
        np.stack([order(tensors[f"{layer}.{kind}{end}"]) for end in ends])
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    return [inner, recurrent, np.concatenate([first, second], axis=1)]


def _lstm_gates(stacked: Array) -> Array:
    """torch stacks the gates input, forget, cell, output; ONNX wants input, output, forget, cell."""
    i, f, c, o = np.split(stacked, 4)
    return np.concatenate([i, o, f, c])


def _gru_gates(stacked: Array) -> Array:
    """torch stacks the gates reset, update, new; ONNX wants update, reset, new."""
    r, z, n = np.split(stacked, 3)
    return np.concatenate([z, r, n])


def _pool(graph: Graph, tensors: Tensors, states: str, width: int) -> str:
    """States [N, 1, T, E] pooled by `RecencyPool`: [N, E]."""
    bent = graph.node("Transpose", [graph.node("Tanh", [states])], perm=[0, 1, 3, 2])  # [N, 1, E, T]
    scores = graph.node("MatMul", [graph.const(tensors["pool.weight"], np.float32), bent])  # [N, 1, 1, T]
    scores = graph.node("Add", [scores, graph.const(tensors["pool.bias"].reshape(-1), np.float32)])
    pooled = graph.node("MatMul", [graph.node("Softmax", [scores], axis=-1), states])  # [N, 1, 1, E]
    return graph.node("Reshape", [pooled, graph.indices(-1, width)])


def _attend_last(graph: Graph, own: Tensors, x: str, heads: int, length: int) -> str:
    """x + attention at the last step, [N, E] of x [N, T, E].

    One query needs neither keys nor values of the T steps: with n the normed steps, its scores are
    (n_last Q'K) n and the mixed values (weights n) V'M, where Q'K and V'M are constants of each head.
    """
    width = len(own["mix.bias"])
    share = width // heads
    query, key, value = (own[f"{k}.weight"].astype(np.float64).reshape(heads, share, -1) for k in _QKV)
    mix = own["mix.weight"].astype(np.float64).reshape(-1, heads, share)
    asked = np.einsum("hsi,hsj->hji", query, key) / share**0.5  # [heads, E, E]
    told = np.einsum("hsi,ohs->ohi", value, mix)  # [E, heads, E]
    normed = _norm(graph, own, "norm_1", x)
    last = graph.const(-1, np.int64)
    wanted = _gemm(graph, graph.node("Gather", [normed, last], axis=1), asked.reshape(-1, width))
    wanted = graph.node("Reshape", [wanted, graph.indices(-1, heads, width)])
    scores = graph.node(
        "MatMul", [wanted, graph.node("Transpose", [normed], perm=[0, 2, 1])]
    )  # [N, heads, T]
    seen = graph.node("MatMul", [graph.node("Softmax", [scores], axis=-1), normed])  # [N, heads, E]
    seen = graph.node("Reshape", [seen, graph.indices(-1, heads * width)])
    mixed = _gemm(graph, seen, told.reshape(width, -1), own["mix.bias"])
    return graph.node("Add", [graph.node("Gather", [x, last], axis=1), mixed])


def _attend_all(graph: Graph, own: Tensors, x: str, heads: int, length: int) -> str:
    """x + attention at every step, [N, T, E]."""
    width = len(own["mix.bias"])
    stacked = np.concatenate([own[f"{k}.weight"] for k in _QKV])
    rows = graph.node("Reshape", [_norm(graph, own, "norm_1", x), graph.indices(-1, width)])
    mapped = _gemm(graph, rows, stacked)  # [N * T, 3 E]
    mapped = graph.node("Reshape", [mapped, graph.indices(-1, length, 3 * heads, width // heads)])
    mapped = graph.node("Transpose", [mapped], perm=[0, 2, 1, 3])  # [N, 3 heads, T, E / heads]
    query = graph.node("Split", [mapped], outputs=3, axis=1, num_outputs=3)
    key, value = f"{query}_1", f"{query}_2"
    scores = graph.node("MatMul", [query, graph.node("Transpose", [key], perm=[0, 1, 3, 2])])
    scores = graph.node("Mul", [scores, graph.const((heads / width) ** 0.5, np.float32)])
    seen = graph.node("MatMul", [graph.node("Softmax", [scores], axis=-1), value])  # [N, heads, T, E / heads]
    seen = graph.node("Transpose", [seen], perm=[0, 2, 1, 3])
    mixed = _gemm(
        graph, graph.node("Reshape", [seen, graph.indices(-1, width)]), own["mix.weight"], own["mix.bias"]
    )
    return graph.node("Add", [x, graph.node("Reshape", [mixed, graph.indices(-1, length, width)])])


_QKV = ("query", "key", "value")


def _feed_forward(graph: Graph, own: Tensors, x: str) -> str:
    normed = _norm(graph, own, "norm_2", x)
    bent = graph.node("Relu", [_linear(graph, own, "widen", normed)])
    return graph.node("Add", [x, _linear(graph, own, "narrow", bent)])


def _linear(graph: Graph, tensors: Tensors, layer: str, x: str) -> str:
    """x @ weight.T + bias of a layer, for x [..., in]."""
    product = graph.node("MatMul", [x, graph.const(tensors[f"{layer}.weight"].T, np.float32)])
    return graph.node("Add", [product, graph.const(tensors[f"{layer}.bias"], np.float32)])


def _norm(graph: Graph, tensors: Tensors, layer: str, x: str) -> str:
    constants = [graph.const(tensors[f"{layer}.{part}"], np.float32) for part in ("weight", "bias")]
    return graph.node("LayerNormalization", [x, *constants], axis=-1, epsilon=1e-5)


def _finish(graph: Graph, tensors: Tensors, pooled: str) -> Part:
    """The logits that the head gives `pooled` [N, E], widened."""
    weight, bias = tensors["head.weight"], tensors["head.bias"]
    two = len(bias) == 1
    if not two:  # a first output of zeros: the logit of the first class against itself
        weight, bias = np.pad(weight, ((1, 0), (0, 0))), np.pad(bias, (1, 0))
    logits = graph.node("Cast", [_gemm(graph, pooled, weight, bias)], to=DOUBLE)
    return Part(logits, "log_odds" if two else "margins")
