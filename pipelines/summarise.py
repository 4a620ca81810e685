"""From a run's outputs to its summary."""

from pathlib import Path
from typing import Any

from core.files import read_json
from evaluation.gates import deflated, recount
from evaluation.trials import Tried
from evaluation.verdict import Check, Verdict
from pipelines import stored
from pipelines.params import PARAMS_FILE, load
from pipelines.registration import Registered
from pipelines.stage import headline
from pipelines.summary import (
    CheckSummary,
    DataSummary,
    ModelSummary,
    RunSummary,
    StageSummary,
    ValidationSummary,
)
from pipelines.workspace import StageResult, Workspace


def summarise(
    workspace: Workspace, stages: list[StageResult], registered: Registered, *, seconds: float = 0.0
) -> RunSummary:
    """Gather what a person wants to know from the run's outputs."""
    verdict = Verdict.from_dict(read_json(workspace.store / "gate" / "verdict.json"))
    evidence = read_json(workspace.store / "evaluate" / "evidence.json")
    features = stored.feature_manifest(workspace.root)
    entry = registered.registration
    rules = load(workspace.root / PARAMS_FILE).gate.trade
    tried = Tried(entry.trials, entry.sharpe_variance)
    recounted, sharpes = recount(evidence, tried, rules), deflated(evidence, tried, rules)
    return RunSummary(
        model=entry.model,
        version=entry.version,
        alias=registered.alias,
        existing=registered.existing,
        servable=verdict.servable,
        tradable=entry.tradable,
        explanation=registered.explanation,
        trials=entry.trials,
        data=_data(workspace.root),
        validation=_validation(workspace.reports),
        features=len(features.definitions),
        warmup=features.warmup,
        models=[_model(name, evidence, sharpes[name]) for name in evidence["models"]],
        out_of_sample_rows=evidence["rows"],
        checks=[_check(c, recounted) for c in verdict.checks],
        stages=[
            StageSummary(s.stage, s.status, s.seconds, headline(workspace.root, s.stage)) for s in stages
        ],
        bundle=str(registered.directory),
        reports=_reports(registered.directory.parent / "reports"),
        run_id=entry.run_id,
        commit=entry.commit,
        dirty=entry.dirty,
        seconds=seconds,
        next_steps=_next_steps(registered),
    )


def _check(check: Check, recounted: Check) -> CheckSummary:
    """A rule as the bundle has it, but luck is judged over the trials of every run of the model."""
    shown = recounted if check.rule == recounted.rule else check
    return CheckSummary(shown.rule, shown.kind, shown.passed, shown.reason)


def _data(root: Path) -> DataSummary:
    facts = stored.bar_facts(root)
    return DataSummary(
        source=facts["source"],
        symbol=facts["symbol"],
        timeframe=facts["timeframe"],
        calendar=facts["calendar"],
        first=facts["first"],
        last=facts["last"],
        rows=facts["rows"],
        hash=facts["data_hash"],
    )


def _validation(reports: Path) -> ValidationSummary:
    found = read_json(reports / "validation.json")
    failed = [rule for rule, result in found["rules"].items() if not result["passed"]]
    return ValidationSummary(len(found["rules"]), failed, found["quarantined"])


def _model(name: str, evidence: dict[str, Any], deflated_sharpe: float | None) -> ModelSummary:
    skill, money = evidence["models"][name], evidence["backtests"][name]
    return ModelSummary(
        name=name,
        log_loss=skill["log_loss"],
        auc=skill["auc"],
        brier=skill["brier"],
        ece=skill["ece"],
        sharpe=money["sharpe"],
        max_drawdown=money["max_drawdown"],
        deflated_sharpe=deflated_sharpe,
    )


def _reports(folder: Path) -> dict[str, str]:
    return {name: str(folder / f"{name}.html") for name in ("evaluation", "validation")}


def _next_steps(registered: Registered) -> list[str]:
    entry = registered.registration
    steps = []
    if registered.alias == "challenger":
        steps.append(f"{f'bellwether promote {entry.version}':<23}ask the gate again; --force overrules it")
    steps += [
        "bellwether up          Prefect, MLflow and the inference service together",
        "bellwether serve       the inference service alone",
        "bellwether models      versions side by side",
    ]
    if not entry.tradable:
        steps.append("the evaluation report says which rule stands between this model and trading")
    return steps
