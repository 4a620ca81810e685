"""Who serves: placement, promotion by gate or force, and the way back, also after kills and lost files."""

import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from core.bundle import HASHED, MANIFEST, MODEL, Manifest, write_struct
from core.errors import ArtifactError, GateRefused, UsageError
from core.files import sha256_file, write_json
from core.settings import Settings
from core.signal import Thresholds
from evaluation.verdict import Check
from models.versions import Version
from pipelines import promotion
from pipelines.params import load
from pipelines.promotion import CHALLENGER, CHAMPION, place

ROOT = Path(__file__).resolve().parents[2]
RULES = load(ROOT / "params.yaml").promotion


class FakeRegistry:
    """Versions and aliases in memory; `dies_at` is the alias at which the process is killed."""

    def __init__(self, versions: list[Version]) -> None:
        self.held: dict[str, str] = {}
        self.done: set[str] = set()
        self.dies_at: str | None = None
        self.moves: list[tuple[str, str, str, str]] = []
        self.overrides: list[tuple[str, dict[str, Any]]] = []
        self._versions = versions

    def versions(self, _model: str) -> list[Version]:
        return self._versions

    def get_alias(self, _model: str, alias: str) -> str | None:
        return self.held.get(alias)

    def set_alias(self, _model: str, alias: str, version: str, reason: str = "", by: str = "") -> None:
        if alias == self.dies_at:
            raise KeyboardInterrupt
        self.held[alias] = version
        self.moves.append((alias, version, reason, by))

    def record_override(self, _model: str, version: str, **facts: Any) -> None:
        self.overrides.append((version, facts))

    def delete_alias(self, _model: str, alias: str) -> None:
        self.held.pop(alias, None)

    def placed(self, _model: str, version: str) -> bool:
        return version in self.done

    def mark_placed(self, _model: str, version: str) -> None:
        self.done.add(version)

    def models(self) -> list[str]:
        return ["own-1d"]

    def previous_champion(self, _model: str) -> str | None:
        return "1"

    def rollback(self, _model: str, reason: str, by: str) -> str:
        self.set_alias(_model, CHAMPION, "1", reason, by)
        return "1"


def make_version(root: Path, number: str) -> Version:
    """A version with a whole bundle and a clean verdict."""
    directory = root / number / "bundle"
    directory.mkdir(parents=True)
    for name in HASHED:
        (directory / name).write_text(f"{name} {number}")
    manifest = Manifest(
        schema_version=1,
        model="own-1d",
        symbol="own",
        timeframe="1d",
        as_of="2018-12-31T21:00:00Z",
        files={name: sha256_file(directory / name) for name in HASHED},
        features=[],
        warmup=1,
        window=2,
        classes=["down", "up"],
        base_models=[],
        thresholds=Thresholds(0.6, 0.55, 0.45, 0.4),
        label={"kind": "fixed_horizon", "horizon": 5},
        parity={},
        data_hash="d",
        params_hash="p",
        tradable=False,
        reasons=[],
    )
    write_struct(directory / MANIFEST, manifest)
    verdict = {"servable": True, "tradable": False, "checks": [], "reasons": []}
    write_json(root / number / "evidence" / "verdict.json", verdict)
    return Version("own-1d", number, "run", datetime(2019, 1, 2, tzinfo=UTC), (), "", directory)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    """Version 1 is champion and version 2 is new and no worse."""
    made = FakeRegistry([make_version(tmp_path, "1"), make_version(tmp_path, "2")])
    made.held[CHAMPION] = "1"
    made.done.add("1")
    agreed = Check("challenger_not_worse", "quality", True, 0.0, 0.0, "no worse")
    monkeypatch.setattr(promotion, "against_champion", lambda *_: agreed)
    monkeypatch.setattr(promotion, "open_registry", lambda _: made)
    return made


def put(registry: FakeRegistry) -> str | None:
    return place(registry, "own-1d", "2", RULES).alias  # type: ignore[arg-type]


def test_a_version_whose_placing_was_killed_is_placed_by_the_next_run(registry: FakeRegistry) -> None:
    registry.dies_at = CHAMPION
    with pytest.raises(KeyboardInterrupt):
        put(registry)
    registry.dies_at = None
    assert put(registry) == CHAMPION
    assert registry.done == {"1", "2"}


def test_a_version_that_was_placed_keeps_what_it_has(registry: FakeRegistry) -> None:
    registry.done.add("2")
    assert put(registry) is None
    assert registry.held == {CHAMPION: "1"}


def test_a_champion_whose_files_are_gone_is_replaced(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = Check("challenger_not_worse", "quality", False, None, None, "worse")
    monkeypatch.setattr(promotion, "against_champion", lambda *_: refused)
    (registry.versions("own-1d")[0].directory / MODEL).unlink()
    assert put(registry) == CHAMPION


def test_a_champion_without_evidence_makes_a_challenger(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    champion, candidate = registry.versions("own-1d")
    monkeypatch.setattr(promotion, "_judged", lambda v: None if v is candidate else _gone())
    check = promotion.against_champion(champion, candidate, RULES)
    assert not check.passed
    assert "nested.parquet is gone" in check.reason
    assert put(registry) == CHALLENGER


def _gone(*_: object) -> None:
    raise ArtifactError("nested.parquet is gone")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A checkout with the parameters of this one."""
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    return Settings(home=tmp_path)


@pytest.fixture
def serving_second(registry: FakeRegistry) -> FakeRegistry:
    """Version 2 is champion, and 1 was before it."""
    registry.held[CHAMPION] = "2"
    return registry


def refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    worse = Check("challenger_not_worse", "quality", False, 0.1, 0.0, "it is worse")
    monkeypatch.setattr(promotion, "against_champion", lambda *_: worse)


def fail_integrity(registry: FakeRegistry, version: str) -> None:
    failed = asdict(Check("parity_final", "integrity", False, 1.0, 0.0, "ONNX differs by 1"))
    held = next(v for v in registry.versions("own-1d") if v.version == version)
    path = held.directory.parent / "evidence" / "verdict.json"
    write_json(path, {"servable": False, "tradable": False, "checks": [failed], "reasons": []})


def test_what_the_gate_agrees_to_is_promoted(registry: FakeRegistry, settings: Settings) -> None:
    done = promotion.promote(settings, "own-1d", "2", by="ada")
    assert (done.alias, done.explanation, done.reasons) == (CHAMPION, "the gate agreed", ())
    assert registry.moves == [(CHAMPION, "2", "the gate agreed", "ada")]
    assert registry.overrides == []


def test_a_worse_challenger_is_refused_with_the_way_to_overrule(
    registry: FakeRegistry, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch)
    with pytest.raises(GateRefused, match=r'it is worse; --force --reason "\.\.\." overrules'):
        promotion.promote(settings, "own-1d", "2")
    assert registry.held == {CHAMPION: "1"}


@pytest.mark.parametrize("reason", ["", "  "])
def test_force_without_a_reason_is_refused(registry: FakeRegistry, settings: Settings, reason: str) -> None:
    with pytest.raises(UsageError, match="say why with --reason"):
        promotion.promote(settings, "own-1d", "2", force=True, reason=reason)


def test_force_is_recorded_with_every_rule_it_overruled(
    registry: FakeRegistry, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch)
    fail_integrity(registry, "2")
    done = promotion.promote(settings, "own-1d", "2", force=True, reason="the market changed", by="ada")
    rules = ("ONNX differs by 1", "it is worse")
    assert registry.overrides == [
        ("2", {"by": "ada", "reason": "the market changed", "replaced": "1", "against": rules})
    ]
    why = "forced: the market changed; against: ONNX differs by 1; it is worse"
    assert registry.moves == [(CHAMPION, "2", why, "ada")]
    assert (done.reasons, done.explanation) == (rules, f"{why} (by ada)")


def test_force_that_overrules_nothing_is_no_override(registry: FakeRegistry, settings: Settings) -> None:
    promotion.promote(settings, "own-1d", "2", force=True, reason="to be sure")
    assert registry.overrides == []
    assert registry.moves == [(CHAMPION, "2", "to be sure", "")]


def test_a_forced_champion_that_a_kill_prevented_is_recorded_and_the_old_one_stays(
    registry: FakeRegistry, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch)
    registry.dies_at = CHAMPION
    with pytest.raises(KeyboardInterrupt):
        promotion.promote(settings, "own-1d", "2", force=True, reason="now")
    assert registry.held == {CHAMPION: "1"}
    assert [version for version, _ in registry.overrides] == ["2"]


def test_rolling_back_says_who_and_why(serving_second: FakeRegistry, settings: Settings) -> None:
    done = promotion.rollback(settings, "own-1d", reason="losses", by="ada")
    assert (done.version, done.explanation) == ("1", "back from version 2: losses")
    assert serving_second.moves == [(CHAMPION, "1", "losses", "ada")]


def test_a_rollback_to_the_challenger_leaves_no_challenger(
    serving_second: FakeRegistry, settings: Settings
) -> None:
    serving_second.held[CHALLENGER] = "1"
    promotion.rollback(settings, "own-1d")
    assert serving_second.held == {CHAMPION: "1"}


@pytest.mark.parametrize("damage", ["changed", "gone", "another manifest", "another registration"])
def test_nothing_is_promoted_or_rolled_back_to_files_that_are_damaged(
    serving_second: FakeRegistry, settings: Settings, damage: str
) -> None:
    for version in serving_second.versions("own-1d"):
        hurt(version, damage)
    with pytest.raises(GateRefused, match=r"run the data, parameters and code of this one again"):
        promotion.rollback(settings, "own-1d")
    serving_second.held[CHAMPION] = "1"
    with pytest.raises(GateRefused, match=r"version 2 of own-1d is not promoted, it cannot serve"):
        promotion.promote(settings, "own-1d", "2", force=True, reason="now")
    assert (serving_second.held, serving_second.moves) == ({CHAMPION: "1"}, [])


def hurt(version: Version, damage: str) -> None:
    if damage == "changed":
        (version.directory / MODEL).write_text("changed")
    elif damage == "gone":
        (version.directory / MODEL).unlink()
    elif damage == "another manifest":
        version.tags["manifest_sha256"] = "0" * 64
    else:
        version.tags["registration_sha256"] = "0" * 64


def test_a_rollback_to_a_version_that_fails_integrity_is_refused(
    serving_second: FakeRegistry, settings: Settings
) -> None:
    fail_integrity(serving_second, "1")
    with pytest.raises(GateRefused, match=r"ONNX differs by 1.*promote 1 --force --reason"):
        promotion.rollback(settings, "own-1d")
    assert serving_second.held == {CHAMPION: "2"}


def test_a_version_without_its_verdict_is_not_promoted(registry: FakeRegistry, settings: Settings) -> None:
    (registry.versions("own-1d")[1].directory.parent / "evidence" / "verdict.json").unlink()
    with pytest.raises(GateRefused, match="the gate's verdict on version 2 is gone"):
        promotion.promote(settings, "own-1d", "2")


def test_a_damaged_champion_is_replaced_without_a_comparison(
    registry: FakeRegistry, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch)
    hurt(registry.versions("own-1d")[0], "gone")
    assert promotion.promote(settings, "own-1d", "2").alias == CHAMPION
