"""Stage `evaluate`: every model on the same out-of-sample rows, in probability and in money."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.calendar import get_calendar
from core.files import read_json, replace_directory, write_json, write_text
from core.settings import load_settings
from evaluation import evidence, gates, regimes
from evaluation.accounts import Accounts, Resampling
from evaluation.classification import log_loss, reliability
from evaluation.evidence import PRIMARY
from evaluation.trials import Tried
from models.columns import FINAL, RECALIBRATED, from_columns, model_names
from models.targets import Target
from pipelines import stage, stored, trials
from pipelines.params import Backtest, Params
from pipelines.tables import read_table, write_table
from pipelines.workspace import REPORTS, STORE
from trading.backtest import BacktestResult, PositionRule, buy_and_hold, run_signal, summary
from trading.costs import Costs

BENCHMARK = "benchmark"
VOTE = "vote"
"""The model of combinatorial paths that stands where the walk-forward has the ensemble."""


@dataclass(frozen=True)
class Market:
    """Bars, and how a signal on them becomes money."""

    bars: pd.DataFrame
    rule: PositionRule
    costs: Costs
    periods: float

    @classmethod
    def of(cls, held: stored.StoredBars, params: Backtest) -> "Market":
        """The market of the stored bars under the parameters of the backtest."""
        return cls(
            held.bars,
            PositionRule(params.buy, params.sell, params.allow_short),
            Costs(params.commission_bps, params.slippage_bps),
            get_calendar(held.facts["calendar"]).periods_per_year(held.timeframe),
        )

    def trade(self, signal: pd.Series) -> BacktestResult:
        """The account of a signal."""
        return run_signal(self.bars, signal, self.rule, self.costs)


def work(root: Path, params: Params) -> str:
    """Measure, backtest, and write down the evidence."""
    held, target = stored.bars(root), Target(params.labels.target)
    nested = read_table(root / STORE / "train" / "nested.parquet")
    market, judged = Market.of(held, params.backtest), nested[nested["w"] > 0]
    signals = model_signals(nested, target)
    results = {name: market.trade(signal) for name, signal in signals.items()}
    results[BENCHMARK] = buy_and_hold(held.bars, signals[PRIMARY], market.costs)
    figures = {name: summary(result, market.periods) for name, result in results.items()}
    returns = pd.DataFrame({name: result.returns for name, result in results.items()})
    found = evidence.assemble(
        judged["y"].to_numpy(),
        model_probabilities(judged, target.classes),
        judged["fold"].to_numpy(),
        backtests={name: figures[name] for name in signals},
        benchmark=figures[BENCHMARK],
        horizon=params.labels.horizon,
        baseline=RECALIBRATED,
        classes=target.classes,
        accounts=_accounts(held.bars, returns, judged.index, market.periods),
        importance=read_table(root / STORE / "train" / "importance.parquet"),
        path_scores=_path_scores(root, target, market),
        leaks=read_json(root / STORE / "train" / "leaks.json"),
        resampling=Resampling(params.evidence.replications, params.train.seed),
    )
    found["deflated_sharpe"] = gates.deflated(found, Tried(), params.gate.trade)
    equity = pd.DataFrame({name: result.equity for name, result in results.items()})
    with replace_directory(root / STORE / "evaluate") as out:
        write_json(out / "evidence.json", found)
        write_table(out / "equity.parquet", equity)
        write_table(out / "returns.parquet", returns)
    write_json(root / REPORTS / "metrics.json", _metrics(found))
    _write_plots(root / REPORTS / "plots", judged, equity, found["importance"]["features"])
    trials.record(_ledger(root), held.model, found)
    gain = found["skill"]["difference"]
    word = "lower" if gain > 0 else "higher"
    return f"{found['rows']} rows; ensemble log-loss {abs(gain):.5f} {word} than the recalibrated base rate"


def model_probabilities(frame: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """Out-of-sample class probabilities [n, K] of every base model, the baseline and the ensemble."""
    names = {name: name for name in model_names(frame)} | {PRIMARY: FINAL}
    return {shown: from_columns(frame, name, classes) for shown, name in names.items()}


def model_signals(frame: pd.DataFrame, target: Target) -> dict[str, pd.Series]:
    """P(up) as each of these models would signal it, by bar close."""
    side = frame["side"].to_numpy() if "side" in frame else None
    return {
        name: pd.Series(target.signal(probability, side), frame.index)
        for name, probability in model_probabilities(frame, target.classes).items()
    }


def _accounts(bars: pd.DataFrame, returns: pd.DataFrame, rows: pd.Index, periods: float) -> Accounts:
    """The accounts of all candidates, and the regime that each position and prediction was made in."""
    times = bars.index
    kinds = regimes.label(bars["close"].to_numpy(), times.tz_localize(None).to_numpy())
    at_row, before = times.get_indexer(rows), times.get_indexer(returns.index) - 1
    return Accounts(
        returns={name: returns[name].to_numpy() for name in returns if name != BENCHMARK},
        benchmark=returns[BENCHMARK].to_numpy(),
        periods=periods,
        bar_regimes={kind: labels[before] for kind, labels in kinds.items()},
        row_regimes={kind: labels[at_row] for kind, labels in kinds.items()},
    )


def _path_scores(root: Path, target: Target, market: Market) -> pd.DataFrame | None:
    """Sharpe and log-loss of every family on every path of combinatorial validation; None without paths."""
    file = root / STORE / "train" / "paths.parquet"
    if not file.exists():
        return None
    scores = []
    for path, lines in read_table(file).groupby("path"):
        judged = lines["w"].to_numpy() > 0
        probabilities = model_probabilities(lines, target.classes)
        for name, signal in model_signals(lines, target).items():
            scores.append(
                {
                    "family": VOTE if name == PRIMARY else name,
                    "path": path,
                    "sharpe": summary(market.trade(signal), market.periods)["sharpe"],
                    "log_loss": log_loss(lines["y"].to_numpy()[judged], probabilities[name][judged]),
                }
            )
    return pd.DataFrame(scores)


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


def _write_plots(
    folder: Path, judged: pd.DataFrame, equity: pd.DataFrame, importance: Sequence[dict[str, Any]]
) -> None:
    """What `dvc plots` draws: reliability is that of the last class."""
    last = np.asarray(judged["y"] == judged["y"].max(), dtype=np.float64)
    curve = reliability(last, judged[FINAL].to_numpy())
    calibration = pd.DataFrame({"predicted": curve.predicted, "observed": curve.observed, "rows": curve.rows})
    ranked = pd.DataFrame(importance, columns=["feature", "permutation", "permutation_std", "shap"])
    with replace_directory(folder) as out:
        write_text(out / "equity.csv", equity[[PRIMARY, BENCHMARK]].to_csv(index_label="time"))
        write_text(out / "calibration.csv", calibration.to_csv(index=False))
        write_text(out / "importance.csv", ranked.to_csv(index=False))


def _ledger(root: Path) -> Path:
    """Where trials are counted: the checkout's var/, also for a run in a worktree under it."""
    shared = load_settings().var_dir
    return shared if root.resolve().is_relative_to(shared.resolve()) else root / "var"


if __name__ == "__main__":
    stage.run("evaluate", work)
