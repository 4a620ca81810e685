"""The evidence behind registered versions, as plain data: what `bellwether models` shows side by side."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.bundle import CHALLENGER, CHAMPION, load_manifest
from core.errors import ArtifactError, ConfigurationError
from core.files import read_json
from core.settings import Settings
from evaluation.evidence import PRIMARY
from evaluation.verdict import Verdict
from pipelines.params import PARAMS_FILE, load, read_tree
from pipelines.promotion import Rivals, against_champion, damage, find

if TYPE_CHECKING:
    from models.registry import Registry
    from models.versions import Version


@dataclass(frozen=True)
class VersionEvidence:
    """One version. Figures are those of the ensemble, out of sample and after costs; None where unknown.

    `as_of` is the last bar close used, ISO UTC. `gain` is the log-loss saved against the recalibrated base
    rate and `gain_p` its one-sided p. `sharpe` is annual, `sharpe_low` and `sharpe_high` its 95 % interval.
    `deflated_sharpe` counts `trials`, those of every run of the model up to this one. `failing` holds the
    rules that the version fails, `reasons` says them in words; `overrides` who overruled them, when and why.
    `damaged` says why the files cannot be served; empty when they are whole.
    """

    model: str
    version: str
    aliases: tuple[str, ...]
    as_of: str | None
    created: str
    commit: str | None
    data_hash: str | None
    directory: str
    families: tuple[str, ...]
    method: str | None
    label: dict[str, Any]
    rows: int | None
    log_loss: float | None
    gain: float | None
    gain_p: float | None
    brier: float | None
    auc: float | None
    ece: float | None
    sharpe: float | None
    sharpe_low: float | None
    sharpe_high: float | None
    max_drawdown: float | None
    trades: int | None
    deflated_sharpe: float | None
    trials: int
    pbo: float | None
    integrity: bool | None
    servable: bool | None
    tradable: bool
    failing: tuple[str, ...]
    reasons: tuple[str, ...]
    overrides: tuple[dict[str, Any], ...]
    damaged: str

    @property
    def verdict(self) -> str:
        """What the gate allows, in two words."""
        if self.integrity is None:
            return "unknown"
        if not self.integrity:
            return "fails integrity"
        return "may trade" if self.tradable else "may serve" if self.servable else "not good enough"


def describe(registry: "Registry", version: "Version") -> VersionEvidence:
    """A version with what its artifacts say; figures are None, not an error, when those are gone."""
    evidence = _read(version.directory.parent / "evidence" / "evidence.json")
    judged = _read(version.directory.parent / "evidence" / "verdict.json")
    verdict = Verdict.from_dict(judged) if judged else None
    skill, money = _in(evidence, "skill"), _in(evidence, "backtest")
    sharpe = _in(evidence, "intervals", "figures", "sharpe")
    figures = _in(evidence, "models", PRIMARY)
    tags = version.tags
    return VersionEvidence(
        model=version.model,
        version=version.version,
        aliases=version.aliases,
        as_of=tags.get("as_of"),
        created=version.created.isoformat(),
        commit=tags.get("commit"),
        data_hash=tags.get("data_hash"),
        directory=str(version.directory),
        **_made(version),
        rows=evidence.get("rows"),
        log_loss=figures.get("log_loss"),
        gain=skill.get("difference"),
        gain_p=skill.get("p_value"),
        brier=figures.get("brier"),
        auc=figures.get("auc"),
        ece=figures.get("ece"),
        sharpe=money.get("sharpe"),
        sharpe_low=sharpe.get("low"),
        sharpe_high=sharpe.get("high"),
        max_drawdown=money.get("max_drawdown"),
        trades=money.get("trades"),
        deflated_sharpe=registry.metrics(version.run_id).get(f"{PRIMARY}.deflated_sharpe"),
        trials=int(tags.get("trials", 0)),
        pbo=_in(evidence, "overfitting").get("pbo"),
        integrity=verdict.integrity if verdict else None,
        servable=verdict.servable if verdict else None,
        tradable=tags.get("tradable") == "true",
        failing=tuple(check.rule for check in verdict.checks if not check.passed) if verdict else (),
        reasons=tuple(json.loads(tags.get("reasons", "[]"))),
        overrides=tuple(asdict(override) for override in version.overrides),
        damaged=damage(version),
    )


def _made(version: "Version") -> dict[str, Any]:
    """Base models, how they are combined, and the label."""
    try:
        manifest = load_manifest(version.directory)
        tree = read_tree(version.directory.parent / "pipeline" / PARAMS_FILE)
    except (ArtifactError, ConfigurationError):
        return {"families": (), "method": None, "label": {}}
    # versions from before there was a choice are stacks
    method = tree.get("ensemble", {}).get("method", "stack")
    return {"families": tuple(manifest.base_models), "method": method, "label": manifest.label}


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = read_json(path)
    except ArtifactError:
        return {}
    return found


def _in(tree: dict[str, Any], *keys: str) -> dict[str, Any]:
    """A branch of a document; empty where it ends early."""
    for key in keys:
        tree = tree.get(key) or {}
    return tree


def rivals(registry: "Registry", settings: Settings, model: str, named: Sequence[str]) -> Rivals | None:
    """The paired comparison of two named versions, else of challenger against champion; None without two."""
    held = [registry.get_alias(model, alias) for alias in (CHAMPION, CHALLENGER)]
    pair = list(named) if len(named) == 2 else [version for version in held if version is not None]
    if len(pair) != 2:
        return None
    old, new = (find(registry, model, version) for version in pair)
    return against_champion(old, new, load(settings.home / PARAMS_FILE).promotion)
