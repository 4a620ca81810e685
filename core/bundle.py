"""The exported bundle: one directory that holds everything the service needs, and proves it.

model.onnx          one graph from raw features to calibrated probability
golden.json         inputs and expected outputs, checked at load
state.bin           the feature stream at the as-of bar and the last window of feature rows
reference.parquet   what the features looked like in training, for drift
manifest.json       what the model is, and the SHA-256 of every file above
registration.json   written at registration: version, run, commit (not part of the DVC output)
SHA256SUMS          the seal: what `sha256sum` says of every file above, for `sha256sum -c SHA256SUMS`
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
SEAL = "SHA256SUMS"
HASHED = (MODEL, GOLDEN, STATE, REFERENCE)
SEALED = (*HASHED, MANIFEST, REGISTRATION)
CHAMPION, CHALLENGER = "champion", "challenger"
"""Aliases in the registry: the version that serves, and the one that shadows it."""
_STATE_MAGIC = b"BWSTATE1"
_REMEDY = "restore the bundle from where it came, or export it again: `bellwether run`"
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


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write manifest.json as canonical JSON, and the seal."""
    _write_struct(directory / MANIFEST, manifest)
    seal(directory)


def write_registration(directory: Path, registration: Registration) -> None:
    """Write registration.json as canonical JSON, and the seal."""
    _write_struct(directory / REGISTRATION, registration)
    seal(directory)


def seal(directory: Path) -> None:
    """Write SHA256SUMS over the bundle's files as they are: whoever writes one of them calls this."""
    held = [directory / name for name in SEALED if (directory / name).exists()]
    write_text(directory / SEAL, _seal_text({path.name: sha256_file(path) for path in held}))


def _write_struct(path: Path, value: msgspec.Struct) -> None:
    data = msgspec.json.encode(value, order="sorted")
    write_text(path, msgspec.json.format(data, indent=2).decode() + "\n")


def decode(data: bytes, kind: type[T], name: str) -> T:
    """A struct from the JSON of a bundle's file; ArtifactError names the file."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(
            f"{name} is not a valid {kind.__name__} ({error}): export the bundle again"
        ) from error


def load_manifest(directory: Path) -> Manifest:
    """Read manifest.json; ArtifactError when it is missing, malformed or of another schema version."""
    return _manifest(_read(directory / MANIFEST), directory / MANIFEST)


def _manifest(data: bytes, path: Path) -> Manifest:
    manifest = decode(data, Manifest, str(path))
    if manifest.schema_version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema version {manifest.schema_version}, this program reads "
            f"{SCHEMA_VERSION}: export the model again"
        )
    return manifest


def read_bundle(
    directory: Path, *, manifest_hash: str | None = None, registration_hash: str | None = None
) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest, and name → bytes of the bundle's files but the seal, all checked.

    The hashes are a registry's, of manifest.json and registration.json. Where it knows none of the manifest
    the seal must be there; one that is there must be right to the byte. ArtifactError names the file that
    is missing or differs.
    """
    path = directory / MANIFEST
    raw, sums = _read(path), _read_if_there(directory / SEAL)
    if sums is None and manifest_hash is None:
        raise ArtifactError(
            f"{directory / SEAL} is missing: without it nothing vouches for {MANIFEST}; export the bundle "
            "again: `bellwether run`"
        )
    _check(path, raw, manifest_hash, sums)
    manifest = _manifest(raw, path)
    if set(manifest.files) != set(HASHED):
        raise ArtifactError(
            f"{path} lists hashes for {', '.join(sorted(manifest.files)) or 'no file'}, of a bundle it lists "
            f"those of {', '.join(sorted(HASHED))}: export the bundle again"
        )
    files = {MANIFEST: raw}
    for name, known in manifest.files.items():
        files[name] = _read(directory / name)
        _check(directory / name, files[name], known, sums)
    promised = registration_hash is not None or (sums is not None and REGISTRATION.encode() in sums)
    facts = (_read if promised else _read_if_there)(directory / REGISTRATION)
    if facts is not None:
        files[REGISTRATION] = facts
        _check(directory / REGISTRATION, facts, registration_hash, sums)
    whole = _seal_text({name: sha256_bytes(data) for name, data in files.items()})
    if sums is not None and sums != whole.encode():
        raise ArtifactError(
            f"{directory / SEAL} of {len(sums)} bytes is not what `sha256sum` says of "
            f"{', '.join(sorted(files))}: it was changed after export; {_REMEDY}"
        )
    return manifest, files


def verify(
    directory: Path, *, manifest_hash: str | None = None, registration_hash: str | None = None
) -> Manifest:
    """The manifest of a bundle whose every file was checked; the rules and errors are `read_bundle`'s."""
    return read_bundle(directory, manifest_hash=manifest_hash, registration_hash=registration_hash)[0]


def _read(path: Path) -> bytes:
    data = _read_if_there(path)
    if data is None:
        raise ArtifactError(f"{path} is missing: the bundle is incomplete; {_REMEDY}")
    return data


def _read_if_there(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}): {_REMEDY}") from error


def _check(path: Path, data: bytes, expected: str | None, sums: bytes | None) -> None:
    digest = sha256_bytes(data)
    if expected is not None and digest != expected:
        raise ArtifactError(
            f"{path} has SHA-256 {digest[:12]}…, recorded is {expected[:12]}…: the file was changed after "
            f"export; {_REMEDY}"
        )
    if sums is not None and _seal_text({path.name: digest}).encode() not in sums:
        raise ArtifactError(
            f"{path} has SHA-256 {digest[:12]}…, and {SEAL} beside it does not say so: one of the two was "
            f"changed after export; {_REMEDY}"
        )


def _seal_text(hashes: dict[str, str]) -> str:
    return "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))


def read_registration(directory: Path) -> Registration | None:
    """registration.json, or None for a bundle that was never registered."""
    path = directory / REGISTRATION
    return decode(_read(path), Registration, str(path)) if path.exists() else None


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
