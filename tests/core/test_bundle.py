from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import bundle
from core.errors import ArtifactError
from core.files import sha256_file
from core.signal import Thresholds


def manifest_for(directory: Path) -> bundle.Manifest:
    return bundle.Manifest(
        schema_version=bundle.SCHEMA_VERSION,
        model="sp500-1d",
        symbol="sp500",
        timeframe="1d",
        as_of="2018-12-31T21:00:00+00:00",
        files={name: sha256_file(directory / name) for name in bundle.HASHED},
        features=[bundle.FeatureDefinition("ret_1", "log(close / lag(close, 1))")],
        warmup=2,
        window=4,
        classes=["down", "up"],
        base_models=["base_rate"],
        thresholds=Thresholds(0.6, 0.55, 0.45, 0.4),
        label={"kind": "fixed_horizon", "horizon": 5},
        parity={"probability": 0.0},
        data_hash="d",
        params_hash="p",
        tradable=False,
        reasons=["no edge found"],
    )


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    for name in bundle.HASHED:
        (tmp_path / name).write_bytes(name.encode() * 100)
    bundle.write_struct(tmp_path / bundle.MANIFEST, manifest_for(tmp_path))
    return tmp_path


def test_a_whole_bundle_verifies(exported: Path) -> None:
    manifest = bundle.verify(exported)
    assert manifest == manifest_for(exported)
    assert manifest.definitions == {"ret_1": "log(close / lag(close, 1))"}


@pytest.mark.parametrize("name", bundle.HASHED)
def test_one_flipped_bit_is_named(exported: Path, name: str) -> None:
    data = bytearray((exported / name).read_bytes())
    data[17] ^= 4
    (exported / name).write_bytes(data)
    with pytest.raises(ArtifactError, match=name):
        bundle.verify(exported)


@pytest.mark.parametrize("name", [*bundle.HASHED, bundle.MANIFEST])
def test_a_missing_file_is_named(exported: Path, name: str) -> None:
    (exported / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        bundle.verify(exported)


def test_a_manifest_that_forgets_a_file_is_refused(exported: Path) -> None:
    whole = manifest_for(exported)
    partial = msgspec.structs.replace(whole, files={bundle.MODEL: whole.files[bundle.MODEL]})
    bundle.write_struct(exported / bundle.MANIFEST, partial)
    with pytest.raises(ArtifactError, match=r"golden\.json"):
        bundle.verify(exported)


def test_another_schema_is_refused(exported: Path) -> None:
    newer = msgspec.structs.replace(manifest_for(exported), schema_version=99)
    bundle.write_struct(exported / bundle.MANIFEST, newer)
    with pytest.raises(ArtifactError, match="99"):
        bundle.verify(exported)


@given(st.binary(max_size=200), st.integers(0, 5), st.integers(1, 5))
def test_state_round_trip(checkpoint: bytes, bars: int, features: int) -> None:
    window = np.random.default_rng(bars).normal(size=(bars, features)).astype(np.float32)
    back, rows = bundle.unpack_state(bundle.pack_state(checkpoint, window))
    assert back == checkpoint
    np.testing.assert_array_equal(rows, window)


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_any_flipped_bit_of_the_state_is_found(position: int, bit: int) -> None:
    data = bytearray(bundle.pack_state(b"checkpoint", np.ones((3, 2), np.float32)))
    data[position % len(data)] ^= 1 << bit
    with pytest.raises(ArtifactError, match="damaged"):
        bundle.unpack_state(bytes(data))


def test_registration_is_optional(exported: Path) -> None:
    assert bundle.read_registration(exported) is None
