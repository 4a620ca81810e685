"""The model registry: runs, model versions and aliases in MLflow. The only module that imports mlflow.

A version's directory is its run's artifact folder `bundle`: the exported bundle, registration.json and an
MLmodel file, so `models:/<name>@champion` downloads a bundle and `mlflow.onnx.load_model` reads it. Its
address stands in the table model_versions (column storage_location, a file:// URI), where the service finds
it without mlflow.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from core.bundle import (
    CHAMPION,
    MANIFEST,
    REGISTRATION,
    Manifest,
    Registration,
    load_manifest,
    read_registration,
    seal,
    verify,
    write_registration,
)
from core.clock import Clock, SystemClock
from core.errors import ArtifactError, RegistryError
from core.faults import disk_remedy
from core.files import exclusive_lock, replace_directory, sha256_file, write_bytes
from evaluation.trials import TrialSet, Tried, gather
from models.champions import (
    FOUND,
    PROMOTED,
    ROLLED_BACK,
    Entry,
    entry,
    read_history,
    read_trail,
    write_history,
)
from models.mlmodel import write_mlmodel
from models.run_record import (
    CANDIDATES,
    RECORDS,
    SEARCH,
    RunRecord,
    TrialRecord,
    chunks,
    param_items,
    trial_set_of,
)
from models.versions import (
    OVERRIDES,
    PREFIX,
    Override,
    Registered,
    Version,
    check_name,
    database_path,
    evidence_tags,
    from_mlflow,
    local_path,
    read_overrides,
    registration_of,
    write_overrides,
)

_HISTORY = PREFIX + "champions"
_BY_HAND = "moved outside bellwether, or by a command that was interrupted"
_PARENT = "mlflow.parentRunId"
_PLACED, _REGISTERED = "placed", "registration_sha256"
_DESCRIPTION_LENGTH = 5000
_DAMAGED = ("malformed", "not a database")
_RESTORE = "restore the database from a backup, or move it away to begin a new one (see mlflow/README.md)"
_CHECK = "`bellwether doctor` checks the store under mlflow/"


class Registry:
    """MLflow's store at `tracking_uri`, artifacts as local files under `artifacts_dir`.

    Writers take a file lock in `artifacts_dir`, so concurrent processes may create the store, register and
    move aliases. Every fault of MLflow or its database surfaces as RegistryError.
    """

    def __init__(self, tracking_uri: str, artifacts_dir: Path, clock: Clock | None = None) -> None:
        self._artifacts = artifacts_dir.resolve()
        self._clock = clock or SystemClock()
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        with _mapped(f"open {tracking_uri}"), self._lock():
            if not (path := database_path(tracking_uri)).exists():
                _create_database(path)
            self._client = _open(tracking_uri)

    def start_run(self, model: str, *, trials: int = 0, tags: Mapping[str, str] | None = None) -> str:
        """Open a run in the experiment `model`; its trials count from now on, even if it never ends."""
        check_name(model)
        with _mapped(f"start a run of {model}"), self._lock():
            experiment = self._experiment(model)
        with _mapped(f"start a run of {model}"):
            run = self._client.create_run(experiment, tags=_prefixed({"trials": str(trials), **(tags or {})}))
        return str(run.info.run_id)

    def log_run(self, record: RunRecord, run_id: str | None = None) -> str:
        """Write parameters, metrics, tags and files of a run and end it; returns its id.

        `run_id` continues a run of `start_run`. A fault while writing ends the run as FAILED.
        """
        # the identity goes in first: a run that is killed while logged and then repeated counts once
        kept = ("manifest_sha256", CANDIDATES, RECORDS)
        identity = {key: value for key, value in record.tag_items().items() if key in kept}
        run = run_id or self.start_run(record.model, trials=record.tried.count, tags=identity)
        with _mapped(f"log a run of {record.model}"):
            try:
                self._write_record(run, record)
            except BaseException:
                self._client.set_terminated(run, "FAILED")
                raise
            self._client.set_terminated(run, record.status)
        return run

    def end_run(self, run_id: str, status: str = "FAILED") -> None:
        """End a run that will not be logged: FAILED, KILLED or FINISHED."""
        with _mapped(f"end run {run_id}"):
            self._client.set_terminated(run_id, status)

    def trials(self, model: str) -> int:
        """Candidate trials over all runs of `model`, failed, deleted and unfinished ones included.

        Runs that tried the same candidates, or ended in the same bundle, count once.
        """
        return gather(self.trial_sets(model), 0).count

    def trial_sets(self, model: str) -> list[TrialSet]:
        """What every run of `model` tried, failed, deleted and unfinished ones included."""
        with _mapped(f"count the trials of {model}"):
            tags = [(run.info.run_id, _own_tags(run)) for run in self._runs(model)]
        return [trial_set_of(run, held) for run, held in tags]

    def open_search(self, model: str, key: str, name: str, tags: Mapping[str, str]) -> str:
        """The run under which the trials of the search `key` are logged; a new one when there is none."""
        with _mapped(f"find the search {key} of {model}"):
            found = list(self._runs(model, f"tags.`{PREFIX}{SEARCH}` = '{key}'"))
        if found:
            return str(found[0].info.run_id)
        run = self.start_run(model, tags={SEARCH: key, **tags})
        with _mapped(f"name run {run}"):
            self._client.update_run(run, name=name)
        return run

    def logged_trials(self, model: str, search_run: str) -> dict[str, str | None]:
        """Key of each trial logged under a search → None, or the id of a run that a kill left unfinished."""
        with _mapped(f"list the trials of run {search_run}"):
            runs = list(self._runs(model, f"tags.`{_PARENT}` = '{search_run}'"))
        ended = {"FINISHED", "FAILED", "KILLED"}
        return {
            _own_tags(run).get(CANDIDATES, ""): None if run.info.status in ended else str(run.info.run_id)
            for run in runs
        }

    def log_trial(self, model: str, search_run: str, record: TrialRecord, run_id: str | None = None) -> str:
        """Write one trial as a run nested in its search's; `run_id` continues an unfinished one.

        It counts from the first of its three transactions on, and again only under another key.
        """
        with _mapped(f"log {record.name} of {model}"):
            now = int(self._clock.now().timestamp() * 1000)
            if run_id is None:
                tags = {**_prefixed(record.tag_items()), _PARENT: search_run}
                begun = now - int(1000 * record.seconds)
                made = self._client.create_run(self._experiment(model), begun, tags, record.name)
                run_id = str(made.info.run_id)
            metrics = [Metric(name, value, now, step) for name, step, value in record.metric_items()]
            params = [Param(name, value) for name, value in param_items(record.params)]
            self._client.log_batch(run_id, metrics=metrics, params=params)
            self._client.set_terminated(run_id, record.status)
        return run_id

    def find(self, bundle_dir: Path) -> Version | None:
        """The version whose manifest is the same, byte for byte, or None."""
        manifest, digest = verify(bundle_dir), sha256_file(bundle_dir / MANIFEST)
        return self._find(manifest.model, digest)

    def register(
        self,
        bundle_dir: Path,
        run_id: str,
        *,
        commit: str,
        dirty: bool,
        dvc_lock_sha256: str,
        tried: Tried | None = None,
        tradable: bool | None = None,
        reasons: Sequence[str] | None = None,
        verdict: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> Registered:
        """Make a version of `bundle_dir` under its model's name, or return the one that is identical.

        `tried` defaults to all trials recorded for the model; `tradable` and `reasons` to the manifest's,
        and differ from it when a recount over more trials says no. `verdict` is the version's description.
        ArtifactError: the bundle does not match its manifest.
        """
        manifest, digest = verify(bundle_dir), sha256_file(bundle_dir / MANIFEST)
        check_name(manifest.model)
        counted = Tried(self.trials(manifest.model)) if tried is None else tried
        facts = Registration(
            model=manifest.model,
            version="",
            run_id=run_id,
            commit=commit,
            dirty=dirty,
            dvc_lock_sha256=dvc_lock_sha256,
            registered_at=self._now(),
            trials=counted.count,
            sharpe_variance=counted.variance,
            tradable=manifest.tradable if tradable is None else tradable,
            reasons=list(manifest.reasons if reasons is None else reasons),
        )
        evidence = {**evidence_tags(manifest, digest, facts), **(tags or {})}
        with _mapped(f"register {bundle_dir} as {manifest.model}"), self._lock():
            known = self._find(manifest.model, digest)
            if known is not None:
                return Registered(self._complete(known, bundle_dir), known.directory, existing=True)
            directory = self._store(bundle_dir, run_id, manifest)
            version = self._create(manifest.model, directory, run_id, evidence, verdict)
            return Registered(self._write_facts(directory, facts, version), directory, existing=False)

    def placed(self, model: str, version: str) -> bool:
        """True once `mark_placed` was called: the version got its alias, or was refused one."""
        with _mapped(f"read version {version} of {model}"):
            return PREFIX + _PLACED in self._client.get_model_version(model, version).tags

    def mark_placed(self, model: str, version: str) -> None:
        """Record that the decision on a new version's alias was carried out."""
        with _mapped(f"mark version {version} of {model}"):
            self._client.set_model_version_tag(model, version, PREFIX + _PLACED, self._now())

    def get_alias(self, model: str, alias: str) -> str | None:
        """The version an alias points to, or None."""
        with _mapped(f"read {model}@{alias}"):
            return self._aliases(model).get(alias)

    def set_alias(self, model: str, alias: str, version: str, reason: str = "", by: str = "") -> None:
        """Point an alias at a version in one transaction; moves of `champion` are kept for `rollback`."""
        with _mapped(f"set {model}@{alias} to version {version}"), self._lock():
            self._client.get_model_version(model, version)
            if alias == CHAMPION:
                self._note(model, self._entry(version, reason, by, PROMOTED))
            self._client.set_registered_model_alias(model, alias, version)

    def record_override(
        self, model: str, version: str, *, by: str, reason: str, replaced: str | None, against: Sequence[str]
    ) -> None:
        """Keep with a version that the gate was overruled for it: who, when, why, against which rules."""
        with _mapped(f"record an override of version {version} of {model}"), self._lock():
            tags = self._client.get_model_version(model, version).tags
            made = Override(by, self._now(), reason, replaced, tuple(against))
            text = write_overrides([*read_overrides(tags.get(PREFIX + OVERRIDES, "[]")), made])
            self._client.set_model_version_tag(model, version, PREFIX + OVERRIDES, text)

    def delete_alias(self, model: str, alias: str) -> None:
        """Take an alias away; nothing happens when there is none."""
        with _mapped(f"delete {model}@{alias}"), self._lock():
            if alias in self._aliases(model):
                self._client.delete_registered_model_alias(model, alias)

    def previous_champion(self, model: str) -> str | None:
        """The version that `rollback` would return to, or None."""
        with _mapped(f"read the champions of {model}"):
            trail = self._trail(model)
            return trail[-2]["version"] if len(trail) > 1 else None

    def champion_history(self, model: str) -> list[Entry]:
        """Every move of the champion's alias, oldest first: version, at (ISO UTC), reason, by, move."""
        with _mapped(f"read the champions of {model}"):
            return self._history(model)

    def rollback(self, model: str, reason: str = "", by: str = "") -> str:
        """Make the previous champion champion again and return it; RegistryError when there is none."""
        with _mapped(f"roll {model} back"), self._lock():
            trail = self._trail(model)
            if len(trail) < 2:
                raise RegistryError(
                    f"{model} has no previous champion: promote a version with `bellwether promote`"
                )
            version = trail[-2]["version"]
            self._note(model, self._entry(version, reason, by, ROLLED_BACK))
            self._client.set_registered_model_alias(model, CHAMPION, version)
        return version

    def versions(self, model: str) -> list[Version]:
        """All versions of a model, newest first; empty when it is unknown."""
        check_name(model)
        with _mapped(f"list the versions of {model}"):
            aliases = self._aliases(model)
            found = _pages(self._client.search_model_versions, filter_string=f"name='{model}'")
            rows = [from_mlflow(v, aliases) for v in found]
        return sorted(rows, key=lambda row: int(row.version), reverse=True)

    def models(self) -> list[str]:
        """Names of all registered models, sorted."""
        with _mapped("list the models"):
            return sorted(m.name for m in _pages(self._client.search_registered_models))

    def metrics(self, run_id: str) -> dict[str, float]:
        """The last value of every metric of a run."""
        with _mapped(f"read run {run_id}"):
            return dict(self._client.get_run(run_id).data.metrics)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with exclusive_lock(self._artifacts / ".lock"):
            yield

    def _experiment(self, model: str) -> str:
        known = self._client.get_experiment_by_name(model)
        if known is not None:
            return str(known.experiment_id)
        location = (self._artifacts / model).as_uri()
        return str(self._client.create_experiment(model, artifact_location=location))

    def _runs(self, model: str, matching: str = "") -> Iterator[Any]:
        experiment = self._client.get_experiment_by_name(model)
        if experiment is None:
            return iter(())
        return _pages(
            self._client.search_runs,
            experiment_ids=[experiment.experiment_id],
            filter_string=matching,
            run_view_type=ViewType.ACTIVE_ONLY if matching else ViewType.ALL,
        )

    def _write_record(self, run: str, record: RunRecord) -> None:
        now = int(self._clock.now().timestamp() * 1000)
        self._client.update_run(run, name=f"{record.model} as of {record.as_of[:10]}")
        series = [*((k, (v,)) for k, v in record.metrics.items()), *record.fold_metrics.items()]
        metrics = [
            Metric(name, float(value), now, step)
            for name, values in series
            for step, value in enumerate(values)
        ]
        tags = [RunTag(k, v) for k, v in _prefixed(record.tag_items()).items()]
        for some in chunks(tags, 100):
            self._client.log_batch(run, tags=some)
        for params in chunks(param_items(record.params), 100):
            self._client.log_batch(run, params=[Param(k, v) for k, v in params])
        for part in chunks(metrics, 1000):
            self._client.log_batch(run, metrics=part)
        for folder, path in record.artifacts:
            log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            log(run, str(path), folder or None)

    def _find(self, model: str, digest: str) -> Version | None:
        same = (v for v in self.versions(model) if v.tags.get("manifest_sha256") == digest)
        return next(same, None)

    def _complete(self, known: Version, bundle_dir: Path) -> Registration:
        """The registration of an identical version; files that are gone or damaged are written again."""
        try:
            verify(known.directory)
        except ArtifactError:
            self._store(bundle_dir, known.run_id, load_manifest(bundle_dir))
        path = known.directory / REGISTRATION
        if path.exists() and sha256_file(path) == known.tags.get(_REGISTERED):
            written = read_registration(known.directory)
            if written is not None:
                return written
        return self._write_facts(known.directory, registration_of(known), known.version)

    def _write_facts(self, directory: Path, facts: Registration, version: str) -> Registration:
        """registration.json, and its hash as a tag: the manifest cannot hold it, the service checks it."""
        written = msgspec.structs.replace(facts, version=version)
        write_registration(directory, written)
        digest = sha256_file(directory / REGISTRATION)
        self._client.set_model_version_tag(facts.model, version, PREFIX + _REGISTERED, digest)
        return written

    def _store(self, bundle_dir: Path, run_id: str, manifest: Manifest) -> Path:
        directory = local_path(self._client.get_run(run_id).info.artifact_uri) / "bundle"
        with replace_directory(directory) as fresh:
            for name in (*manifest.files, MANIFEST):
                shutil.copyfile(bundle_dir / name, fresh / name)
            seal(fresh)
            write_mlmodel(fresh, manifest, run_id)
        verify(directory, manifest_hash=sha256_file(bundle_dir / MANIFEST))
        return directory

    def _create(
        self, model: str, directory: Path, run_id: str, evidence: Mapping[str, str], verdict: str
    ) -> str:
        if not self._known(model):
            self._client.create_registered_model(model)
        made = self._client.create_model_version(
            model,
            source=directory.as_uri(),
            run_id=run_id,
            tags=_prefixed(evidence),
            description=verdict[:_DESCRIPTION_LENGTH],
        )
        return str(made.version)

    def _known(self, model: str) -> bool:
        return bool(self._client.search_registered_models(filter_string=f"name='{model}'"))

    def _aliases(self, model: str) -> dict[str, str]:
        if not self._known(model):
            return {}
        return {k: str(v) for k, v in self._client.get_registered_model(model).aliases.items()}

    def _history(self, model: str) -> list[Entry]:
        current = self._aliases(model).get(CHAMPION)
        if not self._known(model):
            return []
        stored = self._client.get_registered_model(model).tags.get(_HISTORY, "[]")
        return read_history(stored, None if current is None else self._entry(current, _BY_HAND, "", FOUND))

    def _trail(self, model: str) -> list[Entry]:
        if CHAMPION not in self._aliases(model):
            return []
        return read_trail(self._history(model), {v.version for v in self.versions(model)})

    def _entry(self, version: str, reason: str, by: str, move: str) -> Entry:
        return entry(version, self._now(), reason, by=by, move=move)

    def _now(self) -> str:
        return self._clock.now().astimezone(UTC).isoformat(timespec="seconds")

    def _note(self, model: str, step: Entry) -> None:
        """Write a move down before the alias moves: a kill between the two leaves the alias as the truth."""
        text = write_history([*self._history(model), step])
        self._client.set_registered_model_tag(model, _HISTORY, text)


@contextmanager
def _mapped(action: str) -> Iterator[None]:
    """Turn the faults of MLflow, its database and the disk into RegistryError."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = " ".join(str(error).split()).partition(" [SQL: ")[0]
        damaged = any(word in reason for word in _DAMAGED)
        remedy = disk_remedy(reason) or (_RESTORE if damaged else _CHECK)
        raise RegistryError(f"cannot {action}: {reason}; {remedy}") from error


def _open(tracking_uri: str) -> MlflowClient:
    """A client whose database was reached: MLflow itself waits until the first query."""
    client = MlflowClient(tracking_uri, registry_uri=tracking_uri)
    client.search_experiments(max_results=1)
    client.search_registered_models(max_results=1)
    return client


def _create_database(path: Path) -> None:
    """Make the tables elsewhere and move them in whole: a kill half-way would leave a store past repair."""
    with TemporaryDirectory() as folder:
        fresh = Path(folder) / path.name
        _open(f"sqlite:///{fresh}")
        write_bytes(path, fresh.read_bytes())


def _pages(search: Any, **query: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(**query, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _own_tags(run: Any) -> dict[str, str]:
    return {k.removeprefix(PREFIX): v for k, v in run.data.tags.items() if k.startswith(PREFIX)}


def _prefixed(tags: Mapping[str, str]) -> dict[str, str]:
    return {PREFIX + key: str(value) for key, value in tags.items()}
