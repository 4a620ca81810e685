import subprocess
from collections.abc import Callable
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

REGISTRATION = bundle.Registration(
    model="sp500-1d", version="1", run_id="run", commit="c", dirty=False, dvc_lock_sha256="l",
    registered_at="2019-01-02T12:00:00+00:00", trials=1, tradable=False, reasons=[],
)  # fmt: skip


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
    bundle.write_manifest(tmp_path, manifest_for(tmp_path))
    return tmp_path


def test_a_whole_bundle_verifies(exported: Path) -> None:
    manifest = bundle.verify(exported)
    assert manifest == manifest_for(exported)
    assert manifest.definitions == {"ret_1": "log(close / lag(close, 1))"}


@pytest.mark.parametrize("name", [*bundle.HASHED, bundle.MANIFEST, bundle.SEAL])
def test_one_flipped_bit_is_named(exported: Path, name: str) -> None:
    data = bytearray((exported / name).read_bytes())
    data[17] ^= 4
    (exported / name).write_bytes(data)
    with pytest.raises(ArtifactError, match=name):
        bundle.verify(exported)


@pytest.mark.parametrize("name", [*bundle.HASHED, bundle.MANIFEST, bundle.SEAL])
def test_a_missing_file_is_named(exported: Path, name: str) -> None:
    (exported / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        bundle.verify(exported)


def test_a_manifest_that_forgets_a_file_is_refused(exported: Path) -> None:
    whole = manifest_for(exported)
    partial = msgspec.structs.replace(whole, files={bundle.MODEL: whole.files[bundle.MODEL]})
    bundle.write_manifest(exported, partial)
    with pytest.raises(ArtifactError, match=r"golden\.json"):
        bundle.verify(exported)


def test_another_schema_is_refused(exported: Path) -> None:
    newer = msgspec.structs.replace(manifest_for(exported), schema_version=99)
    bundle.write_manifest(exported, newer)
    with pytest.raises(ArtifactError, match="99"):
        bundle.verify(exported)


def test_the_seal_is_what_sha256sum_writes_and_checks(exported: Path) -> None:
    bundle.write_registration(exported, REGISTRATION)
    names = sorted(path.name for path in exported.iterdir() if path.name != bundle.SEAL)
    written = subprocess.run(["sha256sum", *names], cwd=exported, capture_output=True, check=True).stdout
    assert (exported / bundle.SEAL).read_bytes() == written
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", bundle.SEAL], cwd=exported, check=True)
    bundle.verify(exported)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text[:-1],
        lambda text: text + "\n",
        lambda text: "\n" + text,
        lambda text: text.upper(),
        lambda text: text[:64].upper() + text[64:],
        lambda text: text.replace("  ", " *"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\n".join(reversed(text.splitlines())) + "\n",
        lambda text: text + text.splitlines(keepends=True)[0],
        lambda text: "".join(text.splitlines(keepends=True)[:-1]),
        lambda text: text + "0" * 64 + "  other.json\n",
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_a_seal_is_right_to_the_byte(exported: Path, change: Callable[[str], str], known: bool) -> None:
    manifest_hash = sha256_file(exported / bundle.MANIFEST) if known else None
    path = exported / bundle.SEAL
    path.write_bytes(change(path.read_text()).encode())
    with pytest.raises(ArtifactError, match=r"SHA256SUMS.*changed.*`bellwether run`"):
        bundle.verify(exported, manifest_hash=manifest_hash)


def test_a_registry_that_knows_the_manifest_needs_no_seal(exported: Path) -> None:
    digest = sha256_file(exported / bundle.MANIFEST)
    (exported / bundle.SEAL).unlink()
    bundle.verify(exported, manifest_hash=digest)
    with pytest.raises(ArtifactError, match=r"manifest.json has SHA-256 .* recorded is 000000000000"):
        bundle.verify(exported, manifest_hash="0" * 64)
    with pytest.raises(ArtifactError, match=r"nothing vouches for manifest\.json; .*`bellwether run`"):
        bundle.verify(exported)


def test_a_registration_that_comes_or_goes_breaks_the_seal(exported: Path) -> None:
    bare = (exported / bundle.SEAL).read_bytes()
    bundle.write_registration(exported, REGISTRATION)
    (exported / bundle.REGISTRATION).unlink()
    with pytest.raises(ArtifactError, match=r"registration\.json is missing"):
        bundle.verify(exported)
    bundle.write_registration(exported, REGISTRATION)
    (exported / bundle.SEAL).write_bytes(bare)
    with pytest.raises(ArtifactError, match=r"registration\.json has SHA-256"):
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
