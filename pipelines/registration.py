"""Registration: the side effect after the gate. One MLflow run, one version, one alias."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.bundle import MANIFEST, Manifest, Registration, verify
from core.files import read_json, sha256_file
from evaluation.gates import recount
from evaluation.verdict import Check
from pipelines import promotion, stored
from pipelines.params import PARAMS_FILE, Params, load, read_tree
from pipelines.recall import SOURCE_TAG
from pipelines.workspace import Workspace

if TYPE_CHECKING:
    from models.registry import Registry
    from models.run_record import RunRecord


@dataclass(frozen=True)
class Registered:
    """A registered bundle. `alias` is what the version holds now; `explanation` says why."""

    registration: Registration
    directory: Path
    alias: str | None
    existing: bool
    explanation: str


def register(workspace: Workspace, *, reason: str) -> Registered:
    """Log the run, make a version of its bundle unless an identical one exists, and give it its alias.

    Trials of every earlier run of this model count: a bundle that may trade on its own evidence loses
    that when the deflated Sharpe over all of them falls short.
    """
    bundle = workspace.store / "bundle"
    manifest, params = verify(bundle), load(workspace.root / PARAMS_FILE)
    registry = promotion.open_registry(workspace.settings)
    pedigree: dict[str, Any] = {
        "commit": workspace.commit(),
        "dirty": workspace.dirty(),
        "dvc_lock_sha256": workspace.lock_hash(),
    }
    known = registry.find(bundle)
    if known is None:
        run_id, verdict = _log(registry, workspace, manifest, params, pedigree, reason)
        tags = {SOURCE_TAG: str(workspace.source)} if workspace.source else {}
        done = registry.register(bundle, run_id, **pedigree, **verdict, tags=tags)
    else:
        # finishes what a kill after the version was made left undone, and brings back files that are gone
        done = registry.register(bundle, known.run_id, **pedigree)
    version = done.registration.version
    placed = promotion.place(registry, manifest.model, version, params.promotion)
    return Registered(done.registration, done.directory, placed.alias, done.existing, placed.explanation)


def _log(
    registry: "Registry",
    workspace: Workspace,
    manifest: Manifest,
    params: Params,
    pedigree: dict[str, Any],
    reason: str,
) -> tuple[str, dict[str, Any]]:
    """Log the run; its id, and the verdict after recounting the trials of all runs."""
    evidence = read_json(workspace.store / "evaluate" / "evidence.json")
    trials = registry.trials(manifest.model) + len(evidence["trials"])
    check = recount(evidence, trials, params.gate.trade)
    recounted = {} if check.value is None else {"ensemble.deflated_sharpe": check.value}
    run_id = registry.log_run(_record(workspace, manifest, evidence, pedigree, reason, recounted))
    reasons = _reasons(manifest.reasons, check)
    return run_id, {
        "trials": trials,
        "tradable": manifest.tradable and check.passed,
        "reasons": reasons,
        "verdict": "\n".join(reasons) or "every rule passes",
    }


def _reasons(reasons: list[str], check: Check) -> list[str]:
    others = [reason for reason in reasons if not reason.startswith("Deflated Sharpe")]
    return others if check.passed else [*others, check.reason]


def _record(
    workspace: Workspace,
    manifest: Manifest,
    evidence: dict[str, Any],
    pedigree: dict[str, Any],
    reason: str,
    recounted: dict[str, float],
) -> "RunRecord":
    from models.run_record import RunRecord

    store, models = workspace.store, evidence["models"]
    return RunRecord(
        model=manifest.model,
        symbol=manifest.symbol,
        timeframe=manifest.timeframe,
        as_of=manifest.as_of,
        data_hash=manifest.data_hash,
        params_hash=manifest.params_hash,
        trials=len(evidence["trials"]),
        manifest_sha256=sha256_file(store / "bundle" / MANIFEST),
        params=read_tree(workspace.root / PARAMS_FILE),
        metrics=_metrics(workspace) | recounted,
        fold_metrics={f"fold.{name}.log_loss": m["log_loss_by_fold"] for name, m in models.items()},
        artifacts=[
            ("reports", workspace.reports),
            ("evidence", store / "evaluate" / "evidence.json"),
            ("evidence", store / "gate" / "verdict.json"),
            ("evidence", store / "train" / "nested.parquet"),
            ("evidence", store / "validate" / "expectations.json"),
            ("pipeline", workspace.root / "dvc.lock"),
            ("pipeline", workspace.root / "dvc.yaml"),
            ("pipeline", workspace.root / PARAMS_FILE),
        ],
        tags={"reason": reason, "source": stored.bar_facts(workspace.root)["source"]},
        **pedigree,
    )


def _metrics(workspace: Workspace) -> dict[str, float]:
    tree = read_json(workspace.reports / "metrics.json")
    flat = {f"{name}.{key}": value for name, group in tree.items() for key, value in group.items()}
    parity = read_json(workspace.store / "export" / "parity.json")["largest_difference"]
    flat |= {f"parity.{name}": value for name, value in parity.items()}
    return {name: float(value) for name, value in flat.items() if value is not None}
