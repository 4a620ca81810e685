"""The journal of a search: what it is, and every trial so far, written whole after each."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from core.errors import ArtifactError
from core.files import canonical_json, read_json, sha256_bytes, write_json
from evaluation.trials import TrialSet
from models.tuning import Trial
from pipelines.trials import SEARCHES, plain

IN_FORCE = 0
"""Number of the trial that is no new one: the parameters in force."""


@dataclass(eq=False)
class Journal:
    """`search` is everything that shapes the trials, so equal searches make equal trials.

    `digest` names the search; `trials` begin with the parameters in force.
    """

    path: Path
    search: dict[str, Any]
    digest: str
    trials: list[Trial]

    @classmethod
    def open(cls, var_dir: Path, search: Mapping[str, Any], *, resume: bool) -> Self:
        """The journal of this search, with its trials when it is resumed; else the old one is set aside."""
        digest = sha256_bytes(canonical_json(search).encode())
        path = var_dir / SEARCHES / f"{search['model']}-{search['family']}-{digest[:16]}.journal"
        if path.exists() and not resume:
            _set_aside(path)
        return cls(path, dict(search), digest, _read(path) if path.exists() else [])

    def __post_init__(self) -> None:
        self._document: dict[str, Any] = {
            "search": self.search,
            "tried": [plain(self.candidate(trial)) for trial in self.tried],
            "trials": [asdict(trial) for trial in self.trials],
        }

    @property
    def tried(self) -> list[Trial]:
        """The trials that count: without the parameters in force."""
        return [trial for trial in self.trials if trial.number != IN_FORCE]

    def candidate(self, trial: Trial) -> TrialSet:
        """What a trial adds to all that was tried; the same parameters again are the same candidate."""
        key = sha256_bytes(canonical_json([self.digest, trial.params]).encode())
        return TrialSet(key, 1, () if trial.record is None else (trial.record,))

    def append(self, trial: Trial) -> None:
        """Add a trial and write the journal."""
        self.trials.append(trial)
        self._document["trials"].append(asdict(trial))
        if trial.number != IN_FORCE:
            self._document["tried"].append(plain(self.candidate(trial)))
        write_json(self.path, self._document)


def _set_aside(path: Path) -> None:
    """Keep a journal under another name; its trials count there as before, unless it is damaged."""
    try:
        _read(path)
        kind = "journal"
    except ArtifactError:
        kind = "damaged"
    count = len(list(path.parent.glob(f"{path.stem}.*.{kind}")))
    path.rename(path.with_name(f"{path.stem}.{count + 1}.{kind}"))


def _read(path: Path) -> list[Trial]:
    names = {field.name for field in fields(Trial)}
    try:
        found = [{name: entry[name] for name in names} for entry in read_json(path)["trials"]]
        return [
            Trial(**{**entry, "losses": tuple(entry["losses"]), "record": _pair(entry["record"])})
            for entry in found
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{path} is not the journal of a search ({error!r}): begin again with --new"
        ) from error


def _pair(record: list[float] | None) -> tuple[float, int] | None:
    return None if record is None else (float(record[0]), int(record[1]))
