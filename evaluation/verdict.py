"""The rules of the gates, one check, and the verdict that checks add up to. Light to import."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le

Kind = Literal["integrity", "quality", "trade"]
Share = Annotated[float, Ge(0), Le(1)]
Positive = Annotated[float, Gt(0)]
_FORBID: dict[str, Any] = {"extra": "forbid"}


@dataclass(frozen=True)
class ServeRules:
    """What a model must show to serve.

    min_rows: out-of-sample rows. max_parity_base, max_parity_final: largest |ONNX − native| probability of
    a base model, and of the final ones and their confidence. max_ece: calibration error tolerated on top of
    what chance explains at this number of rows. max_skill_p: largest one-sided p of the Diebold-Mariano
    test that the log-loss is no better than that of the recalibrated base rate.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    min_rows: Annotated[int, Ge(1)] = 500
    max_parity_base: Positive = 1e-6
    max_parity_final: Positive = 2e-4
    max_ece: Share = 0.02
    max_skill_p: Share = 0.05


@dataclass(frozen=True)
class TradeRules:
    """What a model must show to trade; every figure is out of sample and after costs.

    min_dsr: deflated Sharpe ratio over every trial. min_trades: round trips. max_drawdown: largest loss
    from a peak, positive. max_sharpe (annual), max_hit_rate (of two balanced classes) and max_auc mark a
    result as too good to be true: it is a leak until shown otherwise. The limit on hits moves with the share
    of the majority class. max_feature_share: part of the permutation importance beyond which one feature is
    named as the cause of such a result.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    min_dsr: Share = 0.95
    min_trades: Annotated[int, Ge(1)] = 30
    max_drawdown: Share = 0.35
    max_sharpe: Positive = 3.0
    max_hit_rate: Share = 0.60
    max_auc: Share = 0.75
    max_feature_share: Share = 0.80


@dataclass(frozen=True)
class Check:
    """One rule applied: `value` against `threshold`, and why it passed or not, in words."""

    rule: str
    kind: Kind
    passed: bool
    value: float | None
    threshold: float | None
    reason: str


@dataclass(frozen=True)
class Verdict:
    """The outcome of all checks; `reasons` are those of the checks that failed."""

    integrity: bool
    servable: bool
    tradable: bool
    checks: tuple[Check, ...]
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dicts for JSON; `from_dict` reads it back."""
        plain = asdict(self)
        return {**plain, "checks": list(plain["checks"]), "reasons": list(self.reasons)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Verdict":
        """The verdict that `to_dict` wrote."""
        return verdict(Check(**check) for check in plain["checks"])


# what to do about the first of these that fails; the order is that of what makes the rest meaningless
_NEXT = {
    "bundle_intact": "Run the export again: the bundle's files are not the ones that were written.",
    "parity": "Find out why the exported graph and the training library disagree; nothing else matters yet.",
    "probabilities_valid": "Find the bars on which a model gives no valid probability, and their features.",
    "enough_rows": "Get a longer history, or shorten splits.train_rows, so that more rows are out of sample.",
    "no_leak": "Remove the leak that the checks name and run again: no figure here means anything yet.",
    "credible_feature": "Look at the named feature: what does it hold, and at what time is it known?",
    "credible": "Look for a leak: the times of labels and features first, then the source's own revisions.",
    "better_than_base_rate": "Try features that say something else, another horizon, or a longer history: "
    "those of today tell no more than how often each class comes.",
    "calibrated": "Try another ensemble.calibration, or fewer models: its probabilities promise too much.",
    "enough_trades": "Let the record grow, or move the thresholds toward a half: too few trades to judge.",
    "deflated_sharpe": "Let the record grow before trying more variants: each one tried raises the bar.",
    "beats_benchmark": "Trade less often (wider thresholds), or accept that holding the market pays better.",
    "drawdown": "Trade smaller or not in the regimes that lose: on the way down more was lost than allowed.",
}


def next_step(verdict: "Verdict") -> str:
    """What to do next, in a sentence or two: about the failed rule that matters before the others."""
    failed = [check.rule for check in verdict.checks if not check.passed]
    for rule, advice in _NEXT.items():
        if any(name.startswith(rule) for name in failed):
            return advice
    return "Let it serve, and watch the drift report: what passed here can stop being true."


def verdict(checks: Iterable[Check]) -> Verdict:
    """Fold checks into a verdict. A kind without any check has not passed."""
    checks = tuple(checks)

    def passed(kind: Kind) -> bool:
        outcomes = [check.passed for check in checks if check.kind == kind]
        return bool(outcomes) and all(outcomes)

    integrity = passed("integrity")
    servable = integrity and passed("quality")
    reasons = tuple(check.reason for check in checks if not check.passed)
    return Verdict(integrity, servable, servable and passed("trade"), checks, reasons)
