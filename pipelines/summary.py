"""What happened in a run, for people and machines."""

from typing import Any

import msgspec


class DataSummary(msgspec.Struct, frozen=True):
    """The validated bars; `first` and `last` are bar closes, ISO UTC."""

    source: str
    symbol: str
    timeframe: str
    calendar: str
    first: str
    last: str
    rows: int
    hash: str


class ValidationSummary(msgspec.Struct, frozen=True):
    """The data gate: rules checked, rules that failed, rows quarantined."""

    rules: int
    failed: list[str]
    quarantined: int


class ModelSummary(msgspec.Struct, frozen=True):
    """One model out of sample, on the rows shared by all; money is net of costs, Sharpe annualised."""

    name: str
    log_loss: float
    auc: float | None
    brier: float
    ece: float
    sharpe: float | None
    max_drawdown: float
    deflated_sharpe: float | None


class CheckSummary(msgspec.Struct, frozen=True):
    """One rule of the gate."""

    rule: str
    kind: str
    passed: bool
    reason: str


class StageSummary(msgspec.Struct, frozen=True):
    """One stage: "ran" or "unchanged"."""

    stage: str
    status: str
    seconds: float
    headline: str


class RunSummary(msgspec.Struct, frozen=True):
    """The whole run. `alias` is what the version holds now, None when it holds none."""

    model: str
    version: str
    alias: str | None
    existing: bool
    servable: bool
    tradable: bool
    explanation: str
    trials: int
    data: DataSummary
    validation: ValidationSummary
    features: int
    warmup: int
    models: list[ModelSummary]
    out_of_sample_rows: int
    checks: list[CheckSummary]
    stages: list[StageSummary]
    bundle: str
    reports: dict[str, str]
    run_id: str
    commit: str
    dirty: bool
    seconds: float
    next_steps: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain
