"""Which version serves: first placement, challenger against champion, promotion, rollback."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core.bundle import (
    CHALLENGER,
    CHAMPION,
    MODEL,
    REFERENCE,
    Manifest,
    load_manifest,
    verify,
)
from core.errors import ArtifactError, GateRefused, RegistryError, UsageError
from core.files import read_json
from core.settings import Settings
from evaluation.comparison import Comparison, paired
from evaluation.gates import not_worse
from evaluation.verdict import Check, Verdict
from pipelines.params import PARAMS_FILE, Promotion, load
from pipelines.tables import read_table

if TYPE_CHECKING:
    from models.registry import Registry
    from models.versions import Version

_BY = "registration"
_MEND = (
    "version (see `bellwether models`), or run the data, parameters and code of this one again: that brings "
    "its files back"
)


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
        registry.set_alias(model, CHAMPION, version, "first version", _BY)
        return Placement(
            model, version, CHAMPION, "the first version that passes the integrity checks serves"
        )
    champion = find(registry, model, str(held[CHAMPION]))
    if lost := damage(champion):
        registry.set_alias(model, CHAMPION, version, lost, _BY)
        registry.delete_alias(model, CHALLENGER)
        return Placement(model, version, CHAMPION, f"replaces version {champion.version}, of which {lost}")
    check = against_champion(champion, candidate, rules).check
    if check.passed:
        registry.set_alias(model, CHAMPION, version, check.reason, _BY)
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
    reason: str = "",
    by: str = "",
) -> Placement:
    """Make a version the champion; GateRefused with every rule against it unless `force`.

    Force needs a `reason`, and stays with the version: who, when, why, and the rules that were overruled.
    It does not reach files that are damaged, which the service would refuse.
    """
    if force and not reason.strip():
        raise UsageError('--force overrules the gate and is recorded: say why with --reason "..."')
    registry = open_registry(settings)
    model = resolve_model(registry, model)
    version = version or registry.get_alias(model, CHALLENGER)
    if version is None:
        raise UsageError(f"{model} has no challenger: name a version, see `bellwether models`")
    current = registry.get_alias(model, CHAMPION)
    if current == version:
        _retire_challenger(registry, model, version)
        return Placement(model, version, CHAMPION, f"version {version} is the champion already")
    refused = _against(registry, model, version, current, load(settings.home / PARAMS_FILE).promotion)
    if refused and not force:
        raise GateRefused(
            f"version {version} of {model} is not promoted: {'; '.join(refused)}; "
            '--force --reason "..." overrules'
        )
    why = reason.strip() or "the gate agreed"
    if refused:
        # before the alias moves, so that no champion is without it
        registry.record_override(model, version, by=by, reason=why, replaced=current, against=refused)
        why = f"forced: {why}; against: {'; '.join(refused)}"
    registry.set_alias(model, CHAMPION, version, why, by)
    _retire_challenger(registry, model, version)
    return Placement(model, version, CHAMPION, f"{why} (by {by or 'unknown'})" if refused else why, refused)


def _against(
    registry: "Registry", model: str, version: str, current: str | None, rules: Promotion
) -> tuple[str, ...]:
    """What the gate has against a version in the place of the champion `current`, in words."""
    candidate = find(registry, model, version)
    if fault := damage(candidate):
        raise GateRefused(
            f"version {version} of {model} is not promoted, it cannot serve: {fault}; promote another {_MEND}"
        )
    checks = integrity(candidate)
    if current is not None and not damage(champion := find(registry, model, current)):
        checks.append(against_champion(champion, candidate, rules).check)
    return tuple(check.reason for check in checks if not check.passed)


def _retire_challenger(registry: "Registry", model: str, version: str) -> None:
    """A champion is no challenger any more, not even when a kill came between the two moves."""
    if registry.get_alias(model, CHALLENGER) == version:
        registry.delete_alias(model, CHALLENGER)


def rollback(settings: Settings, model: str | None = None, *, reason: str = "", by: str = "") -> Placement:
    """Give the champion's alias back to the version that held it before.

    GateRefused when its files are damaged or it fails integrity.
    """
    registry = open_registry(settings)
    model = resolve_model(registry, model)
    left, before = registry.get_alias(model, CHAMPION), registry.previous_champion(model)
    if before is not None:
        _check_return(registry, model, before)
    version = registry.rollback(model, reason, by)
    _retire_challenger(registry, model, version)
    return Placement(model, version, CHAMPION, f"back from version {left}{reason and f': {reason}'}")


def _check_return(registry: "Registry", model: str, version: str) -> None:
    returned = find(registry, model, version)
    fault, remedy = damage(returned), _MEND
    if not fault:
        fault = "; ".join(check.reason for check in integrity(returned) if not check.passed)
        remedy = f'version, or overrule: `bellwether promote {version} --force --reason "..."`'
    if fault:
        raise GateRefused(
            f"{model} is not rolled back, version {version} cannot serve: {fault}; promote another {remedy}"
        )


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
    """The integrity checks that the gate recorded for a version; a failed one when the record is gone."""
    try:
        verdict = Verdict.from_dict(read_json(_evidence(version) / "verdict.json"))
    except ArtifactError as error:
        reason = f"the gate's verdict on version {version.version} is gone: {error}"
        return [Check("verdict_recorded", "integrity", False, None, None, reason)]
    return [check for check in verdict.checks if check.kind == "integrity"]


def damage(version: "Version") -> str:
    """Why a version's files cannot be served; empty when they are what was registered."""
    try:
        verify(
            version.directory,
            manifest_hash=version.tags.get("manifest_sha256"),
            registration_hash=version.tags.get("registration_sha256"),
        )
    except ArtifactError as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class Rivals:
    """Two versions on the rows that neither was trained on; `found` is None where nothing can be compared."""

    champion: str
    challenger: str
    found: Comparison | None
    check: Check


def against_champion(champion: "Version", challenger: "Version", rules: Promotion) -> Rivals:
    """Compare two versions on rows that neither was trained on."""

    def refused(reason: str) -> Rivals:
        check = Check("challenger_not_worse", "quality", False, None, None, reason)
        return Rivals(champion.version, challenger.version, None, check)

    try:
        old, new = load_manifest(champion.directory), load_manifest(challenger.directory)
        if hindrance := _incomparable(old, new):
            return refused(hindrance)
        theirs = _judged(challenger, new)
    except ArtifactError as error:
        return refused(f"this version's evidence is gone, so the two cannot be compared: {error}")
    try:
        ours = _champion_probabilities(champion, old, challenger, new)
    except ArtifactError as error:
        return refused(f"the champion's evidence is gone, so the two cannot be compared: {error}")
    rows = theirs.index.intersection(ours.dropna().index)
    first, second = (_compared(frame.loc[rows, new.classes].to_numpy()) for frame in (ours, theirs))
    found = paired(first, second, theirs.loc[rows, "y"].to_numpy(), horizon=int(new.label["horizon"]))
    check = not_worse(found, min_rows=rules.min_rows, tolerance=rules.tolerance, worse_p=rules.worse_p)
    if old.tradable and not new.tradable:
        check = refused("the champion may trade and this version may not").check
    return Rivals(champion.version, challenger.version, found, check)


def _incomparable(old: Manifest, new: Manifest) -> str:
    """Why the losses of two bundles cannot be set against each other; empty when they can."""
    if new.as_of < old.as_of:
        return f"it knows bars up to {new.as_of}, the champion up to {old.as_of}"
    if (old.label, old.classes) != (new.label, new.classes):
        return (
            f"labels differ (the champion's {_spelt(old)}; this version's {_spelt(new)}), "
            "so their losses cannot be compared"
        )
    return ""


def _spelt(manifest: Manifest) -> str:
    parts = ", ".join(f"{name} {value}" for name, value in sorted(manifest.label.items()))
    return f"{parts}: {' or '.join(manifest.classes)}"


def _evidence(version: "Version") -> Path:
    return version.directory.parent / "evidence"


def _judged(version: "Version", manifest: Manifest) -> pd.DataFrame:
    """Class probabilities of the ensemble out of sample by bar close, and the outcomes `y` that count."""
    from models.columns import FINAL, from_columns

    nested = read_table(_evidence(version) / "nested.parquet").query("w > 0")
    known = from_columns(nested, FINAL, manifest.classes)
    return pd.DataFrame(known, nested.index, manifest.classes).assign(y=nested["y"])


def _compared(probability: Any) -> Any:
    """Two classes by the probability of the last, as everywhere else: a difference would round otherwise."""
    return probability[:, 1] if probability.shape[1] == 2 else probability


def _champion_probabilities(
    champion: "Version", old: Manifest, challenger: "Version", new: Manifest
) -> pd.DataFrame:
    """Class probabilities of the champion: out of fold up to its as-of bar, from its graph after it."""
    out_of_fold = _judged(champion, old)[old.classes]
    if old.definitions != new.definitions or old.as_of == new.as_of:
        return out_of_fold
    from models.dataset import windows
    from models.onnx_run import Runner

    reference = read_table(challenger.directory / REFERENCE).set_index("bar_time")
    x = np.ascontiguousarray(reference[list(old.definitions)].to_numpy(dtype=np.float32))
    later = np.flatnonzero(reference.index > pd.Timestamp(old.as_of))
    later = later[later >= old.window - 1]
    if len(later) == 0:
        return out_of_fold
    try:
        answers = Runner((champion.directory / MODEL).read_bytes())(windows(x, later, old.window))
    except ArtifactError:
        # a graph of an earlier exporter has other outputs: what it said out of fold is still comparable
        return out_of_fold
    return pd.concat([out_of_fold, pd.DataFrame(answers.classes, reference.index[later], old.classes)])
