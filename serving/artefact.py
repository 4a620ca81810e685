"""A bundle as bytes in memory, read once and checked, so that what was hashed is what is loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec

from core.bundle import (
    GOLDEN,
    HASHED,
    MANIFEST,
    MODEL,
    REGISTRATION,
    SCHEMA_VERSION,
    STATE,
    Manifest,
    Registration,
)
from core.errors import ArtifactError
from core.files import sha256_bytes

UNREGISTERED = "unregistered"


class Golden(msgspec.Struct, frozen=True):
    """Inputs [N, T, F] with their expected outputs; null is a missing feature.

    `class_probabilities` are None in bundles that were exported without.
    """

    inputs: list[list[list[float | None]]]
    probability: list[float]
    base_probabilities: list[list[float]]
    confidence: list[float]
    tolerance: float
    class_probabilities: list[list[float]] | None = None


@dataclass(frozen=True)
class Artefact:
    """A verified bundle: `files` maps name → bytes, every hashed file matching the manifest."""

    manifest: Manifest
    registration: Registration | None
    version: str
    files: dict[str, bytes]

    @property
    def model(self) -> bytes:
        return self.files[MODEL]

    @property
    def state(self) -> bytes:
        return self.files[STATE]

    @property
    def golden(self) -> Golden:
        return cast(Golden, _decode(self.files[GOLDEN], Golden, GOLDEN))

    @property
    def tradable(self) -> bool:
        """True when neither the export nor the registry objected."""
        return self.manifest.tradable and (self.registration is None or self.registration.tradable)

    @property
    def reasons(self) -> list[str]:
        """Why it may not trade; empty when it may."""
        if self.tradable:
            return []
        registered = self.registration.reasons if self.registration else []
        # the registry judged over more trials: its reasons stand in place of the bundle's
        return registered or self.manifest.reasons or ["the gate has not approved this model for trading"]


def read_artefact(
    directory: Path,
    *,
    version: str | None = None,
    manifest_hash: str | None = None,
    registration_hash: str | None = None,
) -> Artefact:
    """Read a bundle and check every hash.

    `version` overrides the registered one; the hashes are what the registry says manifest.json and
    registration.json must hash to, when it says so. ArtifactError names the file that is missing or differs.
    """
    raw = _read(directory / MANIFEST)
    if manifest_hash is not None and sha256_bytes(raw) != manifest_hash:
        raise _differs(directory / MANIFEST, raw, manifest_hash)
    manifest = cast(Manifest, _decode(raw, Manifest, str(directory / MANIFEST)))
    if manifest.schema_version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{directory / MANIFEST} has schema version {manifest.schema_version}, this program reads "
            f"{SCHEMA_VERSION}: export the model again"
        )
    missing = sorted(set(HASHED) - set(manifest.files))
    if missing:
        raise ArtifactError(f"{directory / MANIFEST} lists no hash for {', '.join(missing)}: export it again")
    files = {name: _checked(directory / name, expected) for name, expected in manifest.files.items()}
    facts = _registration(directory, registration_hash)
    registration = cast(Registration, _decode(facts, Registration, REGISTRATION)) if facts else None
    registered = registration.version if registration else UNREGISTERED
    extra = {REGISTRATION: facts} if facts else {}
    return Artefact(manifest, registration, version or registered, {**files, MANIFEST: raw, **extra})


def _registration(directory: Path, expected: str | None) -> bytes | None:
    path = directory / REGISTRATION
    if expected is not None:
        return _checked(path, expected)
    return _read(path) if path.exists() else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}): the bundle is incomplete") from error


def _checked(path: Path, expected: str) -> bytes:
    data = _read(path)
    if sha256_bytes(data) != expected:
        raise _differs(path, data, expected)
    return data


def _differs(path: Path, data: bytes, expected: str) -> ArtifactError:
    return ArtifactError(
        f"{path} has SHA-256 {sha256_bytes(data)[:12]}…, recorded is {expected[:12]}…: the file was changed "
        "after export; restore the bundle from the registry"
    )


def _decode(data: bytes, kind: Any, name: str) -> object:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(
            f"{name} is not a valid {kind.__name__} ({error}): export the bundle again"
        ) from error
