"""Who serves: placement, promotion by gate or force, and the way back, also after kills and lost files."""

import math
import re
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from msgspec import structs

from core.bundle import (
    CHALLENGER,
    CHAMPION,
    HASHED,
    MODEL,
    REFERENCE,
    FeatureDefinition,
    Manifest,
    load_manifest,
    write_manifest,
)
from core.errors import GateRefused, UsageError
from core.files import sha256_file, write_json
from core.settings import Settings
from core.signal import Thresholds
from evaluation.verdict import Check
from models.versions import Version
from pipelines import promotion
from pipelines.params import load
from pipelines.promotion import Rivals, against_champion, place
from pipelines.tables import read_table, write_table

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
    write_manifest(directory, manifest)
    verdict = {"servable": True, "tradable": False, "checks": [], "reasons": []}
    write_json(root / number / "evidence" / "verdict.json", verdict)
    return Version("own-1d", number, "run", datetime(2019, 1, 2, tzinfo=UTC), (), "", directory)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    """Version 1 is champion and version 2 is new and no worse."""
    made = FakeRegistry([make_version(tmp_path, "1"), make_version(tmp_path, "2")])
    made.held[CHAMPION] = "1"
    made.done.add("1")
    answer(monkeypatch, Check("challenger_not_worse", "quality", True, 0.0, 0.0, "no worse"))
    monkeypatch.setattr(promotion, "open_registry", lambda _: made)
    return made


def answer(monkeypatch: pytest.MonkeyPatch, check: Check) -> None:
    """Let the paired comparison end in `check`."""
    monkeypatch.setattr(promotion, "against_champion", lambda *_: Rivals("1", "2", None, check))


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
    refuse(monkeypatch)
    (registry.versions("own-1d")[0].directory / MODEL).unlink()
    assert put(registry) == CHAMPION


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
    answer(monkeypatch, Check("challenger_not_worse", "quality", False, 0.1, 0.0, "it is worse"))


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


ROWS = 200
TIMES = pd.date_range("2018-01-01", periods=ROWS, freq="D", tz="UTC", name="timestamp")


def rival(root: Path, number: str, quality: float = 0.3, *, seed: int = 0, **manifest: Any) -> Version:
    """A version that says P(outcome) = 0.5 + `quality` and a little noise, over two or three classes."""
    version = make_version(root, number)
    known = load_manifest(version.directory)
    made = structs.replace(known, **{"as_of": str(TIMES[-1].isoformat()), **manifest})
    write_manifest(version.directory, made)
    k = len(made.classes)
    y = np.random.default_rng(5).integers(0, k, ROWS).astype(float)
    noise = np.random.default_rng(seed).uniform(-0.01, 0.01, ROWS)
    hit = 1 / k + quality * (1 - 1 / k) + noise
    p = np.where(np.arange(k) == y[:, None], hit[:, None], ((1 - hit) / (k - 1))[:, None])
    columns = {"probability": p[:, -1], "y": y, "w": np.ones(ROWS)} | (
        {"probability.flat": p[:, 1]} if k == 3 else {}
    )
    evidence = version.directory.parent / "evidence"
    write_table(evidence / "nested.parquet", pd.DataFrame(columns, index=TIMES))
    return version


THREE: dict[str, Any] = {
    "classes": ["down", "flat", "up"],
    "label": {"kind": "triple_barrier", "horizon": 5, "classes": 3},
}
META: dict[str, Any] = {
    "classes": ["wrong", "right"],
    "label": {"kind": "fixed_horizon", "horizon": 5, "primary": "close - 1"},
}


@pytest.mark.parametrize("kind", [{}, THREE, META], ids=["direction", "barrier", "meta"])
@pytest.mark.parametrize(("quality", "passed"), [(0.31, True), (0.3, True), (0.2, False)])
def test_rivals_of_one_kind_are_compared_by_log_loss(
    tmp_path: Path, kind: dict[str, Any], quality: float, passed: bool
) -> None:
    old, new = rival(tmp_path, "1", **kind), rival(tmp_path, "2", quality, seed=1, **kind)
    done = against_champion(old, new, RULES)
    assert done.found is not None
    assert (done.champion, done.challenger, done.found.rows) == ("1", "2", ROWS)
    assert done.check.passed is passed
    assert done.found.difference == pytest.approx(naive_loss(new, kind) - naive_loss(old, kind))


def naive_loss(version: Version, kind: dict[str, Any]) -> float:
    """Mean of -ln P(what came), row by row."""
    table = read_table(version.directory.parent / "evidence" / "nested.parquet")
    total = 0.0
    for row in table.to_dict("records"):
        between = row.get("probability.flat", 0.0)
        by_class = [
            1 - row["probability"] - between,
            *([between] if kind is THREE else []),
            row["probability"],
        ]
        total -= math.log(by_class[int(row["y"])])
    return total / len(table)


@pytest.mark.parametrize(
    ("champion", "challenger", "said"),
    [
        ({}, THREE, "kind fixed_horizon: down or up; this version's classes 3, .*down or flat or up"),
        (THREE, {}, "labels differ"),
        ({}, META, "primary close - 1: wrong or right"),
        (META, {}, "labels differ"),
        ({}, {"label": {"kind": "fixed_horizon", "horizon": 10}}, "horizon 5, .* this version's horizon 10"),
        ({"as_of": "2030-01-01"}, {}, "it knows bars up to 2018-.*, the champion up to 2030-01-01"),
        ({"tradable": True}, {}, "the champion may trade and this version may not"),
    ],
)
def test_a_challenger_that_cannot_be_compared_is_refused_in_words(
    tmp_path: Path, champion: dict[str, Any], challenger: dict[str, Any], said: str
) -> None:
    old, new = rival(tmp_path, "1", 0.1, **champion), rival(tmp_path, "2", 0.4, **challenger)
    check = against_champion(old, new, RULES).check
    assert not check.passed
    assert re.search(said, check.reason)


@pytest.mark.parametrize(
    ("without", "whose"), [("1", "the champion's evidence"), ("2", "this version's evidence")]
)
def test_without_evidence_there_is_no_comparison_and_a_challenger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: str, whose: str
) -> None:
    old, new = rival(tmp_path, "1"), rival(tmp_path, "2")
    (tmp_path / without / "evidence" / "nested.parquet").unlink()
    check = against_champion(old, new, RULES).check
    assert not check.passed
    assert check.reason.startswith(f"{whose} is gone, so the two cannot be compared")
    registry = FakeRegistry([old, new])
    registry.held[CHAMPION] = "1"
    assert put(registry) == CHALLENGER
    assert registry.held == {CHAMPION: "1", CHALLENGER: "2"}


def test_rows_that_no_outcome_counts_for_are_not_compared(tmp_path: Path) -> None:
    old, new = rival(tmp_path, "1", **META), rival(tmp_path, "2", 0.31, **META)
    path = new.directory.parent / "evidence" / "nested.parquet"
    held = read_table(path)
    held.loc[held.index[::2], ["probability", "w"]] = [0.5, 0.0]  # no side, no bet
    write_table(path, held)
    found = against_champion(old, new, RULES).found
    assert found is not None
    assert found.rows == ROWS / 2
    assert found.difference is not None
    assert found.difference < 0


def test_too_few_shared_rows_are_no_comparison(tmp_path: Path) -> None:
    old, new = rival(tmp_path, "1"), rival(tmp_path, "2", 0.4)
    path = new.directory.parent / "evidence" / "nested.parquet"
    write_table(path, read_table(path).iloc[: RULES.min_rows - 1])
    check = against_champion(old, new, RULES).check
    assert not check.passed
    assert f"{RULES.min_rows - 1} rows" in check.reason


def test_after_its_as_of_bar_the_champion_answers_from_its_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = [FeatureDefinition("x", "close")]
    old = rival(tmp_path, "1", as_of=TIMES[99].isoformat(), features=features)
    new = rival(tmp_path, "2", features=features)
    path = old.directory.parent / "evidence" / "nested.parquet"
    held = read_table(path)
    write_table(path, held.iloc[:100])
    column = held["probability"].to_numpy(dtype=np.float32)  # the feature is the answer
    write_table(new.directory / REFERENCE, pd.DataFrame({"bar_time": TIMES, "x": column}))

    class Graph:
        def __init__(self, model: bytes) -> None:
            assert model == (old.directory / MODEL).read_bytes()

        def __call__(self, windows: Any) -> Any:
            assert windows.shape == (100, 2, 1)
            p = windows[:, -1, 0].astype(np.float64)
            return SimpleNamespace(classes=np.column_stack([1 - p, p]))

    monkeypatch.setattr("models.onnx_run.Runner", Graph)
    found = against_champion(old, new, RULES).found
    assert found is not None
    assert (found.rows, found.difference) == (ROWS, pytest.approx(0.0, abs=1e-6))
