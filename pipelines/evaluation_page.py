"""Writing reports/evaluation.html from a workspace's outputs."""

from pathlib import Path
from typing import Any

from core.files import write_text
from evaluation.evidence import PRIMARY
from evaluation.report import ReportInput, render
from evaluation.verdict import Verdict
from models.columns import FINAL, from_columns
from models.targets import CLASSES
from pipelines import stored
from pipelines.params import Params
from pipelines.tables import read_table
from pipelines.workspace import REPORTS, STORE


def write_page(
    root: Path, params: Params, verdict: Verdict, evidence: dict[str, Any], reports: Path | None = None
) -> None:
    """Render the page of the ensemble's out-of-sample record into `reports`, the workspace's by default."""
    returns = read_table(root / STORE / "evaluate" / "returns.parquet")
    nested = read_table(root / STORE / "train" / "nested.parquet")
    judged = nested[nested["w"] > 0]
    facts = stored.bar_facts(root)
    page = render(
        ReportInput(
            title=f"{facts['symbol']} {facts['timeframe']}",
            verdict=verdict,
            pedigree=_pedigree(root, facts, params),
            evidence=evidence,
            times=returns.index,
            returns=returns[PRIMARY].to_numpy(),
            benchmark=returns["benchmark"].to_numpy(),
            y=judged["y"].to_numpy(),
            p=from_columns(judged, FINAL, CLASSES[params.labels.target]),
            signal=judged["signal"].to_numpy(),
            thresholds=(params.backtest.sell, params.backtest.buy),
        )
    )
    write_text((reports or root / REPORTS) / "evaluation.html", page)


def _pedigree(root: Path, facts: dict[str, Any], params: Params) -> dict[str, object]:
    features = stored.feature_manifest(root)
    label, splits, ensemble = params.labels, params.splits, params.ensemble
    return {
        "bars": f"{facts['rows']} of {facts['symbol']} {facts['timeframe']}",
        "span": f"{facts['first']} … {facts['last']}",
        "source": facts["description"],
        "data hash": facts["data_hash"],
        "parameter hash": params.digest,
        "features": f"{len(features.definitions)}, warm after {features.warmup} bars",
        "label": ", ".join(f"{name} {value}" for name, value in label.definition().items()),
        "models": f"{', '.join(params.train.families)}; {ensemble.method}, {ensemble.calibration}",
        "walk-forward": f"{splits.scheme}, purged by label end, embargo {splits.embargo} bars",
        "commission": f"{params.backtest.commission_bps} bps of traded notional",
        "slippage": f"{params.backtest.slippage_bps} bps of traded notional",
    }
