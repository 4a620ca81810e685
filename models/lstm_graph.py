"""The `lstm` family as ONNX nodes, written from its tensors: no tracing, so no batch size gets frozen in."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import ArtifactError
from models.graph import DOUBLE, FLOAT, Graph

_TENSORS = {
    *(f"{layer}.{part}" for layer in ("embed", "score", "head") for part in ("weight", "bias")),
    *(f"lstm.{part}_{kind}_l0" for part in ("weight", "bias") for kind in ("ih", "hh")),
}


def write_lstm(graph: Graph, model: Any, windows: str) -> str:
    """Append nodes that turn float32 [N, T, F] into p(up), double [N, 1]; returns the output's name.

    Scaling is double, the network float32 as in training, the final sigmoid double.
    """
    tensors = {name: tensor.numpy() for name, tensor in model.module.state_dict().items()}
    if set(tensors) != _TENSORS:
        raise ArtifactError(
            f"the LSTM and its writer disagree on the tensors {sorted(set(tensors) ^ _TENSORS)}: "
            "models.families.attention and models.lstm_graph must describe one network"
        )
    wide = graph.node("Cast", [_tail(graph, windows, model.window)], to=DOUBLE)
    scaled = graph.node("Cast", [graph.scale(wide, model.mean, model.scale)], to=FLOAT)  # [N, T, F]
    steps = graph.node("Transpose", [scaled], perm=[1, 0, 2])  # [T, N, F]
    embedded = graph.node("Tanh", [_linear(graph, tensors, "embed", steps)])  # [T, N, H]
    states = _states(graph, tensors, embedded)  # [T, N, H]
    scores = _linear(graph, tensors, "score", graph.node("Tanh", [states]))  # [T, N, 1]
    attention = graph.node("Softmax", [scores], axis=0)
    weighted = graph.node("Mul", [attention, states])
    context = graph.node("ReduceSum", [weighted, graph.indices(0)], keepdims=0)  # [N, H]
    logit = graph.node("Cast", [_linear(graph, tensors, "head", context)], to=DOUBLE)  # [N, 1]
    return graph.node("Sigmoid", [logit])


def _tail(graph: Graph, windows: str, length: int) -> str:
    end = np.iinfo(np.int64).max
    return graph.node("Slice", [windows, *(graph.indices(v) for v in (-length, end, 1))])


def _linear(graph: Graph, tensors: dict[str, NDArray[np.float32]], layer: str, x: str) -> str:
    weight = graph.const(tensors[f"{layer}.weight"].T, np.float32)
    return graph.node(
        "Add", [graph.node("MatMul", [x, weight]), graph.const(tensors[f"{layer}.bias"], np.float32)]
    )


def _states(graph: Graph, tensors: dict[str, NDArray[np.float32]], x: str) -> str:
    """Hidden states [T, N, H] of a one-layer LSTM over [T, N, H]."""
    hidden = tensors["lstm.weight_hh_l0"].shape[1]
    inner, recurrent = (_onnx_gates(tensors[f"lstm.weight_{k}_l0"])[None] for k in ("ih", "hh"))
    biases = [_onnx_gates(tensors[f"lstm.bias_{k}_l0"]) for k in ("ih", "hh")]
    constants = [graph.const(v, np.float32) for v in (inner, recurrent, np.concatenate(biases)[None])]
    sequence = graph.node("LSTM", [x, *constants], hidden_size=hidden)  # [T, 1, N, H]
    return graph.node("Squeeze", [sequence, graph.indices(1)])


def _onnx_gates(stacked: NDArray[np.float32]) -> NDArray[np.float32]:
    """torch stacks the gates input, forget, cell, output; ONNX wants input, output, forget, cell."""
    i, f, c, o = np.split(stacked, 4)
    return np.concatenate([i, o, f, c])
