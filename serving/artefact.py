"""A bundle as bytes in memory, read once and checked, so that what was hashed is what is loaded."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from core.bundle import (
    GOLDEN,
    MODEL,
    REGISTRATION,
    STATE,
    Manifest,
    Registration,
    decode,
    read_bundle,
)

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
    """A verified bundle: `files` maps name → bytes, of every file but the seal."""

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
        return decode(self.files[GOLDEN], Golden, GOLDEN)

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
    """Read a bundle and check every hash, by the rules and with the errors of `core.bundle.read_bundle`.

    `version` overrides the registered one.
    """
    manifest, files = read_bundle(directory, manifest_hash=manifest_hash, registration_hash=registration_hash)
    facts = files.get(REGISTRATION)
    registration = decode(facts, Registration, REGISTRATION) if facts is not None else None
    registered = registration.version if registration else UNREGISTERED
    return Artefact(manifest, registration, version or registered, files)
