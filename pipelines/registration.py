"""Registration: the side effect after the gate. One MLflow run, one version, one alias."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from core.bundle import MANIFEST, Manifest, Registration, verify
from core.files import read_json, sha256_file, write_json
from evaluation.gates import deflated, recount
from evaluation.trials import Tried
from evaluation.verdict import TradeRules, Verdict, verdict
from pipelines import promotion, stored, trials
from pipelines.evaluation_page import write_page
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
        run_id, judged = _log(registry, workspace, manifest, params, pedigree, reason)
        tags = {SOURCE_TAG: str(workspace.source)} if workspace.source else {}
        done = registry.register(bundle, run_id, **pedigree, **judged, tags=tags)
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
    tried = trials.tried(registry, workspace.settings.var_dir, manifest.model, evidence)
    judged = recounted(
        read_json(workspace.store / "gate" / "verdict.json"), evidence, tried, params.gate.trade
    )
    counted = deflated(evidence, tried, params.gate.trade)
    evidence = {**evidence, "deflated_sharpe": counted, "tried": tried.count}
    with TemporaryDirectory() as folder:
        pages = _judged_pages(workspace, Path(folder), params, judged, evidence)
        run_id = registry.log_run(_record(workspace, manifest, evidence, pages, pedigree, reason))
    return run_id, {
        "tried": tried,
        "tradable": judged.tradable,
        "reasons": judged.reasons,
        "verdict": "\n".join(judged.reasons) or "every rule passes",
    }


def recounted(plain: dict[str, Any], evidence: dict[str, Any], tried: Tried, rules: TradeRules) -> Verdict:
    """The gate's verdict with luck judged over all that was `tried` for the model."""
    check = recount(evidence, tried, rules)
    checks = Verdict.from_dict(plain).checks
    return verdict(check if known.rule == check.rule else known for known in checks)


def _judged_pages(
    workspace: Workspace, folder: Path, params: Params, judged: Verdict, evidence: dict[str, Any]
) -> list[tuple[str, Path]]:
    """Reports and verdict as the registry has it: what the stages wrote counts the trials of one run."""
    reports = folder / "reports"
    shutil.copytree(workspace.reports, reports)
    write_page(workspace.root, params, judged, evidence, reports)
    write_json(folder / "verdict.json", judged.to_dict())
    return [("reports", reports), ("evidence", folder / "verdict.json")]


def _record(
    workspace: Workspace,
    manifest: Manifest,
    evidence: dict[str, Any],
    pages: list[tuple[str, Path]],
    pedigree: dict[str, Any],
    reason: str,
) -> "RunRecord":
    from models.run_record import RunRecord

    store, models = workspace.store, evidence["models"]
    counted = {f"{name}.deflated_sharpe": value for name, value in evidence["deflated_sharpe"].items()}
    return RunRecord(
        model=manifest.model,
        symbol=manifest.symbol,
        timeframe=manifest.timeframe,
        as_of=manifest.as_of,
        data_hash=manifest.data_hash,
        params_hash=manifest.params_hash,
        tried=trials.candidates(manifest.model, evidence),
        manifest_sha256=sha256_file(store / "bundle" / MANIFEST),
        params=read_tree(workspace.root / PARAMS_FILE),
        metrics=_metrics(workspace) | {name: value for name, value in counted.items() if value is not None},
        fold_metrics={f"fold.{name}.log_loss": m["log_loss_by_fold"] for name, m in models.items()},
        artifacts=[
            *pages,
            ("evidence", store / "evaluate" / "evidence.json"),
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
