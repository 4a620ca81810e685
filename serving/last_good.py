"""A copy of the last bundle that served, for the day the registry cannot be read.

The directory is var/serving/<model>/: the bundle's files, and copy.json with the version and the hash of
the manifest, so that the copy proves itself. It is replaced as a whole.
"""

from dataclasses import dataclass
from pathlib import Path

from core.bundle import MANIFEST
from core.errors import ArtifactError
from core.files import read_json, replace_directory, sha256_bytes, write_json
from serving.artefact import Artefact, read_artefact

RECORD = "copy.json"


@dataclass(frozen=True)
class LastGood:
    """The copy in `directory`."""

    directory: Path

    def save(self, artefact: Artefact) -> None:
        """Keep this bundle in place of the one before."""
        record = {"version": artefact.version, "manifest_sha256": sha256_bytes(artefact.files[MANIFEST])}
        with replace_directory(self.directory) as fresh:
            for name, data in artefact.files.items():
                (fresh / name).write_bytes(data)
            write_json(fresh / RECORD, record)

    def read(self) -> Artefact:
        """The copy, checked; ArtifactError when there is none or it is damaged."""
        record = read_json(self.directory / RECORD)
        try:
            version, manifest_hash = str(record["version"]), str(record["manifest_sha256"])
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"{self.directory / RECORD} is malformed: delete {self.directory}") from error
        return read_artefact(self.directory, version=version, manifest_hash=manifest_hash)
