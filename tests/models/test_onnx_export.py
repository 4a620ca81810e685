"""The whole graph: right, dynamic, standard and the same bytes every time."""

import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from core.errors import ArtifactError
from core.files import sha256_bytes
from models.calibration import Calibrator, Steps
from models.combination import Method, Pool, Stack
from models.dataset import Dataset, windows
from models.ensemble import Ensemble, Head, Recipe
from models.families import FAMILIES
from models.onnx_export import OUTPUTS, export
from models.onnx_run import Runner
from tests.models.ensembles import WINDOW, Rows, build_ensemble

ROOT = Path(__file__).resolve().parents[2]
FIELDS = ("base", "classes", "probability", "confidence")
DEFAULT = ("base_rate", "logistic", "lightgbm", "catboost", "lstm")
TABULAR = ["base_rate", "logistic", "lightgbm"]

EXPORT_AGAIN = """
import sys
from pathlib import Path
from core.files import sha256_bytes
from models.ensemble import Ensemble
from models.onnx_export import export
print(sha256_bytes(export(Ensemble.load(Path(sys.argv[1])))))
"""


def assert_same(ensemble: Ensemble, x: Any, rows: Rows, model: bytes | None = None) -> None:
    """The graph says of every output what the libraries say."""
    native = ensemble.predict(x, rows)
    answers = Runner(model or export(ensemble))(windows(x, rows, ensemble.window))
    for field in FIELDS:
        one, other = getattr(answers, field), getattr(native, field)
        assert one.dtype == np.dtype("float64")
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6, err_msg=field)


def with_head(ensemble: Ensemble, **changes: Any) -> Ensemble:
    head: Head = replace(ensemble.head, **changes)
    return replace(ensemble, head=head)


@pytest.fixture(scope="module")
def three_class_ensemble(three_class_data: Dataset, held_out: Rows) -> Ensemble:
    return build_ensemble(three_class_data, np.arange(800), held_out, list(FAMILIES), Recipe())


def test_every_family_has_a_writer(export_ensemble: Ensemble) -> None:
    assert export_ensemble.names == tuple(FAMILIES)


def test_every_output_is_what_training_says(
    export_data: Dataset, export_ensemble: Ensemble, export_bytes: bytes, held_out: Rows
) -> None:
    rows = np.concatenate([np.arange(WINDOW), held_out])  # the first windows reach back before the data
    assert_same(export_ensemble, export_data.x, rows, export_bytes)


def test_three_classes(three_class_data: Dataset, three_class_ensemble: Ensemble, held_out: Rows) -> None:
    rows = np.concatenate([np.arange(WINDOW), held_out])
    assert_same(three_class_ensemble, three_class_data.x, rows)
    classes = three_class_ensemble.predict(three_class_data.x, held_out).classes
    assert (classes.std(axis=0) > 0.02).all()


def test_the_side_of_a_primary_signal(meta_data: Dataset, held_out: Rows) -> None:
    ensemble = build_ensemble(meta_data, np.arange(800), held_out, [*TABULAR, "lstm"], Recipe())
    assert_same(ensemble, meta_data.x, held_out)
    signal = ensemble.predict(meta_data.x, held_out).probability
    assert (signal > 0.5).any()
    assert (signal < 0.5).any()
    assert (signal == 0.5).any()


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_the_batch_is_dynamic(export_data: Dataset, export_bytes: bytes, held_out: Rows, batch: int) -> None:
    inputs = windows(export_data.x, held_out, WINDOW)
    runner = Runner(export_bytes)
    whole, part = runner(inputs[:50]), runner(inputs[:batch])
    assert part.probability.shape == part.confidence.shape == (batch,)
    assert part.base.shape == (batch, len(FAMILIES))
    assert part.classes.shape == (batch, 2)
    for field in FIELDS:
        np.testing.assert_allclose(getattr(part, field), getattr(whole, field)[:batch], rtol=0, atol=5e-7)


def test_the_graph_is_standard_onnx_without_metadata(export_bytes: bytes) -> None:
    model = onnx.load_from_string(export_bytes)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {"", "ai.onnx.ml"}
    assert not model.metadata_props
    assert not model.functions
    assert [i.name for i in model.graph.input] == ["features"]
    assert tuple(o.name for o in model.graph.output) == OUTPUTS
    assert all(t.data_location == onnx.TensorProto.DEFAULT for t in model.graph.initializer)


def test_what_the_families_share_is_computed_once(export_bytes: bytes) -> None:
    """One widened last row, one scaling of it, one of the windows; and few nodes, since each costs time."""
    model = onnx.load_from_string(export_bytes)
    ops = [node.op_type for node in model.graph.node]
    assert ops.count("Cast") == 5  # of the last row, and of the logits of four networks
    assert ops.count("IsNaN") == ops.count("ThresholdedRelu") == ops.count("Sigmoid") == 1
    assert ops.count("Slice") == 0
    assert len(ops) <= 92


def test_the_default_ensemble_is_few_nodes(
    export_data: Dataset, held_out: Rows, export_ensemble: Ensemble
) -> None:
    """Each costs a live row up to a microsecond; the last is an output that is another of two classes."""
    stack = Stack(DEFAULT, np.full(5, 0.2), np.array([0.1]))
    fitted = {name: export_ensemble.fitted[name] for name in DEFAULT}
    ensemble = replace(with_head(export_ensemble, combination=stack), fitted=fitted)
    model = export(ensemble)
    ops = [node.op_type for node in onnx.load_from_string(model).graph.node]
    assert len(ops) <= 39
    assert ops.count("Identity") == ops.count("Sigmoid") == 1
    assert not {"Slice", "Div", "Expand"} & set(ops)
    assert_same(ensemble, export_data.x, held_out, model)


def test_no_output_of_three_classes_is_a_copy(three_class_ensemble: Ensemble) -> None:
    nodes = onnx.load_from_string(export(three_class_ensemble)).graph.node
    ops = [node.op_type for node in nodes if node.op_type in ("Identity", "Slice", "Concat")]
    assert ops == ["Concat", "Concat"]  # the margins, and beside them the shares of the random forest


def test_features_far_from_zero_keep_the_digits_of_double(export_data: Dataset, held_out: Rows) -> None:
    far = replace(export_data, x=export_data.x * np.float32(1e-3) + np.float32(10.0))
    ensemble = build_ensemble(far, np.arange(800), held_out, ["base_rate", "logistic"], Recipe())
    answers = Runner(export(ensemble))(windows(far.x, held_out, WINDOW))
    native = ensemble.predict(far.x, held_out)
    np.testing.assert_allclose(answers.base, native.base, rtol=0, atol=1e-11)
    assert native.base[:, 1].std() > 0.01  # or agreement would say nothing


def test_two_processes_write_the_same_bytes(
    export_ensemble: Ensemble, export_bytes: bytes, tmp_path: Path
) -> None:
    export_ensemble.save(tmp_path)
    command = [sys.executable, "-c", EXPORT_AGAIN, str(tmp_path)]
    other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    turned = dict(reversed(export_ensemble.fitted.items()))
    again = sha256_bytes(export(replace(export_ensemble, fitted=turned)))
    assert other.stdout.strip() == sha256_bytes(export_bytes) == again


@pytest.mark.parametrize(
    "calibrator",
    [
        Calibrator("sigmoid", a=0.4, b=(-0.2,)),
        Calibrator("sigmoid", a=0.0),
        Calibrator("temperature", a=0.7),
        Calibrator("isotonic", steps=(Steps((0.3, 0.45, 0.5, 0.7), (0.2, 0.4, 0.4, 0.9)),)),
        Calibrator("isotonic", steps=(Steps((0.45, 0.55), (0.1, 0.8)),)),
        Calibrator("isotonic", steps=(Steps((0.5,), (0.61,)),)),
    ],
)
@pytest.mark.parametrize("method", ["stack", "vote"])
def test_every_calibrator_of_two_classes(
    export_data: Dataset, held_out: Rows, two: Ensemble, calibrator: Calibrator, method: Method
) -> None:
    names = two.names
    combination = Pool(names, np.array([0.0, 0.4, 0.6])) if method == "vote" else two.head.combination
    changed = with_head(two, calibrator=calibrator, combination=combination)
    assert_same(changed, export_data.x, held_out)


@pytest.mark.parametrize(
    "calibrator",
    [
        Calibrator("sigmoid", a=0.4, b=(-0.2, 0.3)),
        Calibrator("temperature", a=1.7, b=(0.0, 0.0)),
        Calibrator(
            "isotonic",
            b=(0.0, 0.0),
            steps=(
                Steps((0.3, 0.5), (0.2, 0.4)),
                Steps((0.3,), (0.3,)),
                Steps((0.1, 0.2, 0.9), (0.1, 0.2, 0.8)),
            ),
        ),
    ],
)
@pytest.mark.parametrize("method", ["stack", "vote"])
def test_every_calibrator_of_three_classes(
    three_class_data: Dataset,
    held_out: Rows,
    three_class_ensemble: Ensemble,
    calibrator: Calibrator,
    method: Method,
) -> None:
    parts = {name: three_class_ensemble.fitted[name] for name in TABULAR}
    coef = np.array([0.3, 0.5, 0.2])
    stack = Stack(tuple(TABULAR), coef, np.array([0.1, -0.1]))
    combination = Pool(tuple(TABULAR), coef) if method == "vote" else stack
    ensemble = replace(three_class_ensemble, fitted=parts, head=Head(combination, calibrator, 0.8))
    assert_same(ensemble, three_class_data.x, held_out)


@pytest.fixture(scope="module")
def two(export_ensemble: Ensemble) -> Ensemble:
    """Three tabular families of two classes."""
    stack = Stack(tuple(TABULAR), np.array([0.2, 0.5, 0.4]), np.array([0.1]))
    parts = {name: export_ensemble.fitted[name] for name in TABULAR}
    return replace(with_head(export_ensemble, combination=stack), fitted=parts)


@pytest.mark.parametrize(
    "names",
    [
        ("base_rate",),
        ("logistic",),
        ("random_forest",),
        ("base_rate", "lstm"),
        ("lightgbm", "catboost"),
        ("random_forest", "base_rate"),
        ("tcn", "random_forest", "base_rate", "xgboost"),
    ],
)
def test_any_choice_of_families(
    export_data: Dataset,
    export_ensemble: Ensemble,
    three_class_data: Dataset,
    three_class_ensemble: Ensemble,
    held_out: Rows,
    names: tuple[str, ...],
) -> None:
    even = np.full(len(names), 1.0 / len(names))
    for data, whole in ((export_data, export_ensemble), (three_class_data, three_class_ensemble)):
        fitted = {name: whole.fitted[name] for name in names}
        shift = np.full(len(data.classes) - 1, 0.1)
        for combination in (Stack(names, even, shift), Pool(names, even)):
            assert_same(replace(with_head(whole, combination=combination), fitted=fitted), data.x, held_out)


def test_a_model_that_reads_fewer_rows_reads_the_end_of_the_window(
    export_data: Dataset, export_ensemble: Ensemble, held_out: Rows
) -> None:
    assert_same(replace(export_ensemble, window=WINDOW + 5), export_data.x, held_out)


@pytest.mark.parametrize(
    ("features", "window", "names", "message"),
    [
        (10, 4, None, "export with window >= 8"),
        (9, WINDOW, None, "the graph has 9"),
        (10, WINDOW, ("logistic",), "fit the combination on all of them"),
        (10, WINDOW, ("forest",), "'?forest'? has no ONNX writer"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    export_ensemble: Ensemble, features: int, window: int, names: tuple[str, ...] | None, message: str
) -> None:
    pool = export_ensemble.head.combination if names is None else Pool(names, np.ones(len(names)))
    changed = replace(
        with_head(export_ensemble, combination=pool),
        feature_names=export_ensemble.feature_names[:features],
        window=window,
    )
    with pytest.raises(ArtifactError, match=message):
        export(changed)


def test_a_network_the_writer_does_not_know_is_refused(export_ensemble: Ensemble) -> None:
    network = deepcopy(export_ensemble.fitted["lstm"].network)  # type: ignore[attr-defined]
    network.extra = torch.nn.Linear(2, 2)
    lstm = replace(export_ensemble.fitted["lstm"], network=network)  # type: ignore[type-var]
    alone = with_head(export_ensemble, combination=Pool(("lstm",), np.ones(1)))
    with pytest.raises(ArtifactError, match=r"extra.*must describe one network"):
        export(replace(alone, fitted={"lstm": lstm}))


def test_bytes_that_are_not_a_model_are_refused(export_bytes: bytes, export_data: Dataset) -> None:
    with pytest.raises(ArtifactError, match="export it again"):
        Runner(b"not a model")
    with pytest.raises(ArtifactError, match="0 windows"):
        Runner(export_bytes)(np.empty((0, WINDOW, 10), np.float32))
    with pytest.raises(ArtifactError, match="cannot be run"):
        Runner(export_bytes)(export_data.x[None, :3])
