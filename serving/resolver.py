"""Where the bundle to serve is: an alias in MLflow's SQLite store, or a directory.

The store is read with the standard library, read-only: importing MLflow would cost seconds and 400 MB.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from core.bundle import CHAMPION, SEAL, SEALED
from core.errors import ArtifactError, RegistryError
from core.files import sha256_bytes, sha256_file
from serving.artefact import Artefact, read_artefact

_ALIAS = """
select v.version, coalesce(v.storage_location, v.source),
       (select t.value from model_version_tags t
         where t.name = v.name and t.version = v.version and t.key = 'bellwether.manifest_sha256'),
       (select t.value from model_version_tags t
         where t.name = v.name and t.version = v.version and t.key = 'bellwether.registration_sha256')
from registered_model_aliases a join model_versions v on v.name = a.name and v.version = a.version
where a.name = ? and a.alias = ?
"""
_MODELS = "select distinct name from registered_model_aliases where alias = ? order by name"


@dataclass(frozen=True)
class Pointer:
    """What to serve: a change in any field means something new. A hash is None when it is not recorded.

    `content` stands for what a directory holds that is watched; it vouches for nothing.
    """

    version: str | None
    directory: Path
    manifest_hash: str | None
    registration_hash: str | None = None
    content: str | None = None

    def read(self) -> Artefact:
        """The bundle's verified bytes; ArtifactError names what differs."""
        return read_artefact(
            self.directory,
            version=self.version,
            manifest_hash=self.manifest_hash,
            registration_hash=self.registration_hash,
        )


class AliasMissing(RegistryError):
    """The registry answers, and no version of the model carries the alias."""


class Resolver(Protocol):
    """Anything that knows which bundle serves now; `what` names it in errors."""

    @property
    def what(self) -> str: ...

    def resolve(self) -> Pointer:
        """The bundle to serve; RegistryError or ArtifactError when that cannot be told."""


@dataclass(frozen=True)
class DirectoryResolver:
    """A bundle directory; a file that changes, comes or goes makes it another bundle.

    Every look hashes the files: times and sizes stay the same when a bit flips.
    """

    directory: Path

    @property
    def what(self) -> str:
        return str(self.directory)

    def resolve(self) -> Pointer:
        hashes = " ".join(_hash_or_nothing(self.directory / name) for name in (*SEALED, SEAL))
        return Pointer(None, self.directory, None, content=sha256_bytes(hashes.encode()))


@dataclass(frozen=True)
class RegistryResolver:
    """The version that carries an alias in the store at `database`."""

    database: Path
    model: str
    alias: str = CHAMPION

    @property
    def what(self) -> str:
        return "the model registry"

    def resolve(self) -> Pointer:
        with _connect(self.database) as connection:
            row = connection.execute(_ALIAS, (self.model, self.alias)).fetchone()
        if row is None:
            raise AliasMissing(
                f"model {self.model} has no {self.alias} in {self.database}: run `bellwether run`, "
                "or promote a version"
            )
        version, location, manifest_hash, registration_hash = row
        return Pointer(str(version), _local(location), manifest_hash, registration_hash)


def models_with_alias(database: Path, alias: str = CHAMPION) -> list[str]:
    """Names of the registered models with `alias`, sorted; RegistryError when the store is unreadable."""
    with _connect(database) as connection:
        return [name for (name,) in connection.execute(_MODELS, (alias,))]


@contextmanager
def _connect(database: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(
            sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)
        ) as connection:
            yield connection
    except sqlite3.Error as error:
        raise RegistryError(
            f"{database} cannot be read as a model registry ({error}): run `bellwether run`, or restore it"
        ) from error


def _hash_or_nothing(path: Path) -> str:
    try:
        return sha256_file(path)
    except ArtifactError:
        # gone or unreadable: reading the bundle says so
        return "-"


def _local(location: str | None) -> Path:
    parts = urlsplit(location or "")
    if not parts.path or parts.scheme not in ("", "file"):
        raise ArtifactError(
            f"the registry keeps the bundle at {location!r}: only local files can be served; "
            "register it in a store with a local artifact root"
        )
    return Path(unquote(parts.path))
