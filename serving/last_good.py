"""A copy of the last bundle that served, for the day the registry or the bundle cannot be read.

The directory is var/serving/<model>/, or .bundle-<hash of the path>/ of a bundle directory that was named:
the bundle's files, and copy.json with the version and the hash of the manifest, so that the copy proves
itself. It is replaced as a whole.
"""

from dataclasses import dataclass
from pathlib import Path

from core.bundle import MANIFEST, REGISTRATION
from core.errors import ArtifactError
from core.files import canonical_json, read_json, replace_directory, sha256_bytes, write_json
from serving.artefact import Artefact, read_artefact

RECORD = "copy.json"


@dataclass(frozen=True)
class LastGood:
    """The copy in `directory`."""

    directory: Path

    def save(self, artefact: Artefact) -> None:
        """Keep this bundle in place of the one before."""
        record = {"version": artefact.version, "manifest_sha256": sha256_bytes(artefact.files[MANIFEST])}
        if REGISTRATION in artefact.files:
            record["registration_sha256"] = sha256_bytes(artefact.files[REGISTRATION])
        with replace_directory(self.directory) as fresh:
            for name, data in artefact.files.items():
                (fresh / name).write_bytes(data)
            write_json(fresh / RECORD, {**record, "sha256": _digest(record)})

    def read(self) -> Artefact:
        """The copy, checked; ArtifactError when there is none or it is damaged."""
        path = self.directory / RECORD
        record = read_json(path)
        try:
            version, manifest_hash = str(record["version"]), str(record["manifest_sha256"])
            facts_hash = record.get("registration_sha256")
            claimed = record.pop("sha256")
            whole = path.read_text() == canonical_json({**record, "sha256": _digest(record)})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{path} is malformed: delete {self.directory}") from error
        if not whole or claimed != _digest(record):
            raise ArtifactError(f"{path} was changed: delete {self.directory}")
        return read_artefact(
            self.directory, version=version, manifest_hash=manifest_hash, registration_hash=facts_hash
        )


def _digest(record: dict[str, str]) -> str:
    return sha256_bytes(canonical_json(record).encode())
