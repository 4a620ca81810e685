"""Model versions as plain data, and the rules of the store that need no MLflow."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from core.bundle import Manifest, Registration
from core.errors import RegistryError

PREFIX = "bellwether."
OVERRIDES = "overrides"
_SQLITE_MAGIC = b"SQLite format 3\x00"


@dataclass(frozen=True)
class Registered:
    """The outcome of `register`: `existing` is true when an identical model had a version already."""

    registration: Registration
    directory: Path
    existing: bool


@dataclass(frozen=True)
class Override:
    """The gate was overruled: by whom, when (ISO UTC), why, what served before, and the rules in words."""

    by: str
    at: str
    reason: str
    replaced: str | None
    against: tuple[str, ...]


@dataclass(frozen=True)
class Version:
    """One model version with its evidence; `created` is UTC, `tags` come without our prefix."""

    model: str
    version: str
    run_id: str
    created: datetime
    aliases: tuple[str, ...]
    description: str
    directory: Path
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def overrides(self) -> tuple[Override, ...]:
        """Every time the gate was overruled for this version, oldest first."""
        return read_overrides(self.tags.get(OVERRIDES, "[]"))


def read_overrides(stored: str) -> tuple[Override, ...]:
    """What `write_overrides` wrote."""
    return tuple(Override(**{**plain, "against": tuple(plain["against"])}) for plain in json.loads(stored))


def write_overrides(overrides: Sequence[Override]) -> str:
    """Overrides as text; the same one again, as after a kill, is kept once, with its first time."""
    seen = {(o.by, o.reason, o.replaced, o.against): o for o in reversed(overrides)}
    return json.dumps([asdict(o) for o in reversed(seen.values())], ensure_ascii=False)


def check_name(model: str) -> None:
    """RegistryError for a name that MLflow or a path would misread."""
    if not model or set(model) & set("/:'\"`%\\"):
        raise RegistryError(
            f"model name {model!r} must be <symbol>-<timeframe> without / : ' \" ` % or \\: rename the symbol"
        )


def database_path(tracking_uri: str) -> Path:
    """The file of a tracking store; RegistryError when damaged, at once: MLflow would retry."""
    prefix = "sqlite:///"
    if not tracking_uri.startswith(prefix):
        raise RegistryError(f"tracking store {tracking_uri!r}: must be a local database, {prefix}<path>")
    path = Path(tracking_uri.removeprefix(prefix))
    if path.exists() and _head(path) != _SQLITE_MAGIC:
        raise RegistryError(f"{path} is not an SQLite database: restore it from a backup or move it away")
    return path


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_SQLITE_MAGIC))


def local_path(uri: str) -> Path:
    """The path of a file:// address."""
    return Path(url2pathname(urlsplit(uri).path))


def from_mlflow(found: Any, aliases: Mapping[str, str]) -> Version:
    """Our view of MLflow's version `found`; `aliases` maps alias to version."""
    return Version(
        model=found.name,
        version=str(found.version),
        run_id=found.run_id or "",
        created=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        aliases=tuple(sorted(a for a, v in aliases.items() if v == str(found.version))),
        description=found.description or "",
        directory=local_path(found.source),
        tags={k.removeprefix(PREFIX): v for k, v in found.tags.items()},
    )


def registration_of(version: Version) -> Registration:
    """What registration.json of a version says, from its tags: they are written in one step with it."""
    tags = version.tags
    return Registration(
        model=version.model,
        version=version.version,
        run_id=version.run_id,
        commit=tags["commit"],
        dirty=tags["dirty"] == "true",
        dvc_lock_sha256=tags["dvc_lock_sha256"],
        registered_at=tags.get("registered_at", version.created.isoformat(timespec="seconds")),
        trials=int(tags["trials"]),
        tradable=tags["tradable"] == "true",
        reasons=list(json.loads(tags["reasons"])),
        sharpe_variance=float(tags.get("sharpe_variance", "0")),
    )


def evidence_tags(manifest: Manifest, digest: str, facts: Registration) -> dict[str, str]:
    """The tags of a version: what it is, where it came from, what the gate said."""
    return {
        "manifest_sha256": digest,
        "symbol": manifest.symbol,
        "timeframe": manifest.timeframe,
        "as_of": manifest.as_of,
        "data_hash": manifest.data_hash,
        "params_hash": manifest.params_hash,
        "commit": facts.commit,
        "dirty": str(facts.dirty).lower(),
        "dvc_lock_sha256": facts.dvc_lock_sha256,
        "registered_at": facts.registered_at,
        "trials": str(facts.trials),
        "sharpe_variance": repr(facts.sharpe_variance),
        "tradable": str(facts.tradable).lower(),
        "reasons": json.dumps(facts.reasons),
    }
