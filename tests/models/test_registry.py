"""The registry on a real store; one store for the module, each test under a model name of its own."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
import mlflow.onnx
import numpy as np
import pytest

from core.bundle import CHALLENGER, CHAMPION, REGISTRATION, SEAL, Registration, read_registration, verify
from core.clock import FakeClock
from core.errors import ArtifactError, RegistryError
from core.files import directory_hashes, sha256_file
from evaluation.trials import TrialSet, Tried
from models.onnx_run import Runner
from models.registry import Registry
from models.run_record import RunRecord
from models.versions import Override, Registered

ROOT = Path(__file__).resolve().parents[2]
Make = Callable[..., Path]

OPEN_STORE = """
import sys
from pathlib import Path
from core.settings import disable_telemetry
disable_telemetry()
from models.registry import Registry
home = Path(sys.argv[1])
registry = Registry(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts")
print(registry.start_run("race-1d", trials=1))
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("a store")  # the space is part of the test


@pytest.fixture(scope="module")
def registry(store: Path) -> Registry:
    clock = FakeClock(datetime(2019, 1, 2, 12, tzinfo=UTC))
    return Registry(f"sqlite:///{store / 'mlflow.db'}", store / "artifacts", clock)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A model name that no other test uses."""
    return request.node.name.split("[")[0].replace("_", ".").removeprefix("test.") + "-1d"


def run_record(model: str, **changes: Any) -> RunRecord:
    facts: dict[str, Any] = {
        "model": model,
        "symbol": model.removesuffix("-1d"),
        "timeframe": "1d",
        "as_of": "2018-12-31T21:00:00Z",
        "data_hash": "d" * 64,
        "params_hash": "p" * 64,
        "commit": "c" * 40,
        "dirty": False,
        "dvc_lock_sha256": "l" * 64,
        "tried": TrialSet("", 7),
    }
    return RunRecord(**{**facts, **changes})


def put(registry: Registry, bundle: Path, run_id: str, **changes: Any) -> Registered:
    pedigree = {"commit": "c" * 40, "dirty": False, "dvc_lock_sha256": "l" * 64}
    return registry.register(bundle, run_id, **{**pedigree, **changes})


@pytest.fixture
def publish(registry: Registry, name: str, make_bundle: Make, tmp_path: Path) -> Callable[..., Registered]:
    """publish(data_hash) makes, logs and registers a bundle of the test's own model."""

    def act(data_hash: str = "1", **changes: Any) -> Registered:
        bundle = make_bundle(tmp_path / f"bundle-{data_hash}", model=name, data_hash=data_hash)
        digest = sha256_file(bundle / "manifest.json")
        return put(registry, bundle, registry.log_run(run_record(name, manifest_sha256=digest)), **changes)

    return act


@pytest.fixture
def mlflow_uri(store: Path) -> Iterator[None]:
    mlflow.set_tracking_uri(f"sqlite:///{store / 'mlflow.db'}")
    yield
    mlflow.set_tracking_uri(None)


def stored_run(store: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with sqlite3.connect(store / "mlflow.db") as connection:
        return connection.execute(query, values).fetchall()


def test_a_run_keeps_everything(registry: Registry, store: Path, name: str, tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "evaluation.html").write_text("<p>fine</p>")
    (tmp_path / "dvc.lock").write_text("schema: '2.0'")
    record = run_record(
        name,
        params={"train": {"seed": 1}, "many": {f"k{k}": k for k in range(230)}, "long": "z" * 9000},
        metrics={"auc": 0.53, "undefined": float("nan")},
        fold_metrics={"fold.log_loss": [0.69, 0.70, 0.68]},
        artifacts=[("reports", tmp_path / "reports"), ("", tmp_path / "dvc.lock")],
        tags={"note": "first"},
    )
    run = registry.log_run(record)
    named = stored_run(store, "select name from runs where run_uuid=?", run)
    assert named == [(f"{name} as of {record.as_of[:10]}",)]
    metrics = registry.metrics(run)
    assert (metrics["auc"], metrics["fold.log_loss"]) == (0.53, 0.68)
    steps = "select step, value from metrics where run_uuid=? and key='fold.log_loss' order by step"
    assert stored_run(store, steps, run) == [(0, 0.69), (1, 0.70), (2, 0.68)]
    assert stored_run(store, "select count(*) from params where run_uuid=?", run) == [(232,)]
    assert stored_run(store, "select status from runs where run_uuid=?", run) == [("FINISHED",)]
    tags = dict(stored_run(store, "select key, value from tags where run_uuid=?", run))
    assert tags["bellwether.data_hash"] == "d" * 64
    assert (tags["bellwether.trials"], tags["bellwether.note"]) == ("7", "first")
    files = store / "artifacts" / name / run / "artifacts"
    assert set(directory_hashes(files)) == {"dvc.lock", "reports/evaluation.html"}


def test_a_run_that_cannot_be_logged_ends_as_failed(registry: Registry, store: Path, name: str) -> None:
    with pytest.raises(RegistryError, match=r"cannot log a run of .*bellwether doctor"):
        registry.log_run(run_record(name, artifacts=[("", Path("/nowhere/dvc.lock"))]))
    query = "select status from runs r join experiments e using (experiment_id) where e.name=?"
    assert stored_run(store, query, name) == [("FAILED",)]
    assert registry.trials(name) == 7


def test_a_version_is_the_bundle(publish: Callable[..., Registered], name: str, store: Path) -> None:
    made = publish(verdict="not tradable: deflated Sharpe 0.41 < 0.95", tried=Tried(12, 0.5))
    expected = Registration(
        model=name,
        version="1",
        run_id=made.registration.run_id,
        commit="c" * 40,
        dirty=False,
        dvc_lock_sha256="l" * 64,
        registered_at="2019-01-02T12:00:00+00:00",
        trials=12,
        tradable=False,
        reasons=["deflated Sharpe 0.41 < 0.95"],
        sharpe_variance=0.5,
    )
    assert not made.existing
    assert made.registration == read_registration(made.directory) == expected
    assert verify(made.directory).model == name
    assert store in made.directory.parents


def test_an_identical_model_is_not_registered_twice(
    publish: Callable[..., Registered], registry: Registry, name: str
) -> None:
    first, second = publish("1"), publish("1")
    assert second.existing
    assert (second.registration, second.directory) == (first.registration, first.directory)
    assert publish("2").registration.version == "2"
    assert [v.version for v in registry.versions(name)] == ["2", "1"]


def test_find_knows_a_registered_bundle(
    publish: Callable[..., Registered], registry: Registry, name: str, tmp_path: Path, make_bundle: Make
) -> None:
    assert registry.find(make_bundle(tmp_path / "new", model=name)) is None
    made = publish("1")
    found = registry.find(tmp_path / "bundle-1")
    assert found is not None
    assert (found.version, found.directory) == ("1", made.directory)


def test_a_kill_before_registration_json_is_mended_by_registering_again(
    publish: Callable[..., Registered],
) -> None:
    first = publish("1")
    (first.directory / REGISTRATION).unlink()
    again = publish("1")
    assert again.existing
    assert again.registration == read_registration(first.directory) == first.registration


@pytest.mark.parametrize("damage", ["gone", "half"])
def test_the_facts_of_a_version_outlive_registration_json(
    damage: str, publish: Callable[..., Registered], registry: Registry
) -> None:
    first = publish("1", tried=Tried(999), tradable=False, reasons=["999 trials"])
    path = first.directory / REGISTRATION
    path.write_bytes(path.read_bytes()[:20])
    if damage == "gone":
        path.unlink()
    # whoever repeats the registration knows neither the trials nor the verdict of the first
    assert publish("1", commit="e" * 40).registration == read_registration(first.directory)
    assert read_registration(first.directory) == first.registration


def test_a_version_of_before_the_seal_gets_one_by_registering_again(
    publish: Callable[..., Registered], registry: Registry, name: str
) -> None:
    first = publish("1")
    before = directory_hashes(first.directory)
    (first.directory / SEAL).unlink()
    (version,) = registry.versions(name)
    verify(first.directory, manifest_hash=version.tags["manifest_sha256"])
    assert publish("1").registration == first.registration
    assert directory_hashes(first.directory) == before
    verify(first.directory)


def test_lost_files_of_a_version_are_brought_back(publish: Callable[..., Registered]) -> None:
    first = publish("1")
    before = directory_hashes(first.directory)
    shutil.rmtree(first.directory)
    publish("1")
    assert directory_hashes(first.directory) == before


def test_a_version_is_placed_once(publish: Callable[..., Registered], registry: Registry, name: str) -> None:
    publish("1")
    assert not registry.placed(name, "1")
    registry.mark_placed(name, "1")
    assert registry.placed(name, "1")


def test_a_run_killed_while_logged_and_repeated_counts_once(
    registry: Registry, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = run_record(name, manifest_sha256="m" * 64)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(registry, "_write_record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        registry.log_run(record)
    registry.log_run(record)
    assert registry.trials(name) == 7


def test_a_recount_may_overrule_the_manifest(publish: Callable[..., Registered], registry: Registry) -> None:
    made = publish("1", tried=Tried(999), tradable=False, reasons=["999 trials"])
    version = registry.versions(made.registration.model)[0]
    assert (version.tags["trials"], version.tags["reasons"]) == ("999", '["999 trials"]')


def test_a_changed_file_is_not_registered(
    registry: Registry, make_bundle: Make, tmp_path: Path, name: str
) -> None:
    bundle = make_bundle(tmp_path / "bundle", model=name)
    (bundle / "golden.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"golden\.json"):
        put(registry, bundle, registry.start_run(name))
    assert registry.versions(name) == []


def test_versions_show_their_evidence(
    publish: Callable[..., Registered], registry: Registry, name: str
) -> None:
    publish("1", verdict="servable, not tradable", tags={"sharpe": "0.4"})
    registry.set_alias(name, CHAMPION, "1")
    registry.set_alias(name, CHALLENGER, "1")
    (version,) = registry.versions(name)
    assert version.aliases == (CHALLENGER, CHAMPION)
    assert version.description == "servable, not tradable"
    assert version.created.tzinfo is UTC
    assert version.tags["sharpe"] == "0.4"
    assert {"data_hash", "params_hash", "commit", "dirty", "tradable", "as_of"} <= set(version.tags)
    assert name in registry.models()


def test_champions_move_and_roll_back(
    publish: Callable[..., Registered], registry: Registry, name: str
) -> None:
    assert registry.get_alias(name, CHAMPION) is None
    assert registry.previous_champion(name) is None
    for version in ("1", "2", "3"):
        publish(version)
        registry.set_alias(name, CHAMPION, version, reason=f"better than {version}")
    assert [e["version"] for e in registry.champion_history(name)] == ["1", "2", "3"]
    assert registry.previous_champion(name) == "2"
    assert (registry.rollback(name), registry.get_alias(name, CHAMPION)) == ("2", "2")
    assert registry.rollback(name) == "1"
    with pytest.raises(RegistryError, match="no previous champion"):
        registry.rollback(name)
    registry.set_alias(name, CHAMPION, "3")
    assert registry.previous_champion(name) == "1"
    history = [(e["version"], e["move"]) for e in registry.champion_history(name)]
    assert history == [
        ("1", "promoted"), ("2", "promoted"), ("3", "promoted"),
        ("2", "rolled back"), ("1", "rolled back"), ("3", "promoted"),
    ]  # fmt: skip


@pytest.mark.parametrize("move", ["promote", "roll back"])
def test_a_kill_between_history_and_alias_leaves_the_alias_as_the_truth(
    publish: Callable[..., Registered],
    registry: Registry,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    move: str,
) -> None:
    for version in ("1", "2", "3"):
        publish(f"{version}{move}")
        registry.set_alias(name, CHAMPION, version) if version != "3" else None
    act = (
        partial(registry.set_alias, name, CHAMPION, "3")
        if move == "promote"
        else partial(registry.rollback, name)
    )
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(registry._client, "set_registered_model_alias", _killed)
        act()
    assert (registry.get_alias(name, CHAMPION), registry.previous_champion(name)) == ("2", "1")
    assert registry.champion_history(name)[-1]["move"] == "found"
    act()
    assert registry.get_alias(name, CHAMPION) == ("3" if move == "promote" else "1")
    assert [e["version"] for e in registry.champion_history(name)][-1] == registry.get_alias(name, CHAMPION)


def _killed(*_: Any) -> None:
    raise KeyboardInterrupt


def test_an_override_stays_with_its_version(
    publish: Callable[..., Registered], registry: Registry, name: str
) -> None:
    publish("1")
    facts: dict[str, Any] = {"by": "ada", "replaced": None, "against": ["worse"]}
    for reason in ("the market changed − truly", "the market changed − truly", "again"):
        registry.record_override(name, "1", reason=reason, **facts)
    (version,) = registry.versions(name)
    at = "2019-01-02T12:00:00+00:00"
    assert version.overrides == tuple(
        Override("ada", at, reason, None, ("worse",)) for reason in ("the market changed − truly", "again")
    )


def test_an_alias_goes_away(publish: Callable[..., Registered], registry: Registry, name: str) -> None:
    publish("1")
    registry.set_alias(name, CHALLENGER, "1")
    registry.delete_alias(name, CHALLENGER)
    registry.delete_alias(name, CHALLENGER)
    assert registry.get_alias(name, CHALLENGER) is None


def test_an_alias_needs_a_version(publish: Callable[..., Registered], registry: Registry, name: str) -> None:
    publish("1")
    with pytest.raises(RegistryError, match="version 9"):
        registry.set_alias(name, CHAMPION, "9")
    assert registry.champion_history(name) == []


def test_trials_count_every_run_once(
    publish: Callable[..., Registered], registry: Registry, name: str
) -> None:
    assert registry.trials(name) == 0
    publish("1")
    publish("1")  # the same bundle again tried nothing new
    abandoned = registry.start_run(name, trials=20)
    assert registry.trials(name) == 27
    registry.end_run(abandoned, "KILLED")
    registry.log_run(run_record(name, tried=TrialSet("", 3), status="FAILED"))
    assert registry.trials(name) == 30


def test_deleted_runs_still_count(registry: Registry, name: str, store: Path, mlflow_uri: None) -> None:
    mlflow.MlflowClient().delete_run(registry.start_run(name, trials=5))
    assert registry.trials(name) == 5


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")
def test_mlflow_itself_loads_the_champion(
    publish: Callable[..., Registered], registry: Registry, name: str, tmp_path: Path, mlflow_uri: None
) -> None:
    made = publish("1")
    registry.set_alias(name, CHAMPION, "1")
    got = mlflow.artifacts.download_artifacts(f"models:/{name}@champion", dst_path=str(tmp_path / "got"))
    assert verify(Path(got)) == verify(made.directory)
    assert read_registration(Path(got)) == made.registration
    loaded = mlflow.onnx.load_model(f"models:/{name}@champion")
    assert [i.name for i in loaded.graph.input] == ["features"]
    served = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    rows = np.ones((2, 8, 10), np.float32)
    native = Runner((made.directory / "model.onnx").read_bytes())(rows)
    np.testing.assert_array_equal(served.predict({"features": rows})["probability"], native.probability)


def test_the_champion_is_found_without_mlflow(
    publish: Callable[..., Registered], registry: Registry, store: Path, name: str
) -> None:
    publish("1")
    made = publish("2")
    registry.set_alias(name, CHAMPION, "2")
    found = stored_run(
        store,
        "select v.version, v.storage_location from registered_model_aliases a "
        "join model_versions v on v.workspace = a.workspace and v.name = a.name and v.version = a.version "
        "where a.name = ? and a.alias = 'champion'",
        name,
    )
    assert len(found) == 1
    version, uri = found[0]
    address = urlsplit(uri)
    assert (version, address.scheme, address.netloc) == (2, "file", "")
    assert Path(url2pathname(address.path)) == made.directory
    assert verify(Path(url2pathname(address.path))).data_hash == "2"


@pytest.mark.parametrize("bad", ["", "EUR/USD-1h", "a:b", "it's-1d"])
def test_names_that_mlflow_misreads_are_refused(registry: Registry, bad: str) -> None:
    with pytest.raises(RegistryError, match="rename the symbol"):
        registry.start_run(bad)


def test_a_damaged_database_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 99)
    with pytest.raises(RegistryError, match="is not an SQLite database") as caught:
        Registry(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts")
    assert "[SQL" not in str(caught.value)
    assert (tmp_path / "mlflow.db").read_bytes() == b"not a database" * 99


def test_a_store_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="must be a local database"):
        Registry("http://127.0.0.1:5000", tmp_path / "artifacts")


def test_two_processes_may_create_the_store(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPEN_STORE, str(tmp_path)]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in "ab"]
    ends = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert all(not err for _, err in ends), ends  # MLflow's own chatter is silenced
    registry = Registry(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts")
    assert registry.trials("race-1d") == 2
