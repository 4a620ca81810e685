"""The sequence families as ONNX nodes, written from their tensors: no tracing, so no batch size is frozen in.

Every writer turns windows float32 [N, T', F], T' >= the model's T, into the probabilities of the classes
after the first, double [N, K-1]. Scaling is double, the network float32 as in training, the probabilities
double again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import ArtifactError
from models.graph import DOUBLE, FLOAT, Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tensors = dict[str, NDArray[np.float32]]

_HEAD = ("head.weight", "head.bias")


def write_lstm(graph: Graph, model: Any, windows: str) -> str:
    """Append an LSTM pooled by attention."""
    tensors = _read_tensors(model, {"embed": 2, "head": 2, "pool": 2, "lstm": 4})
    steps = graph.node("Transpose", [_embed(graph, model, tensors, windows)], perm=[1, 0, 2])  # [T, N, H]
    states = _lstm_states(graph, tensors, graph.node("Tanh", [steps]))  # [T, N, H]
    return _finish(graph, tensors, _pool(graph, tensors, states))


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


def _embed(graph: Graph, model: Any, tensors: Tensors, windows: str) -> str:
    """Scaled and projected rows [N, T, E] of the last T rows of every window."""
    wide = graph.node("Cast", [graph.slice(windows, -model.window, 1)], to=DOUBLE)
    scaled = graph.node("Cast", [graph.scale(wide, model.mean, model.scale)], to=FLOAT)  # [N, T, F]
    return _linear(graph, tensors, "embed", scaled)


def _linear(graph: Graph, tensors: Tensors, layer: str, x: str) -> str:
    weight = graph.const(tensors[f"{layer}.weight"].T, np.float32)
    product = graph.node("MatMul", [x, weight])
    return graph.node("Add", [product, graph.const(tensors[f"{layer}.bias"], np.float32)])


def _lstm_states(graph: Graph, tensors: Tensors, x: str) -> str:
    """Hidden states [T, N, H] of a one-layer LSTM over [T, N, H]."""
    hidden = tensors["lstm.weight_hh_l0"].shape[1]
    inner, recurrent = (_lstm_gates(tensors[f"lstm.weight_{k}_l0"])[None] for k in ("ih", "hh"))
    biases = [_lstm_gates(tensors[f"lstm.bias_{k}_l0"]) for k in ("ih", "hh")]
    constants = [graph.const(v, np.float32) for v in (inner, recurrent, np.concatenate(biases)[None])]
    sequence = graph.node("LSTM", [x, *constants], hidden_size=hidden)  # [T, 1, N, H]
    return graph.node("Squeeze", [sequence, graph.indices(1)])


def _lstm_gates(stacked: NDArray[np.float32]) -> NDArray[np.float32]:
    """torch stacks the gates input, forget, cell, output; ONNX wants input, output, forget, cell."""
    i, f, c, o = np.split(stacked, 4)
    return np.concatenate([i, o, f, c])


def _pool(graph: Graph, tensors: Tensors, states: str) -> str:
    """States [T, N, H] pooled by `RecencyPool`: [N, H]."""
    weight, bias = tensors["pool.weight"].T, tensors["pool.bias"].transpose(1, 0, 2)
    product = graph.node("MatMul", [graph.node("Tanh", [states]), graph.const(weight, np.float32)])
    scores = graph.node("Add", [product, graph.const(bias, np.float32)])  # [T, N, 1]
    weighted = graph.node("Mul", [graph.node("Softmax", [scores], axis=0), states])
    return graph.node("ReduceSum", [weighted, graph.indices(0)], keepdims=0)


def _finish(graph: Graph, tensors: Tensors, pooled: str) -> str:
    """Probabilities of the classes after the first, double [N, K-1], from the head over `pooled` [N, H]."""
    if len(tensors["head.bias"]) == 1:
        return graph.node(
            "Sigmoid", [graph.node("Cast", [_linear(graph, tensors, "head", pooled)], to=DOUBLE)]
        )
    # A first output of zeros: the logit of the first class against itself.
    whole = {name: np.pad(tensors[name], ((1, 0), (0, 0))[: tensors[name].ndim]) for name in _HEAD}
    logits = graph.node("Cast", [_linear(graph, whole, "head", pooled)], to=DOUBLE)  # [N, K]
    return graph.slice(graph.node("Softmax", [logits], axis=1), 1, 1)
