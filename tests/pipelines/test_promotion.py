"""Aliases after a kill, and when files are gone."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.bundle import HASHED, MANIFEST, MODEL, Manifest, write_struct
from core.errors import ArtifactError
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
        self._versions = versions

    def versions(self, _model: str) -> list[Version]:
        return self._versions

    def get_alias(self, _model: str, alias: str) -> str | None:
        return self.held.get(alias)

    def set_alias(self, _model: str, alias: str, version: str, _reason: str = "") -> None:
        if alias == self.dies_at:
            raise KeyboardInterrupt
        self.held[alias] = version

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

    def rollback(self, _model: str) -> str:
        self.held[CHAMPION] = "1"
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


def test_nothing_is_promoted_or_rolled_back_to_files_that_are_gone(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path)
    for version in registry.versions("own-1d"):
        (version.directory / MODEL).write_text("changed")
    with pytest.raises(ArtifactError, match=r"model\.onnx has SHA-256"):
        promotion.promote(settings, "own-1d", "2", force=True)
    with pytest.raises(ArtifactError, match=r"model\.onnx has SHA-256"):
        promotion.rollback(settings, "own-1d")
    assert registry.held == {CHAMPION: "1"}
