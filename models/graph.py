"""A small builder of ONNX graphs: names count up, so equal calls give equal bytes; equal nodes are one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from core.errors import ArtifactError

OPSET, ML_OPSET, IR_VERSION = 21, 5, 10
FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
Shape = Sequence[int | str]

WIDE = 256
"""Columns of the smallest weight matrix that may be quantised: its rows are to be of one scale."""


class Graph:
    """Nodes and constants in the order they are added; every method returns the name of what it made."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[Any] = []
        self._made: dict[bytes, str] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], Any] = {}
        self._inputs: dict[str, Any] = {}
        self._outputs: dict[str, Any] = {}
        self._named: dict[str, str] = {}

    @property
    def nodes(self) -> int:
        """How many nodes the graph has."""
        return len(self._nodes)

    def input(self, name: str, kind: int, shape: Shape) -> str:
        """Declare an input; a string in `shape` is a free dimension."""
        self._inputs[name] = helper.make_tensor_value_info(name, kind, list(shape))
        return name

    def output(self, source: str, name: str, kind: int, shape: Shape) -> None:
        """Declare what a node made as the output `name`; declared again, it is copied."""
        if source in self._named:
            self._nodes.append(helper.make_node("Identity", [source], [name], name=name))
        self._named.setdefault(source, name)
        self._outputs[name] = helper.make_tensor_value_info(name, kind, list(shape))

    def node(
        self, op: str, inputs: Sequence[str], outputs: int = 1, domain: str = "", **attributes: Any
    ) -> str:
        """Append an operator; returns its first output's name (the others end in _1, _2, …).

        The same operator on the same inputs with the same attributes is one node: what several models
        compute of the same rows is computed once.
        """
        made = helper.make_node(op, list(inputs), [""] * outputs, domain=domain, **attributes)
        made.attribute.sort(key=lambda attribute: attribute.name)
        key = made.SerializeToString(deterministic=True)
        if key not in self._made:
            name = self._made[key] = made.name = f"{op.lower()}_{len(self._nodes)}"
            made.output[:] = [name, *(f"{name}_{k}" for k in range(1, outputs))]
            self._nodes.append(made)
        return self._made[key]

    def const(self, value: Any, dtype: Any = np.float64) -> str:
        """A constant; equal values share one initializer."""
        array = np.ascontiguousarray(value, dtype=dtype).reshape(np.shape(value))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, f"const_{len(self._constants)}")
        return str(self._constants[key].name)

    def indices(self, *values: int) -> str:
        """A constant int64 vector: axes, shapes, positions."""
        return self.const(values, np.int64)

    def linear(self, x: str, weights: Any, bias: Any = None, dtype: Any = np.float64) -> str:
        """x @ weights + bias for x [rows, in], weights [in, out]; `x` itself when that changes nothing.

        Always Gemm: ONNX Runtime joins no MatMul and Add of doubles by itself.
        """
        shift = [] if bias is None or not np.any(bias) else [self.const(bias, dtype)]
        if not shift and np.array_equal(weights, np.eye(len(weights))):
            return x
        return self.node("Gemm", [x, self.const(weights, dtype), *shift])

    def last_steps(self, windows: str, length: int) -> str:
        """The last `length` rows of an input [N, T, F]: the input itself when T is no more."""
        if self._inputs[windows].type.tensor_type.shape.dim[1].dim_value == length:
            return windows
        end = np.iinfo(np.int64).max
        return self.node("Slice", [windows, *(self.indices(value) for value in (-length, end, 1))])

    def join(self, columns: Sequence[str]) -> str:
        """Columns [N, C] side by side."""
        return columns[0] if len(columns) == 1 else self.node("Concat", columns, axis=1)

    @staticmethod
    def tensor(array: NDArray[Any]) -> Any:
        """A tensor for use as a node's attribute."""
        return numpy_helper.from_array(array)

    def to_bytes(self) -> bytes:
        """The checked model, serialised; the same calls give the same bytes in any process."""
        graph = helper.make_graph(
            [self._renamed(node) for node in self._nodes],
            self.name,
            list(self._inputs.values()),
            list(self._outputs.values()),
            list(self._constants.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
            ir_version=IR_VERSION,
            producer_name="bellwether",
        )
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ArtifactError(
                f"the exported graph is not valid ONNX ({error}): the exporter is at fault"
            ) from error
        return bytes(model.SerializeToString(deterministic=True))

    def _renamed(self, node: Any) -> Any:
        """The node with outputs of the graph under their names."""
        made = onnx.NodeProto()
        made.CopyFrom(node)
        made.input[:] = [self._named.get(name, name) for name in node.input]
        made.output[:] = [self._named.get(name, name) for name in node.output]
        return made
