"""The exported bundle: one directory that holds everything the service needs, and proves it.

model.onnx          one graph from raw features to calibrated probability
golden.json         inputs and expected outputs, checked at load
state.bin           the feature stream at the as-of bar and the last window of feature rows
reference.parquet   what the features looked like in training, for drift
manifest.json       what the model is, and the SHA-256 of every file above
registration.json   written at registration: version, run, commit (not part of the DVC output)
"""

import struct
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from core.errors import ArtifactError
from core.files import sha256_bytes, sha256_file, write_text
from core.market_hours import MarketHours
from core.signal import Thresholds

SCHEMA_VERSION = 1
MODEL, MANIFEST, GOLDEN = "model.onnx", "manifest.json", "golden.json"
STATE, REFERENCE, REGISTRATION = "state.bin", "reference.parquet", "registration.json"
HASHED = (MODEL, GOLDEN, STATE, REFERENCE)
CHAMPION, CHALLENGER = "champion", "challenger"
"""Aliases in the registry: the version that serves, and the one that shadows it."""
_STATE_MAGIC = b"BWSTATE1"
T = TypeVar("T")


class FeatureDefinition(msgspec.Struct, frozen=True):
    """A feature by name and by the expression it is computed from."""

    name: str
    expression: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bundle is. Equal inputs give an equal manifest.

    `files` maps file name → SHA-256; `as_of` is the last bar close used, ISO UTC; `warmup` and `window`
    are bars; `parity` maps model name → largest absolute difference between ONNX and the training library;
    `hours` are the market's, None in bundles that were exported without.
    """

    schema_version: int
    model: str
    symbol: str
    timeframe: str
    as_of: str
    files: dict[str, str]
    features: list[FeatureDefinition]
    warmup: int
    window: int
    classes: list[str]
    base_models: list[str]
    thresholds: Thresholds
    label: dict[str, Any]
    parity: dict[str, float]
    data_hash: str
    params_hash: str
    tradable: bool
    reasons: list[str]
    hours: MarketHours | None = None

    @property
    def definitions(self) -> dict[str, str]:
        """Feature name → expression, in model order."""
        return {feature.name: feature.expression for feature in self.features}


class Registration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a bundle came from and what the registry said of it; written once, at registration."""

    model: str
    version: str
    run_id: str
    commit: str
    dirty: bool
    dvc_lock_sha256: str
    registered_at: str
    trials: int
    tradable: bool
    reasons: list[str]
    sharpe_variance: float = 0.0
    """Variance of the Sharpes per period of all those trials; 0 where it was not known."""


def write_struct(path: Path, value: msgspec.Struct) -> None:
    """Write a struct as canonical JSON."""
    data = msgspec.json.encode(value, order="sorted")
    write_text(path, msgspec.json.format(data, indent=2).decode() + "\n")


def _decode(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}): the bundle is incomplete") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"{path} is not a valid {kind.__name__} ({error}): export the bundle again"
        ) from error


def load_manifest(directory: Path) -> Manifest:
    """Read manifest.json; ArtifactError when it is missing, malformed or of another schema version."""
    manifest = _decode(directory / MANIFEST, Manifest)
    if manifest.schema_version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{directory / MANIFEST} has schema version {manifest.schema_version}, this program reads "
            f"{SCHEMA_VERSION}: export the model again"
        )
    return manifest


def verify(directory: Path) -> Manifest:
    """Read the manifest and check the hash of every file; ArtifactError names the file that differs."""
    manifest = load_manifest(directory)
    missing = sorted(set(HASHED) - set(manifest.files))
    if missing:
        raise ArtifactError(
            f"{directory / MANIFEST} lists no hash for {', '.join(missing)}: export the bundle again"
        )
    for name, expected in manifest.files.items():
        actual = sha256_file(directory / name)
        if actual != expected:
            raise ArtifactError(
                f"{directory / name} has SHA-256 {actual[:12]}…, the manifest says {expected[:12]}…: "
                "it was changed after export; restore the bundle from the registry"
            )
    return manifest


def read_registration(directory: Path) -> Registration | None:
    """registration.json, or None for a bundle that was never registered."""
    path = directory / REGISTRATION
    return _decode(path, Registration) if path.exists() else None


def pack_state(checkpoint: bytes, window: "np.ndarray[Any, np.dtype[np.float32]]") -> bytes:
    """Join a stream checkpoint and the last feature rows, float32 [T, F], into state.bin."""
    rows = np.ascontiguousarray(window, dtype="<f4")
    body = struct.pack("<QII", len(checkpoint), *rows.shape) + checkpoint + rows.tobytes()
    return _STATE_MAGIC + bytes.fromhex(sha256_bytes(body)) + body


def unpack_state(data: bytes) -> "tuple[bytes, np.ndarray[Any, np.dtype[np.float32]]]":
    """Split state.bin into checkpoint and window, float32 [T, F]; ArtifactError on any damage."""
    body = data[40:]
    if data[:8] != _STATE_MAGIC or data[8:40].hex() != sha256_bytes(body) or len(body) < 16:
        raise ArtifactError(f"state.bin of {len(data)} bytes is damaged: export the bundle again")
    size, bars, features = struct.unpack_from("<QII", body)
    rows = np.frombuffer(body, dtype="<f4", offset=16 + size, count=bars * features)
    return body[16 : 16 + size], rows.reshape(bars, features).astype(np.float32)
