"""Which version serves: first placement, challenger against champion, promotion, rollback."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core.bundle import MODEL, REFERENCE, Manifest, load_manifest, verify
from core.errors import ArtifactError, GateRefused, RegistryError, UsageError
from core.files import read_json
from core.settings import Settings
from evaluation.gates import compare
from evaluation.verdict import Check, Verdict
from pipelines.params import PARAMS_FILE, Promotion, load
from pipelines.tables import read_table

if TYPE_CHECKING:
    from models.registry import Registry
    from models.versions import Version

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class Placement:
    """What a version holds now, and why; `reasons` are rules that were overruled by force."""

    model: str
    version: str
    alias: str | None
    explanation: str
    reasons: tuple[str, ...] = ()


def open_registry(settings: Settings) -> "Registry":
    """The model registry; imports MLflow."""
    from models.registry import Registry

    return Registry(settings.tracking_uri, settings.artifacts_dir)


def resolve_model(registry: "Registry", model: str | None) -> str:
    """The model asked for, or the only one there is."""
    known = registry.models()
    if not known:
        raise RegistryError("no model is registered: run `bellwether run` first")
    if model is None:
        if len(known) > 1:
            raise UsageError(f"{len(known)} models are registered: choose with --model {' | '.join(known)}")
        return known[0]
    if model not in known:
        raise UsageError(f"model {model!r} is not registered: there is {', '.join(known)}")
    return model


def place(registry: "Registry", model: str, version: str, rules: Promotion) -> Placement:
    """Give a version that was just registered its alias.

    The first that passes the integrity checks becomes champion. A later one does when it predicts no
    worse than the champion on paired out-of-sample rows and does not cost the right to trade; else it is
    challenger. One that was placed before keeps what it has; one whose placing was killed gets it now.
    """
    held = {alias: registry.get_alias(model, alias) for alias in (CHAMPION, CHALLENGER)}
    mine = next((alias for alias, holder in held.items() if holder == version), None)
    if mine or (held[CHAMPION] and registry.placed(model, version)):
        return Placement(model, version, mine, f"identical to version {version}: nothing changed")
    placement = _place_new(registry, model, version, rules, held)
    registry.mark_placed(model, version)
    return placement


def _place_new(
    registry: "Registry", model: str, version: str, rules: Promotion, held: dict[str, str | None]
) -> Placement:
    candidate = find(registry, model, version)
    broken = [check.reason for check in integrity(candidate) if not check.passed]
    if broken:
        return Placement(model, version, None, f"fails integrity, so it cannot serve: {'; '.join(broken)}")
    if held[CHAMPION] is None:
        registry.set_alias(model, CHAMPION, version, "first version")
        return Placement(
            model, version, CHAMPION, "the first version that passes the integrity checks serves"
        )
    champion = find(registry, model, str(held[CHAMPION]))
    if lost := _lost(champion):
        registry.set_alias(model, CHAMPION, version, lost)
        registry.delete_alias(model, CHALLENGER)
        return Placement(model, version, CHAMPION, f"replaces version {champion.version}, of which {lost}")
    check = against_champion(champion, candidate, rules)
    if check.passed:
        registry.set_alias(model, CHAMPION, version, check.reason)
        registry.delete_alias(model, CHALLENGER)
        return Placement(model, version, CHAMPION, f"replaces version {held[CHAMPION]}: {check.reason}")
    registry.set_alias(model, CHALLENGER, version, check.reason)
    return Placement(model, version, CHALLENGER, f"version {held[CHAMPION]} stays champion: {check.reason}")


def promote(
    settings: Settings,
    model: str | None = None,
    version: str | None = None,
    *,
    force: bool = False,
    by: str = "",
) -> Placement:
    """Make a version the champion; GateRefused with every reason unless `force`, which is recorded."""
    registry = open_registry(settings)
    model = resolve_model(registry, model)
    version = version or registry.get_alias(model, CHALLENGER)
    if version is None:
        raise UsageError(f"{model} has no challenger: name a version, see `bellwether models`")
    current = registry.get_alias(model, CHAMPION)
    if current == version:
        _retire_challenger(registry, model, version)
        return Placement(model, version, CHAMPION, f"version {version} is the champion already")
    candidate = find(registry, model, version)
    verify(candidate.directory)
    checks = integrity(candidate)
    if current is not None:
        rules = load(settings.home / PARAMS_FILE).promotion
        champion = find(registry, model, current)
        if not _lost(champion):
            checks.append(against_champion(champion, candidate, rules))
    refused = tuple(check.reason for check in checks if not check.passed)
    if refused and not force:
        raise GateRefused(
            f"version {version} of {model} is not promoted: {'; '.join(refused)}; --force overrules"
        )
    reason = f"forced by {by or 'unknown'} against: {'; '.join(refused)}" if refused else "the gate agreed"
    registry.set_alias(model, CHAMPION, version, reason)
    _retire_challenger(registry, model, version)
    return Placement(model, version, CHAMPION, reason, refused)


def _retire_challenger(registry: "Registry", model: str, version: str) -> None:
    """A champion is no challenger any more, not even when a kill came between the two moves."""
    if registry.get_alias(model, CHALLENGER) == version:
        registry.delete_alias(model, CHALLENGER)


def rollback(settings: Settings, model: str | None = None) -> Placement:
    """Give the champion's alias back to the version that held it before."""
    registry = open_registry(settings)
    model = resolve_model(registry, model)
    left, before = registry.get_alias(model, CHAMPION), registry.previous_champion(model)
    if before is not None:
        verify(find(registry, model, before).directory)
    version = registry.rollback(model)
    return Placement(model, version, CHAMPION, f"back from version {left}")


def find(registry: "Registry", model: str, version: str) -> "Version":
    """A version by number; RegistryError names those that exist."""
    versions = registry.versions(model)
    for known in versions:
        if known.version == version:
            return known
    raise RegistryError(
        f"{model} has no version {version}: there is {', '.join(v.version for v in versions) or 'none'}"
    )


def integrity(version: "Version") -> list[Check]:
    """The integrity checks that the gate recorded for a version."""
    verdict = Verdict.from_dict(read_json(_evidence(version) / "verdict.json"))
    return [check for check in verdict.checks if check.kind == "integrity"]


def against_champion(champion: "Version", challenger: "Version", rules: Promotion) -> Check:
    """Compare two versions on rows that neither was trained on."""
    old, new = load_manifest(champion.directory), load_manifest(challenger.directory)
    if old.tradable and not new.tradable:
        return _refused("the champion may trade and this version may not")
    if new.as_of < old.as_of:
        return _refused(f"it knows bars up to {new.as_of}, the champion up to {old.as_of}")
    if old.label != new.label:
        return _refused(
            f"labels differ (the champion's {_spelt(old.label)}; this version's {_spelt(new.label)}), "
            "so their losses cannot be compared"
        )
    theirs = _judged(challenger)
    try:
        ours = _champion_probabilities(champion, old, challenger, new)
    except ArtifactError as error:
        return _refused(f"the champion's evidence is gone, so the two cannot be compared: {error}")
    rows = theirs.index.intersection(ours.dropna().index)
    return compare(
        ours[rows].to_numpy(),
        theirs.loc[rows, "probability"].to_numpy(),
        theirs.loc[rows, "y"].to_numpy(),
        min_rows=rules.min_rows,
        tolerance=rules.tolerance,
        worse_p=rules.worse_p,
        horizon=int(new.label["horizon"]),
    )


def _spelt(label: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(label.items()))


def _lost(version: "Version") -> str:
    """Why a version can no longer be served; empty when its files are whole."""
    try:
        verify(version.directory)
    except ArtifactError as error:
        return str(error)
    return ""


def _refused(reason: str) -> Check:
    return Check("challenger_not_worse", "quality", False, None, None, reason)


def _evidence(version: "Version") -> Path:
    return version.directory.parent / "evidence"


def _judged(version: "Version") -> pd.DataFrame:
    return read_table(_evidence(version) / "nested.parquet")


def _champion_probabilities(
    champion: "Version", old: Manifest, challenger: "Version", new: Manifest
) -> pd.Series:
    """P(up) of the champion: out of fold up to its as-of bar, from its graph after it."""
    out_of_fold = _judged(champion)["probability"]
    if old.definitions != new.definitions:
        return out_of_fold
    from models.dataset import windows
    from models.onnx_run import Runner

    reference = pd.read_parquet(challenger.directory / REFERENCE).set_index("bar_time")
    x = np.ascontiguousarray(reference[list(old.definitions)].to_numpy(dtype=np.float32))
    later = np.flatnonzero(reference.index > pd.Timestamp(old.as_of))
    later = later[later >= old.window - 1]
    if len(later) == 0:
        return out_of_fold
    answers = Runner((champion.directory / MODEL).read_bytes())(windows(x, later, old.window))
    return pd.concat([out_of_fold, pd.Series(answers.probability, reference.index[later])])
