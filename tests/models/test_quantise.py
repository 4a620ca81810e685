"""8-bit weights are kept when they are faster and near enough, and only for wide layers."""

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.graph import WIDE
from models.quantise import LEAST_GAIN, quantise

FEATURES, WINDOW = 6, 2
RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, WINDOW, FEATURES)).astype(np.float32)


def network(width: int, *, gemm: bool = False, **attributes: Any) -> bytes:
    """features [N, T, F] -> flat -> `width` -> `width` -> one probability [N, 1]."""
    rng = np.random.default_rng(1)
    sizes = [FEATURES * WINDOW, width, width, 1]
    nodes = [helper.make_node("Flatten", ["features"], ["h0"], name="flat", axis=1)]
    tensors = []
    for k, (rows, columns) in enumerate(pairwise(sizes)):
        weight = (rng.normal(size=(rows, columns)) / np.sqrt(rows)).astype(np.float32)
        weight[:, 0] *= columns == 1  # a column without any weight, but for the head's only one
        stored = weight.T if attributes.get("transB") else weight
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(stored), f"w{k}"))
        tensors.append(numpy_helper.from_array(rng.normal(size=columns).astype(np.float32), f"b{k}"))
        if gemm:
            nodes.append(
                helper.make_node("Gemm", [f"h{k}", f"w{k}", f"b{k}"], [f"z{k}"], f"gemm{k}", **attributes)
            )
        else:
            nodes.append(helper.make_node("MatMul", [f"h{k}", f"w{k}"], [f"m{k}"], f"matmul{k}"))
            nodes.append(helper.make_node("Add", [f"m{k}", f"b{k}"], [f"z{k}"], f"add{k}"))
        nodes.append(helper.make_node("Tanh" if k < 2 else "Sigmoid", [f"z{k}"], [f"h{k + 1}"], f"act{k}"))
    nodes.append(helper.make_node("Identity", ["h3"], ["probability"], "out"))
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", WINDOW, FEATURES])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N", 1])],
        tensors,
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(made.SerializeToString(deterministic=True))


def run(model: bytes, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"features": x})[0])


def operators(model: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(model).graph.node]


def clock(float_seconds: float, int8_seconds: float) -> Callable[[], float]:
    """A clock by which blocks take as long as said: the float graph's come first, then in turn."""

    def ticks() -> Iterator[float]:
        now = 0.0
        while True:
            for spent in (float_seconds, int8_seconds):
                yield now
                now += spent
                yield now

    times = ticks()
    return lambda: next(times)


FASTER, SLOWER, LITTLE = clock(2.0, 1.0), clock(1.0, 2.0), clock(LEAST_GAIN - 0.01, 1.0)


def test_wide_layers_that_are_faster_and_near_enough_are_kept() -> None:
    model = network(WIDE)
    done = quantise(model, X, parity_limit=0.05, clock=FASTER)
    assert done.used
    assert operators(done.model).count("MatMulInteger") == 2
    assert operators(done.model).count("MatMul") == 1  # the head is one wide
    difference = float(np.abs(run(model, X) - run(done.model, X)).max())
    assert 0 < difference <= done.difference <= 0.05  # type: ignore[operator]
    assert done.seconds == (2.0 / len(X), 1.0 / len(X))
    assert "2 layers with 8-bit weights are 2.00 times as fast" in done.reason
    assert len(done.model) < 0.4 * len(model)  # the float weights are gone


@pytest.mark.parametrize("attributes", [{}, {"transB": 1}])
def test_gemm_is_quantised_with_its_bias(attributes: dict[str, Any]) -> None:
    model = network(WIDE, gemm=True, **attributes)
    done = quantise(model, X, parity_limit=0.05, clock=FASTER)
    assert done.used
    assert operators(done.model).count("MatMulInteger") == 2


def test_a_gemm_that_scales_is_left_alone() -> None:
    model = network(WIDE, gemm=True, alpha=0.5)
    done = quantise(model, X, parity_limit=0.05, clock=FASTER)
    assert (done.used, done.reason) == (False, f"no layer is {WIDE} wide or more")


def test_each_row_is_that_of_the_integers_computed_by_hand() -> None:
    """One layer against its definition: x in 256 steps of its range, weights in 63 steps of their column."""
    model = network(WIDE)
    proto = onnx.load_model_from_string(model)
    tensors = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    x = X[:1].reshape(1, -1)
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    step = (high - low) / 255
    zero = np.rint(-low / step)
    held = (np.clip(np.rint(x / step) + zero, 0, 255) - zero) * step
    scale = np.abs(tensors["w0"]).max(axis=0) / 63
    weight = np.rint(tensors["w0"] / np.where(scale > 0, scale, 1)) * scale
    done = quantise(model, X, parity_limit=1.0, clock=FASTER)
    small = onnx.load_model_from_string(done.model)
    small.graph.output.append(helper.make_tensor_value_info("m0", TensorProto.FLOAT, ["N", WIDE]))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        small.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    np.testing.assert_allclose(session.run(["m0"], {"features": X[:1]})[0], held @ weight, atol=1e-4)


@pytest.mark.parametrize(
    ("width", "limit", "timer", "reason"),
    [
        (WIDE - 1, 0.05, FASTER, f"no layer is {WIDE} wide or more"),
        (WIDE, 1e-7, FASTER, r"outputs differ by .* > 1e-07 with 8-bit weights"),
        (WIDE, 0.05, SLOWER, r"8-bit weights are 0\.50 times as fast at one row .*, needed 1\.05"),
        (WIDE, 0.05, LITTLE, r"1\.04 times as fast"),
    ],
)
def test_else_the_float_graph_stays_and_the_reason_says_why(
    width: int, limit: float, timer: Callable[[], float], reason: str
) -> None:
    model = network(width)
    done = quantise(model, X, parity_limit=limit, clock=timer)
    assert not done.used
    assert done.model is model
    assert re.search(reason, done.reason)


def test_answers_that_are_no_numbers_never_pass() -> None:
    x = X.copy()
    x[3] = np.nan
    assert not quantise(network(WIDE), x, parity_limit=1.0, clock=FASTER).used


def test_equal_graphs_and_timings_give_equal_bytes() -> None:
    model = network(WIDE)
    first = quantise(model, X, parity_limit=0.05, clock=clock(2.0, 1.0))
    assert first == quantise(model, X, parity_limit=0.05, clock=clock(2.0, 1.0))


def test_the_real_clock_gives_a_reason_either_way() -> None:
    done = quantise(network(WIDE), X, parity_limit=0.05)
    assert done.seconds is not None
    assert min(done.seconds) > 0
    assert done.used == (done.seconds[0] / done.seconds[1] >= LEAST_GAIN)
