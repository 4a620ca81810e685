"""The main job as a user runs it: real bars, real stages, real registry."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from core.bundle import read_registration, verify
from core.files import read_json
from core.settings import Settings, child_environment
from pipelines.recall import overrides_of

pytestmark = pytest.mark.e2e
FirstRun = tuple[Any, dict[str, Any]]
# what a browser would go and get
FETCHED = re.compile(r"""(src|href|action)\s*=\s*["']?(https?:)?//|url\(\s*["']?(https?:)?//|@import""")


def locked_outputs(root: Path) -> dict[str, str]:
    """Path → hash of every output that DVC recorded."""
    stages = yaml.safe_load((root / "dvc.lock").read_text())["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}


def test_the_summary_tells_what_happened(first_run: FirstRun) -> None:
    checkout, summary = first_run
    assert summary["data"]["rows"] == 5031
    assert (summary["data"]["first"][:10], summary["data"]["last"][:10]) == ("1999-01-04", "2018-12-31")
    assert summary["validation"]["quarantined"] == 0
    assert summary["features"] >= 60
    judged = {"base_rate", "logistic", "lightgbm", "recalibrated_rate", "ensemble"}
    assert {m["name"] for m in summary["models"]} == judged
    assert {c["kind"] for c in summary["checks"]} == {"integrity", "quality", "trade"}
    assert all(c["reason"] for c in summary["checks"])
    assert (summary["model"], summary["version"], summary["alias"]) == ("sp500-1d", "1", "champion")
    assert [s["status"] for s in summary["stages"]] == ["ran"] * 8
    assert summary["tradable"] == all(c["passed"] for c in summary["checks"])
    for page in summary["reports"].values():
        assert not FETCHED.search(Path(page).read_text())
    assert checkout.changed() == ["dvc.lock"]


def test_the_bundle_is_whole_and_knows_where_it_came_from(first_run: FirstRun) -> None:
    _, summary = first_run
    manifest = verify(Path(summary["bundle"]))
    registration = read_registration(Path(summary["bundle"]))
    assert registration is not None
    assert manifest.data_hash == summary["data"]["hash"]
    assert registration.commit == summary["commit"]
    assert not registration.dirty
    assert registration.run_id == summary["run_id"]


def test_mlflow_holds_the_evidence(first_run: FirstRun) -> None:
    checkout, summary = first_run
    with sqlite3.connect(checkout.root / "mlflow" / "mlflow.db") as store:
        params = dict(store.execute("select key, value from params").fetchall())
        tags = dict(store.execute("select key, value from tags").fetchall())
        metrics = {row[0] for row in store.execute("select distinct key from metrics")}
        source = store.execute("select storage_location from model_versions").fetchone()[0]
    store.close()
    assert params["labels.horizon"] == "5"
    assert tags["bellwether.data_hash"] == summary["data"]["hash"]
    assert tags["bellwether.commit"] == summary["commit"]
    assert {"ensemble.log_loss", "ensemble.deflated_sharpe", "fold.ensemble.log_loss"} <= metrics
    artifacts = Path(urlsplit(source).path).parent
    kept = {p.relative_to(artifacts).as_posix() for p in artifacts.rglob("*") if p.is_file()}
    assert {"pipeline/dvc.lock", "pipeline/params.yaml", "reports/evaluation.html", "bundle/MLmodel"} <= kept


def test_a_second_run_does_nothing_twice(first_run: FirstRun) -> None:
    checkout, summary = first_run
    again = checkout.json("run")
    assert [s["status"] for s in again["stages"]] == ["unchanged"] * 8
    assert again["existing"]
    assert again["version"] == summary["version"]


def test_same_commit_and_data_give_the_same_bytes(
    first_run: FirstRun, make_checkout: Callable[[], Any]
) -> None:
    checkout, _ = first_run
    other = make_checkout()
    subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--quiet"],
        cwd=other.root,
        env=child_environment(BELLWETHER_HOME=str(other.root), PYTHONPATH=str(other.root)),
        check=True,
    )
    assert locked_outputs(other.root) == locked_outputs(checkout.root)
    assert not (other.root / "mlflow" / "mlflow.db").exists()


def test_an_overridden_run_leaves_the_checkout_clean(first_run: FirstRun, shared_data: Path) -> None:
    checkout, _ = first_run
    before = checkout.changed(), read_json(checkout.root / "data/store/bundle/manifest.json")
    own = checkout.root.parent / "nvda.csv"
    lines = (shared_data / "nvda_1d.csv").read_text().splitlines()
    own.write_text("\n".join(["Date,Open,High,Low,Close,Adj Close,Volume", *lines[1:]]) + "\n")
    run = ["run", "--set", "data.source=csv", "--set", f"data.path={own.name}", "--set", "data.symbol=NVDA"]
    text = checkout.bellwether(*run, cwd=own.parent).stdout
    assert "NVDA-1d version 1, champion" in text
    assert "4012 rows of NVDA 1d" in text
    assert (checkout.changed(), read_json(checkout.root / "data/store/bundle/manifest.json")) == before
    # what a retrain after drift would use: the same file, where new bars are appended
    assert overrides_of(Settings(home=checkout.root), "NVDA-1d") == {
        "data.source": "csv",
        "data.path": str(own),
        "data.symbol": "NVDA",
    }


def test_a_killed_stage_loses_nothing(make_checkout: Callable[[], Any]) -> None:
    checkout = make_checkout()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "run"],
        cwd=checkout.root,
        env=child_environment(BELLWETHER_HOME=str(checkout.root), PYTHONPATH=str(checkout.root)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    done = checkout.root / "data/store/features/headline.txt"
    deadline = monotonic() + 120
    while not done.exists() and monotonic() < deadline:
        sleep(0.05)
    sleep(1.0)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    summary = checkout.json("run")
    status = {s["stage"]: s["status"] for s in summary["stages"]}
    assert status["ingest"] == "unchanged"
    assert summary["alias"] == "champion"
