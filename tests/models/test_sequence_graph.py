"""The writers of the sequence families: what torch says, the graph says."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from core.errors import ArtifactError
from models import sequence_graph
from models.dataset import Dataset, windows
from models.families import FAMILIES
from models.families.sequence import SequenceModel
from models.graph import DOUBLE, FLOAT, WIDE, Graph
from models.link_graph import link
from models.quantise import quantise
from models.targets import Target

WINDOW, FEATURES, N = 12, 7, 600
SEQUENCES = [name for name, family in FAMILIES.items() if family.sequence]
every_sequence = pytest.mark.parametrize("name", SEQUENCES)

SHAPES: list[tuple[str, dict[str, int]]] = [
    *((name, {}) for name in SEQUENCES),
    ("lstm", {"hidden": 5}),
    ("bigru", {"hidden": 3}),
    ("tcn", {"kernel": 3, "channels": 6}),
    ("tcn", {"kernel": 12}),
    ("transformer", {"layers": 2}),
    ("transformer", {"layers": 3, "heads": 4, "width": 8}),
    ("transformer", {"heads": 1}),
]


@pytest.fixture(scope="module")
def x() -> NDArray[np.float32]:
    """Features far from scale 1, one in ten missing."""
    rng = np.random.default_rng(5)
    values = rng.normal(size=(N, FEATURES)) * np.logspace(-3, 3, FEATURES) + rng.normal(size=FEATURES)
    return np.where(rng.random(values.shape) < 0.1, np.nan, values).astype(np.float32)


def make(name: str, x: NDArray[np.float32], classes: int = 2, window: int = WINDOW, **sizes: int) -> Any:
    """A model of random weights, larger than training leaves: that hardly changes the scale of what networks
    are drawn with, here half as much again, and its heads stay below 0.05, here 0.3.
    """
    times = np.arange(N, dtype=np.int64)
    target = Target("direction" if classes == 2 else "barrier")
    y = (np.arange(N) % classes).astype(float)
    data = Dataset(times, x, y, np.ones(N), times + 1, tuple(f"f{k}" for k in range(FEATURES)), target)
    params = {"max_epochs": 0, **sizes}
    model = FAMILIES[name].fit(data, np.arange(N), seed=1, window=window, params=params)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        for tensor, parameter in model.network.named_parameters():  # type: ignore[attr-defined]
            drawn = torch.randn_like(parameter)
            parameter.copy_(0.3 * drawn if tensor == "head.weight" else 1.5 * parameter + 0.1 * drawn)
    return model


def written(models: dict[str, SequenceModel], window: int = WINDOW) -> bytes:
    graph = Graph("test")
    inputs = graph.input("features", FLOAT, ["N", window, FEATURES])
    for name, model in models.items():
        others = model.sizes["outputs"]
        said = getattr(sequence_graph, f"write_{name}")(graph, model, inputs)
        bases = link(graph, [said], others + 1, inputs)
        graph.output(bases.probabilities.each(graph, 1), name, DOUBLE, ["N", others])
    return graph.to_bytes()


def run(model: bytes, inputs: NDArray[np.float32]) -> list[NDArray[np.float64]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    answers: list[NDArray[np.float64]] = session.run(None, {"features": np.ascontiguousarray(inputs)})
    return answers


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("name", "sizes"), SHAPES)
def test_the_graph_says_what_torch_says(
    name: str, sizes: dict[str, int], classes: int, x: NDArray[np.float32]
) -> None:
    model = make(name, x, classes, **sizes)
    graph, rows = written({name: model}), np.arange(512)  # the first windows reach back before the data
    native, inputs = model.predict(x, rows), windows(x, rows, WINDOW)
    assert native.std(axis=0).max() > 0.02  # or agreement would say nothing
    (together,) = run(graph, inputs)
    assert together.dtype == np.float64
    np.testing.assert_allclose(together, native[:, 1:], rtol=0, atol=1e-6)
    for row in (0, 5, 100):
        (alone,) = run(graph, inputs[row : row + 1])
        np.testing.assert_allclose(alone, native[[row], 1:], rtol=0, atol=1e-6)


@every_sequence
def test_nothing_but_missing_values_is_an_answer_too(name: str, x: NDArray[np.float32]) -> None:
    model, empty = make(name, x), np.full((WINDOW, FEATURES), np.nan, dtype=np.float32)
    (answer,) = run(written({name: model}), empty[None])
    np.testing.assert_allclose(answer, model.predict(empty, np.array([WINDOW - 1]))[:, 1:], rtol=0, atol=1e-6)
    assert np.isfinite(answer).all()


@every_sequence
def test_a_shorter_model_reads_the_last_rows_of_the_window(name: str, x: NDArray[np.float32]) -> None:
    model, rows = make(name, x, window=5), np.arange(60)
    (answers,) = run(written({name: model}), windows(x, rows, WINDOW))
    np.testing.assert_allclose(answers, model.predict(x, rows)[:, 1:], rtol=0, atol=1e-6)


@every_sequence
def test_the_graph_is_standard_onnx_and_always_the_same(name: str, x: NDArray[np.float32]) -> None:
    content = written({name: make(name, x)})
    assert content == written({name: make(name, x)})
    model = onnx.load_from_string(content)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx.ml"}
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 21


@every_sequence
def test_a_network_that_the_writer_does_not_know_is_refused(name: str, x: NDArray[np.float32]) -> None:
    model = make(name, x)
    network = deepcopy(model.network)
    network.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ArtifactError, match=r"'extra', 2.*must describe one network"):
        written({name: replace(model, network=network)})


def test_families_fitted_on_the_same_rows_scale_them_once(x: NDArray[np.float32]) -> None:
    content = written({name: make(name, x) for name in SEQUENCES})
    ops = [node.op_type for node in onnx.load_from_string(content).graph.node]
    assert ops.count("ThresholdedRelu") == ops.count("Sub") == 1
    answers = run(content, windows(x, np.arange(50), WINDOW))
    for name, answer in zip(SEQUENCES, answers, strict=True):
        np.testing.assert_allclose(answer, make(name, x).predict(x, np.arange(50))[:, 1:], rtol=0, atol=1e-6)


def test_a_wide_layer_reads_rows_of_one_scale(x: NDArray[np.float32]) -> None:
    """So that 8 bits can hold its rows: by their own scales most features would be rounded to nothing."""
    model, inputs = make("lstm", x, hidden=WIDE), windows(x, np.arange(20), WINDOW)
    graph = written({"lstm": model})
    np.testing.assert_allclose(
        run(graph, inputs)[0], model.predict(x, np.arange(20))[:, 1:], rtol=0, atol=1e-6
    )
    ticks = iter([0.0, 2.0, 2.0, 3.0] * 9)
    done = quantise(graph, inputs, parity_limit=0.02, clock=lambda: next(ticks))
    assert done.used, done.reason


def test_a_window_is_cut_only_for_models_that_read_less(x: NDArray[np.float32]) -> None:
    models = {name: make(name, x, window=5) for name in SEQUENCES}
    for window, cuts in ((5, 0), (WINDOW, 1)):
        ops = [node.op_type for node in onnx.load_from_string(written(models, window)).graph.node]
        assert ops.count("Slice") == cuts


def test_outputs_are_what_nodes_make_and_copies_only_of_each_other() -> None:
    graph = Graph("test")
    root = graph.node("Sqrt", [graph.input("x", FLOAT, ["N"])])
    twice = graph.node("Add", [root, root])
    for source, name in ((root, "root"), (twice, "twice"), (root, "same")):
        graph.output(source, name, FLOAT, ["N"])
    content = graph.to_bytes()
    assert content == graph.to_bytes()
    nodes = onnx.load_from_string(content).graph.node
    assert [node.op_type for node in nodes] == ["Sqrt", "Add", "Identity"]
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert [out.tolist() for out in session.run(None, {"x": np.array([4.0], np.float32)})] == [
        [2.0],
        [4.0],
        [2.0],
    ]


def test_a_product_that_changes_nothing_is_no_node() -> None:
    graph = Graph("test")
    x = graph.input("x", DOUBLE, ["N", 2])
    assert graph.linear(x, np.eye(2)) == graph.linear(x, np.eye(2), np.zeros(2)) == x
    others = [
        graph.linear(x, np.eye(2), np.ones(2)),
        graph.linear(x, np.eye(2)[::-1]),
        graph.linear(x, np.ones((2, 1))),
    ]
    assert len({x, *others}) == 4


def test_equal_nodes_are_one_and_different_ones_are_not() -> None:
    graph = Graph("test")
    x = graph.input("x", FLOAT, ["N", 4])
    parts = graph.node("Split", [x], outputs=2, axis=1, num_outputs=2)
    assert graph.node("Split", [x], outputs=2, axis=1, num_outputs=2) == parts
    assert graph.nodes == 1
    others = [
        graph.node("Split", [x], outputs=4, axis=1, num_outputs=4),
        graph.node("Softmax", [x], axis=0),
        graph.node("Softmax", [x], axis=1),
        graph.node("Softmax", [parts], axis=1),
        graph.node("Scaler", [x], domain="ai.onnx.ml", offset=[0.0], scale=[1.0]),
        graph.node("Scaler", [x], domain="ai.onnx.ml", offset=[0.0], scale=[2.0]),
    ]
    assert len({parts, *others}) == graph.nodes == 7
