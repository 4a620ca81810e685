"""What the accounts bar by bar tell of luck and markets: sections of the evidence.

`evaluation.evidence` documents each section; one function makes one.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import DataError
from evaluation import bootstrap, performance, regimes
from evaluation.comparison import SuperiorAbility, superior_ability
from evaluation.overfitting import pbo

Vector = npt.NDArray[np.float64]

# blocks of the combinatorial splits for the probability of backtest overfitting: 12,870 splits
PBO_BLOCKS = 16
# standard deviation of that probability over candidates without any skill
PBO_NOISE = 0.185


@dataclass(frozen=True, eq=False)
class Skill:
    """The primary against the baseline on the v rows that every model predicts validly.

    gain: [v] log-loss of the baseline − the primary's. hit: [v] whether the primary's likeliest class came.
    rows: [n] which of all predicted rows those are. horizon: bars that one label spans.
    """

    gain: Vector
    hit: npt.NDArray[np.bool_]
    rows: npt.NDArray[np.bool_]
    horizon: int


@dataclass(frozen=True, eq=False)
class Accounts:
    """Every candidate's account bar by bar, out of sample and after costs, and the market it was made in.

    returns: {model: [t]} simple returns of the same t bars, the primary's among them. benchmark: [t] of buy
    and hold. periods: bars per year. bar_regimes: {kind: [t]} regime known when the position of each bar was
    taken, that is at the close before. row_regimes: {kind: [n]} regime at the close of each predicted row.
    `evaluation.regimes.label` makes both; they may be empty.
    """

    returns: Mapping[str, npt.ArrayLike]
    benchmark: npt.ArrayLike
    periods: float
    bar_regimes: Mapping[str, npt.ArrayLike] = field(default_factory=dict)
    row_regimes: Mapping[str, npt.ArrayLike] = field(default_factory=dict)

    def sections(self, skill: "Skill", primary: str, resampling: "Resampling") -> dict[str, Any]:
        """The sections of the evidence that need these accounts: overfitting, spa, intervals, regimes."""
        returns = {name: np.asarray(r, dtype=np.float64) for name, r in self.returns.items()}
        benchmark = np.asarray(self.benchmark, dtype=np.float64)
        _check(self, returns, benchmark, primary, len(skill.rows))
        money = np.column_stack([returns[primary], benchmark])
        return {
            "overfitting": _overfitting(returns),
            "spa": _spa(returns, benchmark, primary, resampling),
            "intervals": _intervals(skill, money, self.periods, resampling),
            "regimes": _regimes(skill, self, returns[primary]),
        }


@dataclass(frozen=True)
class Resampling:
    """How often the bootstrap draws, and from which seed."""

    replications: int = 1000
    seed: int = 0


RESAMPLING = Resampling()


def _overfitting(returns: Mapping[str, Vector]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "pbo": None,
        "noise": PBO_NOISE,
        "candidates": len(returns),
        "blocks": PBO_BLOCKS,
        "splits": None,
        "reason": None,
    }
    table = np.column_stack(list(returns.values()))
    if table.shape[1] < 2 or len(table) < 2 * PBO_BLOCKS:
        few = f"{table.shape[1]} candidates over {len(table)} bars"
        return found | {"reason": f"{few}: needs 2 candidates and {2 * PBO_BLOCKS} bars"}
    result = pbo(table, PBO_BLOCKS)
    return found | {"pbo": result.probability, "splits": len(result.logits)}


def _spa(
    returns: Mapping[str, Vector], benchmark: Vector, primary: str, resampling: Resampling
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "block": None,
        "replications": resampling.replications,
        "primary": None,
        "best": None,
        "superior": [],
        "candidates": list(returns),
        "reason": None,
    }
    if len(benchmark) < bootstrap.MIN_ROWS:
        return found | {"reason": _too_few(len(benchmark), "bars")}
    block = bootstrap.block_length(np.column_stack([r - benchmark for r in returns.values()]))

    def against(candidates: Mapping[str, Vector]) -> SuperiorAbility:
        losses = {name: -r for name, r in candidates.items()}
        return superior_ability(-benchmark, losses, block=block, **asdict(resampling))

    best = against(returns)
    return found | {
        "block": block,
        "primary": _p_values(against({primary: returns[primary]})),
        "best": _p_values(best),
        "superior": list(best.superior),
    }


def _p_values(test: SuperiorAbility) -> dict[str, float]:
    return {"lower": test.lower, "consistent": test.consistent, "upper": test.upper}


def _intervals(skill: Skill, money: Vector, periods: float, resampling: Resampling) -> dict[str, Any]:
    found: dict[str, Any] = {
        "level": 0.95,
        "replications": resampling.replications,
        "block": None,
        "block_rows": None,
        "figures": {},
        "reason": None,
    }
    if (fewest := min(len(money), len(skill.gain))) < bootstrap.MIN_ROWS:
        return found | {"reason": _too_few(fewest, "bars or rows")}
    right = np.column_stack([skill.gain, skill.hit])
    block = bootstrap.block_length(money)
    block_rows = bootstrap.block_length(right, skill.horizon)
    year, draws = sqrt(periods), asdict(resampling)
    drawn = [
        *bootstrap.intervals(money, lambda sample: _money(sample, year), block=block, **draws),
        *bootstrap.intervals(right, lambda sample: sample.mean(axis=0), block=block_rows, **draws),
    ]
    names = ("sharpe", "benchmark_sharpe", "sharpe_excess", "max_drawdown", "log_loss_gain", "hit_rate")
    figures = {name: asdict(interval) for name, interval in zip(names, drawn, strict=True)}
    return found | {"block": block, "block_rows": block_rows, "figures": figures}


def _money(sample: Vector, year: float) -> Vector:
    """Sharpe of both columns and their difference, deepest drawdown of the first. No movement is Sharpe 0."""
    ours, theirs = (year * performance.sharpe(sample[:, at]) for at in (0, 1))
    ours, theirs = (value if isfinite(value) else 0.0 for value in (ours, theirs))
    return np.array([ours, theirs, ours - theirs, performance.max_drawdown(sample[:, 0])])


def _regimes(skill: Skill, accounts: Accounts, returns: Vector) -> dict[str, Any]:
    kinds = {
        kind: regimes.breakdown(
            np.asarray(labels)[skill.rows],
            np.asarray(accounts.bar_regimes[kind]),
            skill.gain,
            skill.hit,
            returns,
            accounts.periods,
        )
        for kind, labels in accounts.row_regimes.items()
    }
    warnings = [regimes.concentration(kind, parts) for kind, parts in kinds.items()]
    return {"kinds": kinds, "warnings": [warning for warning in warnings if warning]}


def _too_few(count: int, of: str) -> str:
    return f"{count} {of}: the bootstrap needs {bootstrap.MIN_ROWS}"


def _check(
    accounts: Accounts, returns: Mapping[str, Vector], benchmark: Vector, primary: str, rows: int
) -> None:
    if primary not in returns or accounts.row_regimes.keys() != accounts.bar_regimes.keys():
        raise DataError(
            f"returns of {sorted(returns)}, regimes {sorted(accounts.row_regimes)} of rows and "
            f"{sorted(accounts.bar_regimes)} of bars: needs returns of {primary!r}, the same regimes of both"
        )
    for what, series, wanted in (
        ("returns", returns, len(benchmark)),
        ("regimes of bars", accounts.bar_regimes, len(benchmark)),
        ("regimes of rows", accounts.row_regimes, rows),
    ):
        lengths = {name: len(np.asarray(of)) for name, of in series.items()}
        if set(lengths.values()) - {wanted}:
            raise DataError(f"{what} of lengths {lengths}: need {wanted}, one per bar or predicted row")
