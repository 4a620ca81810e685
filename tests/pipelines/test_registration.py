"""What is registered says one thing everywhere: version, bundle, verdict and report."""

import json
import shutil
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.bundle import HASHED, Manifest, read_registration, write_manifest
from core.files import read_json, sha256_file, write_json
from core.settings import Settings
from core.signal import Thresholds
from evaluation import performance
from evaluation.evidence import assemble
from evaluation.gates import recount
from evaluation.trials import Tried
from evaluation.verdict import Check, Verdict, verdict
from models.registry import Registry
from pipelines.params import load
from pipelines.registration import register
from pipelines.tables import write_table
from pipelines.workspace import REPORTS, STORE

ROOT = Path(__file__).resolve().parents[2]
MODEL = "own-1d"
ROWS = 3000


def account(seed: int, sharpe: float, trades: int = 200) -> dict[str, float]:
    """Summary of daily returns whose sample Sharpe is `sharpe` a year."""
    r = np.random.default_rng(seed).normal(size=ROWS)
    r = 0.006 * ((r - r.mean()) / r.std(ddof=1) + sharpe / 252**0.5)
    return {**performance.summary(r, 252), "trades": trades}


@pytest.fixture
def workspace(tmp_path: Path) -> Any:
    """A run whose ensemble passes every rule when only its own trials count."""
    root = tmp_path / "checkout"
    (root / REPORTS).mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml", "dvc.lock"):
        shutil.copyfile(ROOT / name, root / name)
    _write_bundle(root / STORE / "bundle", _judge(root))
    settings = Settings(home=root)
    return SimpleNamespace(
        root=root, settings=settings, source=None, store=root / STORE, reports=root / REPORTS,
        commit=lambda: "c" * 40, dirty=lambda: False, lock_hash=lambda: "l" * 64,
    )  # fmt: skip


def _judge(root: Path) -> Verdict:
    """Everything the stages from ingest to gate would leave, but the bundle."""
    store, params = root / STORE, load(root / "params.yaml")
    rng = np.random.default_rng(11)
    p = np.clip(0.53 + rng.normal(0, 0.08, ROWS), 0.05, 0.95)
    y = (rng.uniform(size=ROWS) < p).astype(float)
    tables = {"recalibrated_rate": np.full(ROWS, 0.53), "ensemble": p}
    evidence = assemble(
        y, tables, np.repeat(np.arange(6), ROWS // 6), horizon=5, baseline="recalibrated_rate",
        backtests={"recalibrated_rate": account(1, 0.4), "ensemble": account(4, 1.4)},
        benchmark=account(5, 0.4),
    )  # fmt: skip
    whole = Check("bundle_intact", "integrity", True, None, None, "Every file has its hash")
    good = Check("calibrated", "quality", True, 0.01, 0.02, "Calibration error 0.01 <= 0.02")
    judged = verdict([whole, good, recount(evidence, Tried(), params.gate.trade)])
    times = pd.date_range("2000-01-03", periods=ROWS, freq="B", tz="UTC", name="timestamp")
    write_json(store / "evaluate" / "evidence.json", evidence)
    write_json(store / "gate" / "verdict.json", judged.to_dict())
    flat = pd.DataFrame({"ensemble": np.zeros(ROWS), "benchmark": np.zeros(ROWS)}, index=times)
    write_table(store / "evaluate" / "returns.parquet", flat)
    nested = pd.DataFrame({"y": y, "w": np.ones(ROWS), "probability": p, "signal": p}, index=times)
    write_table(store / "train" / "nested.parquet", nested)
    write_json(store / "validate" / "expectations.json", {})
    bars = {"symbol": "own", "timeframe": "1d", "rows": ROWS, "first": "a", "last": "b", "source": "csv"}
    write_json(store / "validate" / "bars.json", {**bars, "description": "a file", "data_hash": "d" * 64})
    write_json(store / "features" / "manifest.json", {"definitions": {"x": "close"}, "warmup": 1})
    write_json(store / "export" / "parity.json", {"largest_difference": {"probability": 0.0}})
    write_json(root / REPORTS / "metrics.json", {"ensemble": {"log_loss": 0.69, "deflated_sharpe": 0.99}})
    (root / REPORTS / "evaluation.html").write_text("the page of the stage")
    return judged


def _write_bundle(bundle: Path, judged: Verdict) -> None:
    bundle.mkdir(parents=True)
    for name in HASHED:
        (bundle / name).write_text(name)
    manifest = Manifest(
        schema_version=1, model=MODEL, symbol="own", timeframe="1d", as_of="2011-07-01",
        files={name: sha256_file(bundle / name) for name in HASHED}, features=[], warmup=1, window=2,
        classes=["down", "up"], base_models=[], thresholds=Thresholds(0.6, 0.55, 0.45, 0.4),
        label={"kind": "fixed_horizon", "horizon": 5}, parity={}, data_hash="d", params_hash="p",
        tradable=judged.tradable, reasons=list(judged.reasons),
    )  # fmt: skip
    write_manifest(bundle, manifest)


@pytest.mark.parametrize(("earlier", "tradable"), [(0, True), (5000, False)])
def test_report_version_and_bundle_agree_after_the_recount(
    workspace: Any, earlier: int, tradable: bool
) -> None:
    settings = workspace.settings
    registry = Registry(settings.tracking_uri, settings.artifacts_dir)
    registry.start_run(MODEL, trials=earlier)
    done = register(workspace, reason="test")
    (version,) = registry.versions(MODEL)
    kept = done.directory.parent
    judged = Verdict.from_dict(read_json(kept / "evidence" / "verdict.json"))
    facts = read_registration(done.directory)
    assert facts is not None
    reasons = list(judged.reasons)
    assert (judged.tradable, facts.tradable) == (tradable, tradable)
    assert version.tags["tradable"] == str(tradable).lower()
    assert facts.reasons == json.loads(version.tags["reasons"]) == reasons
    assert version.description == ("\n".join(reasons) or "every rule passes")
    page = unescape((kept / "reports" / "evaluation.html").read_text())
    luck = next(check for check in judged.checks if check.rule == "deflated_sharpe")
    assert f"over {facts.trials} trials" in luck.reason
    assert luck.reason in page
    assert f"deflated Sharpe over {facts.trials:,} trials" in page
    assert all(reason in page for reason in reasons)
    assert ("Not tradable" in page) is not tradable
    assert registry.metrics(version.run_id)["ensemble.deflated_sharpe"] == luck.value
    # the stage's own output is left as DVC knows it
    assert (workspace.reports / "evaluation.html").read_text() == "the page of the stage"
