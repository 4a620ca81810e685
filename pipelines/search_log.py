"""The trials of a search in MLflow: a run for the search, and one nested in it for every trial."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from core.errors import RegistryError
from core.settings import Settings
from models.run_record import TrialRecord
from models.tuning import Trial
from pipelines import promotion
from pipelines.search_journal import Journal

if TYPE_CHECKING:
    from models.registry import Registry

_STATUS = {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


@dataclass
class SearchLog:
    """Logs what the journal holds and the registry does not; a fault is told once and stops the logging.

    The journal keeps every trial, and each counts from there, so the search goes on without a registry and
    the next call logs what is missing.
    """

    settings: Settings
    journal: Journal
    tags: dict[str, str]
    on_note: Callable[[str], None]
    fault: str = ""
    _registry: "Registry | None" = None
    _run: str = ""
    _done: int = 0
    _logged: dict[str, str | None] = field(default_factory=dict)

    def catch_up(self) -> None:
        """Log every trial of the journal that is not logged yet."""
        if self.fault:
            return
        try:
            registry = self._opened()
            for trial in self.journal.tried[self._done :]:
                record = _record(self.journal, trial)
                unfinished = self._logged.get(record.candidate.key, "")
                if unfinished is not None:
                    model = self.journal.search["model"]
                    registry.log_trial(model, self._run, record, unfinished or None)
                    self._logged[record.candidate.key] = None
                self._done += 1
        except RegistryError as error:
            self.fault = str(error)
            self.on_note(
                f"trials are not logged: {error}. They are kept in {self.journal.path} and count from there; "
                "the same command logs them later"
            )

    def end(self, status: str) -> None:
        """End the search's own run: FINISHED or KILLED."""
        if self._registry is None or self.fault:
            return
        try:
            self._registry.end_run(self._run, status)
        except RegistryError as error:
            self.fault = str(error)

    def _opened(self) -> "Registry":
        if self._registry is None:
            search = self.journal.search
            registry = promotion.open_registry(self.settings)
            name = f"tune {search['family']}"
            self._run = registry.open_search(search["model"], self.journal.digest, name, self.tags)
            self._logged = registry.logged_trials(search["model"], self._run)
            self._registry = registry
        return self._registry


def _record(journal: Journal, trial: Trial) -> TrialRecord:
    metric = journal.search["metric"]
    metrics = {"seconds": trial.seconds}
    if trial.loss is not None:
        metrics[metric] = trial.loss
    if trial.record is not None:
        metrics |= {"sharpe_per_period": trial.record[0], "returns": trial.record[1]}
    tags = {"family": journal.search["family"], "state": trial.state, "reason": trial.reason}
    return TrialRecord(
        name=f"{journal.search['family']} trial {trial.number}",
        candidate=journal.candidate(trial),
        params=trial.params,
        metrics=metrics,
        series={f"fold.{metric}": trial.losses},
        tags={key: value for key, value in tags.items() if value},
        seconds=trial.seconds,
        status=_STATUS[trial.state],
    )
