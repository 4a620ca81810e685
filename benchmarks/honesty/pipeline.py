"""One data set through the project's own stages, in this process, with light parameters."""

import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.honesty import worlds
from core.files import read_json
from pipelines.params import Params, check, read_tree, with_overrides
from pipelines.workspace import INBOX, STAGES, STORE

ROOT = Path(__file__).resolve().parents[2]
FEATURES = (
    *("return_1", "return_2", "return_5", "return_10", "return_20", "sma_ratio_5", "sma_ratio_20"),
    *("rsi_14", "intraday_return", "realised_20", "range_ratio_5_20", "volume_ratio_20"),
)
LIGHT: Mapping[str, Any] = {
    "data.source": "csv",
    "data.path": (INBOX / "bars.parquet").as_posix(),
    "data.symbol": "world",
    "data.timeframe": "1d",
    "data.calendar": worlds.CALENDAR,
    "labels.horizon": 2,
    "splits.train_rows": 756,
    "splits.test_rows": 252,
    "splits.max_folds": 16,
    "train.families": ["base_rate", "logistic", "lightgbm"],
    "train.processes": 1,
    # keener than the defaults: a model that never dares to trade could not be declared tradable wrongly
    "train.logistic": {"l2": 300.0},
    "train.lightgbm": {"learning_rate": 0.03, "max_rounds": 60, "lambda_l2": 10.0},
    "backtest.buy": 0.54,
    "backtest.sell": 0.46,
}


def light_params() -> Params:
    """params.yaml with what makes the study light; everything else, the gate's rules included, as shipped."""
    tree = with_overrides(read_tree(ROOT / "params.yaml"), LIGHT)
    catalogue = _catalogue(str(tree["features"]["catalog"]))
    return check(with_overrides(tree, {"features.exclude": [n for n in catalogue if n not in FEATURES]}))


def _catalogue(name: str) -> list[str]:
    from features.catalogue import names

    return names(name)


def run(root: Path, returns: worlds.Floats, rng: np.random.Generator, params: Params) -> dict[str, Any]:
    """Every stage under `root` on bars around `returns`; the verdict and what it rests on."""
    begun = time.process_time()
    path = root / INBOX / "bars.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    worlds.bars(rng, returns).to_parquet(path, index=False)
    for stage in STAGES:
        import_module(f"pipelines.{stage}").work(root, params)
    verdict = read_json(root / STORE / "gate" / "verdict.json")
    evidence = read_json(root / STORE / "evaluate" / "evidence.json")
    return {
        "servable": verdict["servable"],
        "tradable": verdict["tradable"],
        "failed": [check["rule"] for check in verdict["checks"] if not check["passed"]],
        "values": {check["rule"]: check["value"] for check in verdict["checks"]},
        "sharpe": evidence["backtest"]["sharpe"],
        "trades": evidence["backtest"]["trades"],
        "trials": {trial["name"]: trial["sharpe"] for trial in evidence["trials"]},
        "rows": evidence["rows"],
        "hit_rate": evidence["models"][evidence["primary"]]["hit_rate"],
        "cpu_seconds": round(time.process_time() - begun, 2),
    }
