"""Tuning a workspace: the journal outlives a kill, MLflow has every trial, and all of them count."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from core.errors import ArtifactError, ConfigurationError, DataError, RegistryError, StageFailed
from core.files import exclusive_lock, read_json, write_json
from core.settings import Settings
from core.timeframe import Timeframe
from data.parquet import write_bars
from evaluation.trials import TrialSet, gather
from models.families.base import Options, Span
from models.registry import Registry
from pipelines import promotion, trials
from pipelines.params import load, read_tree, set_family, with_overrides, write_tree
from pipelines.tables import write_table
from pipelines.tuning import Progress, Request, Tuned, parse_space, plan, run_command, tune
from pipelines.workspace import STORE, Workspace

ROOT = Path(__file__).resolve().parents[2]
ROWS, HORIZON, MODEL = 640, 3, "own-1d"
SMALL = Request(families=("lightgbm",), trials=6)
# an inner block of so few rows is refused: about half of the trials fail
FAILING = replace(SMALL, space={"inner_share": Options((0.2, 0.02))})
STATUS = {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
CHANGES = {
    "splits.train_rows": 220,
    "splits.test_rows": 60,
    "splits.embargo": 2,
    "labels.horizon": HORIZON,
    "train.families": ["base_rate", "lightgbm"],
    "train.lightgbm": {"max_rounds": 12, "min_data_in_leaf": 30},
    "train.processes": 1,
}

SEARCH_UNTIL_KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from core.errors import RegistryError
from core.settings import Settings
from pipelines import promotion, tuning
from pipelines.workspace import Workspace

Workspace.stale = lambda self: set()
Workspace.commit = lambda self: "c" * 40
Workspace.dirty = lambda self: False

def refuse(settings):
    raise RegistryError("away")

promotion.open_registry = refuse
tuning.tune(Settings(home=Path(sys.argv[1])), tuning.Request(families=("lightgbm",), trials=5000))
"""


def write_home(home: Path) -> Settings:
    """A workspace in which the stages up to labels have run, on bars that the first feature foretells."""
    rng = np.random.default_rng(11)
    times = pd.date_range("2010-01-04", periods=ROWS, freq="D", tz="UTC", name="timestamp").as_unit("ns")
    x = rng.normal(size=(ROWS, 4))
    moves = 0.002 * np.roll(x[:, 0], 1) + 0.01 * rng.normal(size=ROWS)
    close = 100 * np.exp(np.cumsum(moves))
    opened = np.roll(close, 1)
    opened[0] = 100.0
    bars = pd.DataFrame(
        {
            "open": opened,
            "high": np.maximum(opened, close),
            "low": np.minimum(opened, close),
            "close": close,
            "volume": np.ones(ROWS),
        },
        index=times,
    )
    store = home / STORE
    write_bars(store / "validate" / "bars", bars, "own", Timeframe.parse("1d"))
    facts = {"symbol": "own", "timeframe": "1d", "calendar": "24/7", "data_hash": "d" * 64, "rows": ROWS}
    write_json(store / "validate" / "bars.json", facts)
    write_table(store / "features" / "matrix.parquet", pd.DataFrame(x, times, list("abcd")))
    kept = slice(0, ROWS - HORIZON)
    up = (close[HORIZON:] > close[:-HORIZON]).astype(float)
    labels = pd.DataFrame({"label": up, "t1": times[HORIZON:], "weight": 1.0}, index=times[kept])
    write_table(store / "labels" / "labels.parquet", labels)
    write_tree(home / "params.yaml", with_overrides(read_tree(ROOT / "params.yaml"), CHANGES))
    return Settings(home=home)


def stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """A workspace whose outputs are those of its parameters and code."""
    monkeypatch.setattr(Workspace, "stale", lambda _self: set())
    monkeypatch.setattr(Workspace, "commit", lambda _self: "c" * 40)
    monkeypatch.setattr(Workspace, "dirty", lambda _self: False)


@pytest.fixture(autouse=True)
def _up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_still(monkeypatch)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return write_home(tmp_path)


@pytest.fixture
def no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promotion, "open_registry", _refuse)


def journal_of(found: Tuned) -> list[dict[str, Any]]:
    """The trials of a search without what depends on the clock."""
    return [{**trial, "seconds": 0} for trial in read_json(Path(found.journal))["trials"]]


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Tuned, Tuned]:
    """A search of six trials and the same taken to twenty, with a registry."""
    with pytest.MonkeyPatch.context() as patch:
        stand_still(patch)
        settings = write_home(tmp_path_factory.mktemp("home"))
        first = tune(settings, FAILING)[0]
        return settings, first, tune(settings, replace(FAILING, trials=20))[0]


def nested_runs(settings: Settings) -> tuple[Any, list[Any]]:
    """The run of the search, and those of its trials."""
    client = MlflowClient(settings.tracking_uri)
    experiment = client.get_experiment_by_name(MODEL)
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == len(runs) - 1
    return parent, sorted(children, key=lambda run: int(run.info.run_name.split()[-1]))


def test_every_trial_is_a_nested_run_with_its_figures(logged: tuple[Settings, Tuned, Tuned]) -> None:
    settings, _, found = logged
    parent, runs = nested_runs(settings)
    entries = journal_of(found)[1:]
    assert parent.info.run_name == "tune lightgbm"
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["bellwether.commit"] == "c" * 40
    assert [run.info.run_name for run in runs] == [f"lightgbm trial {k}" for k in range(1, 21)]
    client = MlflowClient(settings.tracking_uri)
    for run, entry in zip(runs, entries, strict=True):
        history = client.get_metric_history(run.info.run_id, "fold.log_loss")
        assert [point.value for point in sorted(history, key=lambda point: point.step)] == entry["losses"]
        assert run.data.tags["bellwether.state"] == entry["state"]
        assert float(run.data.params["learning_rate"]) == entry["params"]["learning_rate"]
        assert run.data.tags.get("bellwether.reason", "") == entry["reason"]
        assert run.info.status == STATUS[entry["state"]]
        assert ("log_loss" in run.data.metrics) is (entry["state"] == "finished")
        if entry["record"]:
            assert run.data.metrics["sharpe_per_period"] == entry["record"][0]
            assert run.data.metrics["returns"] == entry["record"][1]
        if entry["state"] == "finished":
            assert run.data.metrics["log_loss"] == pytest.approx(np.mean(entry["losses"]), rel=1e-15)


def test_every_trial_counts_once_with_its_sharpe(logged: tuple[Settings, Tuned, Tuned]) -> None:
    settings, first, found = logged
    registry = Registry(settings.tracking_uri, settings.artifacts_dir)
    assert (first.counted, found.counted, registry.trials(MODEL)) == (6, 20, 20)
    assert min(found.finished, found.pruned, found.failed) > 0
    assert sum(found.reasons.values()) == found.failed
    records = {entry for each in registry.trial_sets(MODEL) for entry in each.records}
    assert records == {tuple(entry["record"]) for entry in journal_of(found)[1:] if entry["record"]}
    both = [*registry.trial_sets(MODEL), *trials.known(settings.var_dir, MODEL)]
    assert gather(both, 100) == gather(registry.trial_sets(MODEL), 100)


def test_a_search_goes_on_where_it_was_and_ends_as_one(
    logged: tuple[Settings, Tuned, Tuned], settings: Settings, no_registry: None
) -> None:
    _, first, second = logged
    assert (first.trials, first.added, second.trials, second.added) == (6, 6, 20, 14)
    whole = tune(settings, replace(FAILING, trials=20))[0]
    assert journal_of(whole) == journal_of(second)
    assert whole.comparison == second.comparison
    again = tune(settings, replace(FAILING, trials=3))[0]
    assert (again.trials, again.added, again.counted) == (20, 0, 20)


def test_without_a_registry_the_search_goes_on_and_is_logged_later(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, logged: tuple[Settings, Tuned, Tuned]
) -> None:
    notes: list[str] = []
    request = replace(SMALL, trials=3, metric="brier")
    with monkeypatch.context() as patch:
        patch.setattr(promotion, "open_registry", _refuse)
        found = tune(settings, request, on_note=notes.append)[0]
    assert (found.trials, found.counted) == (3, 3)
    assert len(notes) == 1
    assert "trials are not logged: the disk is full" in notes[0]
    assert "the disk is full" in found.unlogged
    shutil.copytree(logged[0].mlflow_dir, settings.mlflow_dir)  # a store that is there saves making one
    store = Registry(settings.tracking_uri, settings.artifacts_dir)
    before = store.trials(MODEL)
    later = tune(settings, request)[0]
    assert (later.added, later.unlogged) == (0, "")
    assert (before, store.trials(MODEL), later.counted) == (20, 23, 23)


def _refuse(_settings: Settings) -> Any:
    raise RegistryError("the disk is full")


def test_a_run_that_a_kill_left_unfinished_is_finished(logged: tuple[Settings, Tuned, Tuned]) -> None:
    settings, _, _ = logged
    client = MlflowClient(settings.tracking_uri)
    _, runs = nested_runs(settings)
    client.update_run(runs[2].info.run_id, status="RUNNING")
    tune(settings, replace(FAILING, trials=20))
    _, after = nested_runs(settings)
    assert [run.info.run_id for run in after] == [run.info.run_id for run in runs]
    assert after[2].info.status == runs[2].info.status


def test_kill_9_costs_the_trial_under_way(settings: Settings, tmp_path: Path, no_registry: None) -> None:
    process = subprocess.Popen([sys.executable, "-c", SEARCH_UNTIL_KILLED, str(settings.home), str(ROOT)])
    folder = settings.var_dir / "tuning"
    try:
        _wait_for(lambda: any(_count(path) > 6 for path in folder.glob("*.journal")))
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    (path,) = folder.glob("*.journal")
    kept = _count(path)
    found = tune(settings, replace(SMALL, trials=kept + 1))[0]  # kept counts the parameters in force
    assert found.journal == str(path)
    assert found.added == 2
    whole = tune(write_home(tmp_path / "other"), replace(SMALL, trials=kept + 1))[0]
    assert journal_of(whole) == journal_of(found)
    assert not list(folder.glob(".*.journal.*"))


def _count(path: Path) -> int:
    return len(json.loads(path.read_text())["trials"])


def _wait_for(done: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_new_search_sets_the_old_one_aside_and_both_count(settings: Settings, no_registry: None) -> None:
    old = tune(settings, replace(SMALL, trials=2))[0]
    new = tune(settings, replace(SMALL, trials=3, resume=False))[0]
    assert (new.added, new.trials) == (3, 3)
    assert len(list(Path(old.journal).parent.glob("*.journal"))) == 2
    assert new.counted == 3  # its first two are the same as those of before
    other = tune(settings, replace(SMALL, trials=2, metric="brier"))[0]
    assert other.counted == 5
    assert other.journal != new.journal


def test_processes_change_nothing(settings: Settings, no_registry: None) -> None:
    one = tune(settings, replace(SMALL, trials=4))[0]
    before = journal_of(one)
    tree = with_overrides(read_tree(settings.home / "params.yaml"), {"train.processes": 2})
    write_tree(settings.home / "params.yaml", tree)
    two = tune(settings, replace(SMALL, trials=4, resume=False))[0]
    assert journal_of(two) == before
    changing = {"seconds", "journal"}
    assert {k: v for k, v in asdict(two).items() if k not in changing} == {
        k: v for k, v in asdict(one).items() if k not in changing
    }


def test_time_ends_a_search(settings: Settings, no_registry: None) -> None:
    seen: list[Progress] = []
    found = tune(settings, replace(SMALL, timeout=0.0), seen.append)[0]
    assert (found.trials, found.trial) == (0, 0)
    assert [(each.done, each.total) for each in seen] == [(0, 6)]


def test_an_early_search_is_judged_on_rows_it_has_not_seen(settings: Settings, no_registry: None) -> None:
    found = tune(settings, replace(SMALL, trials=6))[0]
    judged = pd.Timestamp("2010-01-04", tz="UTC") + pd.Timedelta(days=220 + 2 * 60)
    assert pd.Timestamp(found.searched_until) + pd.Timedelta(days=HORIZON) <= judged
    assert found.comparison is not None
    assert found.comparison.rows == ROWS - HORIZON - 220 - 2 * 60
    everything = tune(settings, replace(SMALL, trials=6, scope="all"))[0]
    assert everything.searched_rows == ROWS - HORIZON - 220


def test_all_trials_failing_names_the_commonest_reason(settings: Settings, no_registry: None) -> None:
    tree = with_overrides(read_tree(settings.home / "params.yaml"), {"train.lightgbm": {"inner_share": 0.02}})
    write_tree(settings.home / "params.yaml", tree)
    said = r"none of 4 trials of lightgbm .* commonest reason \(5 times\): fold 1: too few rows"
    with pytest.raises(DataError, match=said):
        tune(settings, replace(SMALL, trials=4))
    assert gather(trials.known(settings.var_dir, MODEL), 0).count == 4


def test_only_one_command_tunes_a_family_at_a_time(settings: Settings, no_registry: None) -> None:
    with (
        exclusive_lock(settings.var_dir / "tuning" / ".own-1d-lightgbm.lock"),
        pytest.raises(StageFailed, match="lightgbm of own-1d is being tuned already"),
    ):
        tune(settings, SMALL)


def test_before_the_labels_there_is_nothing_to_tune(settings: Settings) -> None:
    (settings.home / STORE / "labels" / "labels.parquet").unlink()
    with pytest.raises(ArtifactError, match="run `bellwether run` or `dvc repro labels` first"):
        tune(settings, SMALL)


def test_outputs_of_other_parameters_are_not_tuned_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, no_registry: None
) -> None:
    monkeypatch.setattr(Workspace, "stale", lambda _self: {"labels", "train"})
    with pytest.raises(ArtifactError, match="older than what labels would make now: run `bellwether run`"):
        tune(settings, SMALL)
    monkeypatch.setattr(Workspace, "stale", lambda _self: {"train", "gate"})  # what comes later may be
    assert tune(settings, replace(SMALL, trials=1))[0].trials == 1


@pytest.mark.parametrize("journal", ['{"trials": [{}]}', '{"search": {"model": "own-1d"}}', "[]"])
def test_a_damaged_journal_is_named(settings: Settings, no_registry: None, journal: str) -> None:
    found = tune(settings, replace(SMALL, trials=1))[0]
    Path(found.journal).write_text(journal)
    with pytest.raises(ArtifactError, match="begin again with --new"):
        tune(settings, replace(SMALL, trials=1))
    assert tune(settings, replace(SMALL, trials=1, resume=False))[0].counted == 1


def test_write_sets_what_is_better_on_held_out_rows_only(settings: Settings, no_registry: None) -> None:
    path = settings.home / "params.yaml"
    shutil.copyfile(ROOT / "params.yaml", path)
    # a bad start, which any trial beats
    wild = {"learning_rate": 0.05, "num_leaves": 16, "lambda_l2": 1.0, "min_data_in_leaf": 30}
    set_family(path, "lightgbm", wild)
    for name in ("train_rows", "test_rows", "embargo", "horizon", "processes"):
        value = next(value for key, value in CHANGES.items() if key.endswith(f".{name}"))
        path.write_text(re.sub(rf"(?m)^  {name}: \d+", f"  {name}: {value}", path.read_text()))
    before = path.read_text().splitlines()
    kept = tune(settings, replace(SMALL, trials=5))[0]
    assert path.read_text().splitlines() == before
    found = tune(settings, replace(SMALL, trials=5, write=True))[0]
    assert found.comparison is not None
    assert (found.best, found.comparison) == (kept.best, kept.comparison)
    assert found.written is (found.comparison.best < found.comparison.in_force)
    changed = [line for line in path.read_text().splitlines() if line not in before]
    assert len(changed) == int(found.written)
    if found.written:
        assert load(path).train.lightgbm == found.best


@pytest.mark.parametrize(
    "block",
    [
        "  lightgbm: {}              # the same\n",
        "  lightgbm: {learning_rate: 0.02, num_leaves: 8} # mine\n",
        "  lightgbm:\n    learning_rate: 0.02   # mine\n    num_leaves: 8\n",
    ],
)
def test_a_family_is_set_and_the_rest_of_the_file_stays(tmp_path: Path, block: str) -> None:
    path, text = tmp_path / "params.yaml", (ROOT / "params.yaml").read_text()
    plain = "  lightgbm: {}              # the same\n"
    assert plain in text
    path.write_text(text.replace(plain, block))
    values = {"learning_rate": 1e-05, "num_leaves": 3, "class_weight": "none"}
    set_family(path, "lightgbm", values)
    assert load(path).train.lightgbm == values
    head, tail = text.split(plain)
    assert path.read_text().startswith(head)
    assert path.read_text().endswith(tail)
    set_family(path, "lightgbm", {})
    assert load(path).train.lightgbm == {}


def test_a_family_that_the_file_does_not_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    shutil.copyfile(ROOT / "params.yaml", path)
    with pytest.raises(ConfigurationError, match=r"no train\.lightgbn"):
        set_family(path, "lightgbn", {})


def test_the_command_line_of_a_result_is_read_back_as_it_was_meant() -> None:
    from pipelines.params import parse_overrides

    values = {"learning_rate": 1e-05, "class_weight": "none", "num_leaves": 3}
    _, _, said = run_command("lightgbm", values).partition("--set ")
    assert parse_overrides([said.strip("'")]) == {"train.lightgbm": values}


def test_ranges_are_read() -> None:
    read = parse_space(["a=0.01:0.1:log", "b=2:16", "c=none,balanced", "d=3"])
    assert read == {
        "a": Span(0.01, 0.1, log=True),
        "b": Span(2, 16),
        "c": Options(("none", "balanced")),
        "d": Options((3,)),
    }


@pytest.mark.parametrize("text", ["a", "a=", "=1:2", "a=1:x", "a=1:2:3", "a=1:2:log:4", "a=1:"])
def test_malformed_ranges_are_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match="expected name=low:high"):
        parse_space([text, "b=1:2"])


def test_a_range_given_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="a is given twice"):
        parse_space(["a=1:2", "a=1:3"])


def test_what_cannot_be_tuned_is_told_before_anything_is_read(tmp_path: Path) -> None:
    params = load(ROOT / "params.yaml")
    assert set(plan(params, Request())) == {"logistic", "lightgbm", "catboost", "lstm"}
    with pytest.raises(ConfigurationError, match="base_rate has nothing to tune"):
        plan(params, Request(families=("base_rate",)))
    with pytest.raises(ConfigurationError, match="--space belongs to one family, and 4 are tuned"):
        plan(params, Request(space={"a": Span(1, 2)}))


def evidence(*sharpes: float, n: int = 500) -> dict[str, Any]:
    named = [{"name": f"m{k}", "sharpe": sharpe} for k, sharpe in enumerate(sharpes)]
    return {"backtest": {"n": n}, "trials": named}


def test_an_evaluation_counts_even_if_nothing_is_registered(tmp_path: Path) -> None:
    trials.record(tmp_path, MODEL, evidence(0.1, 0.2))
    trials.record(tmp_path, MODEL, evidence(0.1, 0.2))  # the same again tries nothing
    trials.record(tmp_path, MODEL, evidence(0.1, 0.3))
    trials.record(tmp_path, "other-1d", evidence(0.1, 0.2))
    held = list(trials.known(tmp_path, MODEL))
    assert gather(held, 500).count == 4
    assert {record for each in held for record in each.records} == {(0.1, 500), (0.2, 500), (0.3, 500)}


def test_what_is_registered_and_in_the_ledger_counts_once(tmp_path: Path) -> None:
    own, abandoned = evidence(0.1, 0.2), evidence(0.4)
    for each in (own, abandoned):
        trials.record(tmp_path, MODEL, each)

    class Known:
        def trial_sets(self, _model: str) -> list[TrialSet]:
            return [trials.candidates(MODEL, own), TrialSet("an old run", 7)]

    found = trials.tried(Known(), tmp_path, MODEL, own)  # type: ignore[arg-type]
    assert found.count == 2 + 1 + 7
    assert found.variance == pytest.approx(np.var([0.1, 0.2, 0.4], ddof=1))


def test_a_ledger_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    trials.record(tmp_path, MODEL, evidence(0.1))
    (path,) = (tmp_path / "trials" / MODEL).glob("*.json")
    path.write_text('{"key": "a"}')
    with pytest.raises(ArtifactError, match="does not list trials"):
        list(trials.known(tmp_path, MODEL))
