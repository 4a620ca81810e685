"""Stage `evaluate`: every model on the same out-of-sample rows, in probability and in money."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.calendar import get_calendar
from core.files import replace_directory, write_json, write_text
from evaluation import evidence, gates
from evaluation.classification import reliability
from evaluation.trials import Tried
from models.ensemble import RECALIBRATED, Ensemble
from pipelines import stage, stored
from pipelines.params import Backtest, Params
from pipelines.tables import read_table, write_table
from pipelines.workspace import REPORTS, STORE
from trading.backtest import BacktestResult, PositionRule, buy_and_hold, run_signal, summary
from trading.costs import Costs

PRIMARY, BENCHMARK = "ensemble", "benchmark"
_OTHER = {"row", "fold", "y", "w", "probability", "confidence"}
_SHOWN = 25


@dataclass(frozen=True)
class Backtests:
    """A backtest per model and the benchmark's, and their figures."""

    results: dict[str, BacktestResult]
    figures: dict[str, dict[str, float]]


def work(root: Path, params: Params) -> str:
    """Measure, backtest, and write down the evidence."""
    nested = read_table(root / STORE / "train" / "nested.parquet")
    models = probabilities(nested)
    tested = _backtests(stored.bars(root), models, params.backtest)
    found = evidence.assemble(
        nested["y"].to_numpy(),
        {name: p.to_numpy() for name, p in models.items()},
        nested["fold"].to_numpy(),
        backtests={name: tested.figures[name] for name in models},
        benchmark=tested.figures[BENCHMARK],
        horizon=params.labels.horizon,
        baseline=RECALIBRATED,
    )
    found["deflated_sharpe"] = {
        name: gates.recount({**found, "backtest": figures}, Tried(), params.gate.trade).value
        for name, figures in found["backtests"].items()
    }
    importance = _importance(Ensemble.load(root / STORE / "train" / "ensemble"))
    with replace_directory(root / STORE / "evaluate") as out:
        write_json(out / "evidence.json", found)
        write_table(out / "equity.parquet", _equity(tested.results))
        write_table(out / "returns.parquet", _returns(tested.results))
        write_table(out / "importance.parquet", importance)
    write_json(root / REPORTS / "metrics.json", _metrics(found))
    _write_plots(root / REPORTS / "plots", nested, _equity(tested.results), importance)
    gain = found["skill"]["difference"]
    word = "lower" if gain > 0 else "higher"
    return f"{found['rows']} rows; ensemble log-loss {abs(gain):.5f} {word} than the recalibrated base rate"


def probabilities(nested: pd.DataFrame) -> dict[str, pd.Series]:
    """Out-of-sample P(up) of every base model, the baseline and the calibrated ensemble, by bar close."""
    bases = {str(name): nested[name] for name in nested.columns if name not in _OTHER}
    return {**bases, PRIMARY: nested["probability"]}


def _backtests(held: stored.StoredBars, models: dict[str, pd.Series], params: Backtest) -> Backtests:
    rule = PositionRule(params.buy, params.sell, params.allow_short)
    costs = Costs(params.commission_bps, params.slippage_bps)
    periods = get_calendar(held.facts["calendar"]).periods_per_year(held.timeframe)
    results = {name: run_signal(held.bars, p, rule, costs) for name, p in models.items()}
    results[BENCHMARK] = buy_and_hold(held.bars, models[PRIMARY], costs)
    return Backtests(results, {name: summary(result, periods) for name, result in results.items()})


def _equity(results: dict[str, BacktestResult]) -> pd.DataFrame:
    return pd.DataFrame({name: result.equity for name, result in results.items()})


def _returns(results: dict[str, BacktestResult]) -> pd.DataFrame:
    return pd.DataFrame({name: result.returns for name, result in results.items()})


def _importance(ensemble: Ensemble) -> pd.DataFrame:
    """Share of each family's total importance per feature, and their mean over families, descending."""
    shares = {name: v / max(v.sum(), 1e-300) for name, v in ensemble.importance().items()}
    table = pd.DataFrame(shares, index=pd.Index(ensemble.feature_names, name="feature"))
    table["importance"] = table.mean(axis=1) if shares else np.zeros(len(table))
    return table.sort_values("importance", ascending=False, kind="stable")


def _metrics(found: dict[str, Any]) -> dict[str, Any]:
    """The few numbers that `dvc metrics show` compares between commits."""
    money = ("sharpe", "max_drawdown", "trades")
    return {
        name: {
            **{k: found["models"][name][k] for k in ("log_loss", "auc", "brier", "ece")},
            **{k: found["backtests"][name][k] for k in money},
            "deflated_sharpe": found["deflated_sharpe"][name],
        }
        for name in found["models"]
    } | {BENCHMARK: {k: found["benchmark"][k] for k in ("sharpe", "max_drawdown")}}


def _write_plots(folder: Path, nested: pd.DataFrame, equity: pd.DataFrame, importance: pd.DataFrame) -> None:
    curve = reliability(nested["y"].to_numpy(), nested["probability"].to_numpy())
    calibration = pd.DataFrame({"predicted": curve.predicted, "observed": curve.observed, "rows": curve.rows})
    with replace_directory(folder) as out:
        write_text(out / "equity.csv", equity[[PRIMARY, BENCHMARK]].to_csv(index_label="time"))
        write_text(out / "calibration.csv", calibration.to_csv(index=False))
        write_text(out / "importance.csv", importance[["importance"]].head(_SHOWN).to_csv())


if __name__ == "__main__":
    stage.run("evaluate", work)
