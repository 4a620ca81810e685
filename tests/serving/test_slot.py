"""Bad bundles are refused file by file while the old model serves; live state outlives a swap."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pandas as pd
import pytest

from core.bundle import GOLDEN, MANIFEST, MODEL, REGISTRATION, STATE, load_manifest, pack_state, seal
from core.errors import ArtifactError, RegistryError
from core.files import sha256_file
from serving.bar import Bar
from serving.last_good import LastGood
from serving.metrics import Metrics
from serving.resolver import DirectoryResolver, RegistryResolver
from serving.slot import Slot
from tests.serving.kit import FakeRegistry, make_bundle, make_graph, seal_manifest

NewSlot = Callable[..., Slot]


@pytest.fixture
def new_slot(tmp_path: Path) -> Iterator[NewSlot]:
    slots: list[Slot] = []

    def build(resolver: DirectoryResolver | RegistryResolver, last_good: LastGood | None = None) -> Slot:
        log_root = tmp_path / f"predictions-{len(slots)}"
        slots.append(Slot(resolver, log_root=log_root, last_good=last_good, metrics=Metrics()))
        return slots[-1]

    yield build
    for slot in slots:
        slot.close()


def _push(slot: Slot, bars: pd.DataFrame, start: int, stop: int) -> np.ndarray:
    state = slot.require().states.open("sp500")
    rows = bars.iloc[start:stop]
    values = zip(rows.index, rows.to_numpy().tolist(), strict=True)
    return np.array([state.push(Bar("sp500", time.timestamp(), *row)) for time, row in values])


def _take(slot: Slot) -> None:
    loaded = slot.look()
    assert loaded is not None
    slot.install(loaded)


def _copy(bundle: Path, to: Path) -> Path:
    return Path(shutil.copytree(bundle, to))


@pytest.mark.parametrize("name", ["model.onnx", "golden.json", "state.bin", "reference.parquet"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damage_to_a_file_is_refused_and_the_old_model_serves(
    new_slot: NewSlot, bundle: Path, tmp_path: Path, name: str, damage: str
) -> None:
    registry = FakeRegistry(tmp_path / "mlflow.db")
    registry.promote(1, bundle)
    slot = new_slot(RegistryResolver(registry.database, "sp500-1d"))
    slot.start()
    file = _copy(bundle, tmp_path / "two") / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(data if damage == "flip" else data[:-1])
    registry.promote(2, tmp_path / "two")
    assert slot.look() is None
    assert slot.require().model.version == "1"
    assert slot.status.refused is not None
    assert name in slot.status.refused
    assert slot.metrics.bundles_refused.value("sp500-1d") == 1
    # it is not loaded again at every look, and the complaint ends when the alias goes back
    assert slot.look() is None
    assert slot.metrics.bundles_refused.value("sp500-1d") == 1
    registry.alias(1)
    assert slot.look() is None
    assert slot.status.complaints == []


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"not json", b"[" * 100_000, b'{"schema_version":2}', b"\xff"]
)
def test_a_malformed_manifest_is_refused(
    new_slot: NewSlot, bundle: Path, tmp_path: Path, content: bytes
) -> None:
    broken = _copy(bundle, tmp_path / "two")
    (broken / MANIFEST).write_bytes(content)
    with pytest.raises(ArtifactError, match="manifest"):
        new_slot(DirectoryResolver(broken)).start()


@pytest.mark.parametrize(
    ("before", "after"), [('"log(', '"hog('), ('"timeframe": "1d"', '"timeframe": "1x"')]
)
def test_a_manifest_whose_words_mean_nothing_is_refused_while_the_old_model_serves(
    new_slot: NewSlot, bundle: Path, tmp_path: Path, before: str, after: str
) -> None:
    live = _copy(bundle, tmp_path / "live")
    slot = new_slot(DirectoryResolver(live))
    slot.start()
    text = (live / MANIFEST).read_text()
    assert before in text
    (live / MANIFEST).write_text(text.replace(before, after, 1))
    seal(live)
    assert slot.look() is None
    assert "manifest.json holds what" in str(slot.status.refused)
    assert slot.current is not None


def test_a_changed_manifest_is_refused_when_the_registry_knows_its_hash(
    new_slot: NewSlot, bundle: Path, tmp_path: Path
) -> None:
    changed = _copy(bundle, tmp_path / "two")
    manifest = changed / MANIFEST
    registry = FakeRegistry(tmp_path / "mlflow.db")
    registry.promote(1, changed, manifest_hash=sha256_file(manifest))
    slot = new_slot(RegistryResolver(registry.database, "sp500-1d"))
    slot.start()
    manifest.write_text(manifest.read_text().replace("0.52", "0.51"))
    with pytest.raises(ArtifactError, match=r"manifest\.json has SHA-256"):
        new_slot(RegistryResolver(registry.database, "sp500-1d")).start()


def _swap_file(bundle: Path, directory: Path, name: str, data: bytes) -> Path:
    """A bundle whose hashes are right and whose content is not."""
    changed = _copy(bundle, directory)
    (changed / name).write_bytes(data)
    seal_manifest(changed, load_manifest(changed))
    return changed


def _external(tmp_path: Path) -> bytes:
    graph = make_graph(89)
    onnx.save_model(
        graph, tmp_path / "e.onnx", save_as_external_data=True, location="e.data", size_threshold=0
    )
    return (tmp_path / "e.onnx").read_bytes()


def _without(graph: onnx.ModelProto, output: str) -> bytes:
    kept = [known for known in graph.graph.output if known.name != output]
    del graph.graph.output[:]
    graph.graph.output.extend(kept)
    return graph.SerializeToString()


def _golden(bundle: Path, **changes: Any) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode((bundle / GOLDEN).read_bytes()), **changes})


def test_content_that_does_not_hold_is_refused(new_slot: NewSlot, bundle: Path, tmp_path: Path) -> None:
    state = (bundle / STATE).read_bytes()
    cases = [
        (MODEL, b"not a graph", "cannot be loaded"),
        (MODEL, _external(tmp_path), "outside the file"),
        (MODEL, make_graph(89, bias=0.7).SerializeToString(), "golden probability differs"),
        (MODEL, make_graph(88).SerializeToString(), "expected features float"),
        (MODEL, make_graph(89, classes=3).SerializeToString(), r"class_probabilities \[N, 2\]: export"),
        (MODEL, _without(make_graph(89), "class_probabilities"), r"class_probabilities \[N, 2\]: export"),
        (MODEL, make_graph(89, window=5).SerializeToString(), "expected features float"),
        (GOLDEN, b'{"inputs":[]}', "golden.json"),
        (GOLDEN, _golden(bundle, class_probabilities=[[0.5, 0.5]] * 2), "class_probabilities differs"),
        (GOLDEN, _golden(bundle, class_probabilities=[[1.0]] * 2), "class_probabilities has shape"),
        (STATE, state[:-1], "state.bin"),
        (STATE, pack_state(b"other definitions", np.zeros((4, 89), np.float32)), "state.bin does not fit"),
        (STATE, pack_state(b"", np.zeros((3, 89), np.float32)), "window of shape"),
    ]
    for number, (name, data, message) in enumerate(cases):
        directory = _swap_file(bundle, tmp_path / str(number), name, data)
        with pytest.raises(ArtifactError, match=message):
            new_slot(DirectoryResolver(directory)).start()


def test_golden_cases_without_class_probabilities_are_of_an_earlier_export(
    new_slot: NewSlot, bundle: Path, tmp_path: Path
) -> None:
    older = _swap_file(bundle, tmp_path / "b", GOLDEN, _golden(bundle, class_probabilities=None))
    new_slot(DirectoryResolver(older)).start()


def test_live_state_continues_bit_for_bit_across_a_swap(
    new_slot: NewSlot, tmp_path: Path, bars: pd.DataFrame
) -> None:
    directory = make_bundle(tmp_path / "b", bars)
    slot, straight = (new_slot(DirectoryResolver(d)) for d in (directory, make_bundle(tmp_path / "c", bars)))
    slot.start()
    straight.start()
    _push(slot, bars, 601, 650)
    make_bundle(directory, bars, bias=0.2, version="2")
    _take(slot)
    assert slot.require().model.version == "2"
    _push(straight, bars, 601, 650)
    assert _push(slot, bars, 650, 700).tobytes() == _push(straight, bars, 650, 700).tobytes()


def test_other_features_continue_from_the_bars_seen_live(
    new_slot: NewSlot, tmp_path: Path, bars: pd.DataFrame
) -> None:
    directory = make_bundle(tmp_path / "b", bars)
    slot = new_slot(DirectoryResolver(directory))
    slot.start()
    _push(slot, bars, 601, 650)
    names = ["return_1", "return_20", "gap"]
    make_bundle(directory, bars, version="2", names=names)
    _take(slot)
    state = slot.require().states.get("sp500")
    assert state is not None
    assert state.last == bars.index[649].timestamp()
    reference = new_slot(DirectoryResolver(make_bundle(tmp_path / "c", bars, names=names, row=649)))
    reference.start()
    assert _push(slot, bars, 650, 660).tobytes() == _push(reference, bars, 650, 660).tobytes()


def test_a_newer_as_of_bar_wins(new_slot: NewSlot, tmp_path: Path, bars: pd.DataFrame) -> None:
    directory = make_bundle(tmp_path / "b", bars)
    slot = new_slot(DirectoryResolver(directory))
    slot.start()
    _push(slot, bars, 601, 610)
    make_bundle(directory, bars, row=700, version="2")
    _take(slot)
    state = slot.require().states.get("sp500")
    assert state is not None
    assert state.last == bars.index[700].timestamp()


def test_another_models_bundle_is_refused_while_running(
    new_slot: NewSlot, tmp_path: Path, bars: pd.DataFrame
) -> None:
    directory = make_bundle(tmp_path / "b", bars)
    slot = new_slot(DirectoryResolver(directory))
    slot.start()
    text = (directory / MANIFEST).read_text().replace("sp500-1d", "other-1d")
    (directory / MANIFEST).write_text(text)
    seal(directory)
    assert slot.look() is None
    assert "bundle of other-1d" in str(slot.status.refused)


def test_the_last_good_copy_serves_when_the_registry_is_gone(
    new_slot: NewSlot, bundle: Path, tmp_path: Path
) -> None:
    registry = FakeRegistry(tmp_path / "mlflow.db")
    registry.promote(4, bundle)
    copy = LastGood(tmp_path / "copy")
    resolver = RegistryResolver(registry.database, "sp500-1d")
    new_slot(resolver, copy).start()
    registry.database.unlink()
    slot = new_slot(resolver, copy)
    slot.start()
    assert slot.require().model.version == "4"
    assert len(slot.status.complaints) == 2
    # a damaged copy is no help: the first cause is what is reported
    (tmp_path / "copy" / MODEL).write_bytes(b"x")
    with pytest.raises(RegistryError, match="cannot be read as a model registry"):
        new_slot(resolver, copy).start()


def test_an_unregistered_bundle_says_so(new_slot: NewSlot, bundle: Path, tmp_path: Path) -> None:
    plain = _copy(bundle, tmp_path / "plain")
    (plain / REGISTRATION).unlink()
    seal(plain)
    slot = new_slot(DirectoryResolver(plain))
    slot.start()
    assert slot.require().model.version == "unregistered"
