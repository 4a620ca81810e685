"""The bundle: whole, provable, and the same bytes for the same model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.bundle import GOLDEN, MANIFEST, MODEL, REFERENCE, SEAL, STATE, load_manifest, unpack_state, verify
from core.errors import ArtifactError
from core.files import directory_hashes
from models.bundle_build import golden_rows
from models.dataset import Dataset
from models.families import FAMILIES
from models.onnx_run import Runner
from models.targets import CLASSES

Make = Callable[..., Path]
Rows = np.ndarray[Any, np.dtype[np.int64]]


@pytest.fixture(scope="module")
def bundle(make_bundle: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "bundle")


def test_equal_inputs_give_equal_bytes(bundle: Path, make_bundle: Make, tmp_path: Path) -> None:
    assert directory_hashes(make_bundle(tmp_path / "again")) == directory_hashes(bundle)


def test_the_manifest_proves_every_file(bundle: Path) -> None:
    manifest = verify(bundle)
    assert set(manifest.files) | {MANIFEST, SEAL} == set(directory_hashes(bundle))
    assert manifest.classes == ["down", "up"]
    assert manifest.base_models == list(FAMILIES)
    assert list(manifest.definitions) == [f"f{k}" for k in range(10)]
    assert (manifest.tradable, manifest.reasons) == (False, ["deflated Sharpe 0.41 < 0.95"])


def test_the_manifest_names_the_classes_of_the_target(make_bundle: Make, tmp_path: Path) -> None:
    manifest = load_manifest(make_bundle(tmp_path / "bundle", classes=CLASSES["meta"]))
    assert manifest.classes == ["wrong", "right"]


def test_golden_cases_replay(bundle: Path) -> None:
    golden = json.loads((bundle / GOLDEN).read_text())
    inputs = np.array(
        [[[np.nan if v is None else v for v in row] for row in window] for window in golden["inputs"]],
        dtype=np.float32,
    )
    assert np.isnan(inputs).any()
    answers = Runner((bundle / MODEL).read_bytes())(inputs)
    assert answers.probability.tolist() == golden["probability"]
    assert answers.base.tolist() == golden["base_probabilities"]
    assert answers.confidence.tolist() == golden["confidence"]
    assert answers.classes.tolist() == golden["class_probabilities"]


def test_the_state_holds_checkpoint_and_window(bundle: Path, export_data: Dataset) -> None:
    checkpoint, window = unpack_state((bundle / STATE).read_bytes())
    assert checkpoint == b"stream"
    np.testing.assert_array_equal(window, export_data.x[-8:])


def test_the_reference_holds_features_and_probability(
    bundle: Path, export_data: Dataset, held_out: Rows
) -> None:
    table = pq.read_table(bundle / REFERENCE, page_checksum_verification=True)
    assert table.column_names == ["bar_time", *export_data.names, "probability"]
    assert table.schema.field("bar_time").type == pa.timestamp("ns", tz="UTC")
    assert table.schema.field("f3").type == pa.float32()
    np.testing.assert_array_equal(table["f3"].to_numpy(), export_data.x[held_out, 3])


def test_a_flipped_byte_in_the_reference_is_noticed(bundle: Path, tmp_path: Path) -> None:
    damaged = bytearray((bundle / REFERENCE).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / REFERENCE).write_bytes(damaged)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(tmp_path / REFERENCE, page_checksum_verification=True)


@pytest.mark.parametrize("change", [{"window": 9}, {"definitions": {"f0": "close"}}])
def test_parts_of_other_shapes_are_refused_and_the_old_bundle_stays(
    make_bundle: Make, tmp_path: Path, change: dict[str, Any]
) -> None:
    make_bundle(tmp_path / "bundle")
    before = directory_hashes(tmp_path)
    with pytest.raises(ArtifactError, match=r"state window .* should be"):
        make_bundle(tmp_path / "bundle", **change)
    assert directory_hashes(tmp_path) == before


def test_classes_that_are_not_the_graphs_are_refused(make_bundle: Make, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="the graph has 2 classes, named are down, flat, up"):
        make_bundle(tmp_path / "bundle", classes=CLASSES["barrier"])
    assert not (tmp_path / "bundle").exists()


def test_a_graph_that_does_not_load_leaves_the_old_bundle(make_bundle: Make, tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    before = directory_hashes(tmp_path)
    with pytest.raises(ArtifactError, match="cannot be run"):
        make_bundle(tmp_path / "bundle", model_bytes=b"no model")
    assert directory_hashes(tmp_path) == before


def test_another_data_hash_is_another_model(bundle: Path, make_bundle: Make, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "other", data_hash="e" * 64)
    assert load_manifest(other).files == load_manifest(bundle).files
    assert (other / MANIFEST).read_bytes() != (bundle / MANIFEST).read_bytes()


def test_golden_rows_include_the_row_with_most_gaps() -> None:
    x = np.zeros((50, 3), np.float32)
    x[17] = np.nan
    rows = golden_rows(x, np.arange(10, 50), 4)
    assert rows.tolist() == [10, 17, 23, 36, 49]
    assert golden_rows(x, np.arange(10, 12), 8).tolist() == [10, 11]
