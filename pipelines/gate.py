"""Stage `gate`: the verdict, the bundle that carries it, and the evaluation report."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.bundle import MODEL
from core.files import read_json, replace_directory, sha256_file, write_json
from core.signal import Thresholds
from evaluation.gates import judge
from evaluation.verdict import Verdict
from models import bundle_build
from models.bundle_build import BundleFacts, Reference
from models.dataset import windows
from models.onnx_run import Runner
from models.targets import CLASSES
from pipelines import stage, stored
from pipelines.evaluation_page import write_page
from pipelines.market_hours import market_hours
from pipelines.params import Params
from pipelines.workspace import STORE

_PART = 1024
"""Rows that are scored at a time."""


def work(root: Path, params: Params) -> str:
    """Judge, pack, report."""
    evidence = read_json(root / STORE / "evaluate" / "evidence.json")
    exported = read_json(root / STORE / "export" / "parity.json")
    verdict = judge(
        evidence,
        exported["largest_difference"],
        params.gate.serve,
        params.gate.trade,
        bundle_fault=_graph_fault(root, exported["model_sha256"]),
    )
    _write_bundle(root, params, verdict, exported)
    with replace_directory(root / STORE / "gate") as out:
        write_json(out / "verdict.json", verdict.to_dict())
    write_page(root, params, verdict, evidence)
    return f"{_word(verdict)}: {sum(c.passed for c in verdict.checks)} of {len(verdict.checks)} rules pass"


def _word(verdict: Verdict) -> str:
    if verdict.tradable:
        return "may serve and trade"
    return "may serve, may not trade" if verdict.servable else "no evidence of skill, may not trade"


def _graph_fault(root: Path, expected: str) -> str | None:
    actual = sha256_file(root / STORE / "export" / MODEL)
    return None if actual == expected else f"{MODEL} has SHA-256 {actual[:12]}…, exported as {expected[:12]}…"


def _write_bundle(root: Path, params: Params, verdict: Verdict, exported: dict[str, Any]) -> None:
    held, features = stored.bars(root), stored.feature_manifest(root)
    window = params.train.window
    matrix = stored.feature_matrix(root)
    x = np.ascontiguousarray(matrix.to_numpy(dtype=np.float64).astype(np.float32))
    model = (root / STORE / "export" / MODEL).read_bytes()
    rows = bundle_build.golden_rows(x, np.arange(features.warmup, len(x)))
    bundle_build.build(
        root / STORE / "bundle",
        _facts(held, features, params, verdict, exported),
        model=model,
        checkpoint=(root / STORE / "features" / "checkpoint.bin").read_bytes(),
        state_window=windows(x, np.array([len(x) - 1]), window)[0],
        golden=windows(x, rows, window),
        reference=_reference(model, matrix, x, features.warmup, window),
    )


def _reference(model: bytes, matrix: pd.DataFrame, x: Any, warmup: int, window: int) -> Reference:
    """Every complete row as the service sees it, and what this very model says of it."""
    rows, runner = np.arange(warmup, len(x)), Runner(model)
    # Part by part: the graph wants each part's windows as a copy, and all of them would not fit in memory.
    parts = [
        runner(windows(x, rows[at : at + _PART], window)).probability for at in range(0, len(rows), _PART)
    ]
    return Reference(matrix.index[warmup:].as_unit("ns").asi8, x[warmup:], np.concatenate(parts))


def _facts(
    held: stored.StoredBars,
    features: stored.FeatureManifest,
    params: Params,
    verdict: Verdict,
    exported: dict[str, Any],
) -> BundleFacts:
    money = params.backtest
    return BundleFacts(
        model=held.model,
        symbol=held.facts["symbol"],
        timeframe=held.facts["timeframe"],
        as_of=held.facts["last"],
        definitions=features.definitions,
        warmup=features.warmup,
        window=params.train.window,
        classes=CLASSES[params.labels.target],
        base_models=exported["base_models"],
        thresholds=Thresholds(money.strong_buy, money.buy, money.sell, money.strong_sell),
        label=params.labels.definition(),
        parity=exported["largest_difference"],
        data_hash=held.facts["data_hash"],
        params_hash=params.digest,
        tradable=verdict.tradable,
        reasons=list(verdict.reasons),
        hours=market_hours(held.facts["calendar"], held.facts["last"]),
    )


if __name__ == "__main__":
    stage.run("gate", work)
