"""`bellwether models`: what is read from a version's artifacts, and how it is shown."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from cli import registry as verbs
from cli import versions as view
from core.bundle import HASHED, MANIFEST, MODEL, Manifest, write_manifest
from core.files import sha256_file, write_json, write_text
from core.signal import Thresholds
from evaluation.comparison import Comparison
from evaluation.verdict import Check, verdict
from models.versions import Override, Version, write_overrides
from pipelines import promotion
from pipelines.promotion import Rivals
from pipelines.version_evidence import VersionEvidence, describe

REASON = "Deflated Sharpe 0.258 < 0.95 over 43 trials: the result is explained by luck"
BETTER = VersionEvidence(
    model="own-1d", version="3", aliases=("champion",), as_of="2018-12-31T21:00:00+00:00",
    created="2019-01-01T00:00:00+00:00", commit="c", data_hash="d", directory="/x",
    families=("base_rate", "logistic", "lightgbm", "catboost", "lstm"), method="stack",
    label={"kind": "fixed_horizon", "horizon": 5}, rows=3517, log_loss=0.6811, gain=0.0021, gain_p=0.03,
    brier=0.244, auc=0.53, ece=0.03, sharpe=0.46, sharpe_low=-0.05, sharpe_high=0.94, max_drawdown=-0.176,
    trades=240, deflated_sharpe=0.258, trials=43, pbo=0.31, integrity=True, servable=True, tradable=False,
    failing=("deflated_sharpe",), reasons=(REASON,), overrides=(), damaged="",
)  # fmt: skip
WORSE = replace(
    BETTER, version="5", aliases=("challenger",), log_loss=0.6833, gain=-0.0001, gain_p=0.51, sharpe=0.68,
    servable=False, failing=("better_than_base_rate", "deflated_sharpe"),
)  # fmt: skip
RIVALS = Rivals(
    "3", "5", Comparison(3412, 0.6811, 0.6833, 0.0022, 0.0001, 0.0043, 2.05, 0.02),
    Check("challenger_not_worse", "quality", False, 0.0022, 0.005, "Challenger log-loss 0.68330 is worse"),
)  # fmt: skip


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """printed(width, function, arguments) -> what a terminal that wide shows, colours off."""

    def act(width: int, function: Any, *args: Any, **options: Any) -> str:
        out = StringIO()
        monkeypatch.setattr(view, "console", Console(file=out, width=width, highlight=False))
        function(*args, **options)
        assert max(len(line.rstrip()) for line in out.getvalue().splitlines()) <= width
        return out.getvalue()

    return act


def cells(text: str, name: str) -> list[str]:
    """The cells of a line, by its name."""
    line = next(line for line in text.splitlines() if line.startswith(f"{name} "))
    return re.split(r" {2,}", line.removeprefix(name).strip())


@pytest.mark.parametrize("width", [100, 140])
def test_few_versions_are_columns_with_the_better_figure_marked(printed: Any, width: int) -> None:
    text = printed(width, view.show, "own-1d", [BETTER, WORSE], None, side_by_side=False)
    assert re.search(r"^ +3 champion +5 challenger", text, re.MULTILINE)
    assert cells(text, "log-loss") == ["0.68110 *", "0.68330"]
    assert cells(text, "p of gain") == ["0.030 *", "0.510"]
    assert cells(text, "Sharpe") == ["0.46", "0.68 *"]
    assert cells(text, "95 % interval") == ["-0.05 … 0.94", "-0.05 … 0.94"]
    assert cells(text, "AUC") == ["0.530", "0.530"]  # alike: none is better
    assert cells(text, "trials") == ["43", "43"]  # no merit
    assert cells(text, "gate") == ["may serve", "not good enough"]
    assert cells(text, "fails") == ["deflated Sharpe", "better than base rate, deflated Sharpe"]
    assert " ".join(text.split()).count(REASON) == 2


def test_losses_over_different_labels_are_not_ranked_and_money_is(printed: Any) -> None:
    other = replace(WORSE, label={"kind": "triple_barrier", "horizon": 10})
    text = printed(140, view.show, "own-1d", [BETTER, other], None, side_by_side=True)
    assert cells(text, "log-loss") == ["0.68110", "0.68330"]
    assert cells(text, "Sharpe") == ["0.46", "0.68 *"]


@pytest.mark.parametrize("width", [100, 140])
def test_many_versions_are_lines(printed: Any, width: int) -> None:
    many = [BETTER, WORSE, *(replace(WORSE, version=str(k), aliases=()) for k in (6, 7, 8))]
    text = printed(width, view.show, "own-1d", many, None, side_by_side=False)
    assert cells(text, "3 champion")[:4] == ["2018-12-31", "stack of 5", "3,517", "0.68110"]
    assert "*" not in text
    assert text.count(REASON[:40]) == 2  # of those that hold an alias
    forced = printed(140, view.show, "own-1d", many, None, side_by_side=True)
    assert re.search(r"^ +3 champion +5 challenger +6 +7 +8", forced, re.MULTILINE)


def test_what_is_not_known_is_a_dash(printed: Any) -> None:
    unknown = replace(
        BETTER, families=(), method=None, label={}, rows=None, log_loss=None, gain=None, gain_p=None,
        brier=None, auc=None, ece=None, sharpe=None, sharpe_low=None, sharpe_high=None, max_drawdown=None,
        trades=None, deflated_sharpe=None, pbo=None, integrity=None, servable=None, reasons=(), failing=(),
        damaged="model.onnx is gone",
    )  # fmt: skip
    text = printed(100, view.show, "own-1d", [unknown], None, side_by_side=False)
    assert cells(text, "Sharpe") == ["–"]
    assert cells(text, "gate") == ["unknown, damaged"]
    assert "damaged: model.onnx is gone" in text


def test_an_override_is_told_with_who_when_and_against_what(printed: Any) -> None:
    forced = {"by": "ada", "at": "2020-01-02T03:04:05+00:00", "reason": "why [not]", "replaced": "3"}
    version = replace(WORSE, overrides=({**forced, "against": ("it is worse",)},))
    text = " ".join(printed(100, view.show, "own-1d", [version], None, side_by_side=False).split())
    assert "not good enough, forced" in text
    assert (
        "forced by ada on 2020-01-02 03:04 UTC in place of version 3: why [not]; against: it is worse" in text
    )


@pytest.mark.parametrize("width", [100, 140])
def test_rivals_are_compared_on_the_same_rows(printed: Any, width: int) -> None:
    text = printed(width, view.show, "own-1d", [BETTER, WORSE], RIVALS, side_by_side=False)
    assert "5 against 3, on the same rows" in text
    assert cells(text, "3,412") == ["0.68110", "0.68330", "+0.00220", "+0.00010 … +0.00430", "0.020"]
    assert "5 is refused: Challenger log-loss 0.68330 is worse" in text


def test_rivals_that_cannot_be_compared_say_why(printed: Any) -> None:
    check = replace(RIVALS.check, reason="labels differ")
    text = printed(
        100, view.show, "own-1d", [BETTER], replace(RIVALS, found=None, check=check), side_by_side=True
    )
    assert "5 is refused: labels differ" in text


def test_json_holds_everything_and_the_comparison_with_the_challenger() -> None:
    first, second = view.rows([BETTER, WORSE], RIVALS)
    assert first["paired"] is None
    assert second["paired"] == {
        "against": "3", "passed": False, "reason": RIVALS.check.reason, "rows": 3412, "champion": 0.6811,
        "challenger": 0.6833, "difference": 0.0022, "low": 0.0001, "high": 0.0043, "statistic": 2.05,
        "p_not_worse": 0.02,
    }  # fmt: skip
    assert (first["verdict"], second["verdict"]) == ("may serve", "not good enough")
    assert {"log_loss", "gain_p", "sharpe_low", "pbo", "reasons", "overrides", "trials"} <= set(first)


@pytest.mark.parametrize("width", [100, 140])
def test_history_says_who_when_how_by_whom_and_why(printed: Any, width: int) -> None:
    move = {"model": "own-1d", "version": "2", "at": "2020-01-02T03:04:05+00:00", "move": "rolled back"}
    text = printed(width, view.show_history, [{**move, "by": "ada", "reason": "losses " * 20}])
    assert cells(text, "own-1d")[:4] == ["2", "2020-01-02 03:04:05", "rolled back", "ada"]
    assert "no champion yet" in printed(width, view.show_history, [])


@pytest.fixture
def version(tmp_path: Path) -> Version:
    """A version with every artifact, over whose gate somebody went."""
    run = tmp_path / "run"
    (run / "bundle").mkdir(parents=True)
    for name in HASHED:
        write_text(run / "bundle" / name, name)
    manifest = Manifest(
        schema_version=1, model="own-1d", symbol="own", timeframe="1d", as_of="2018-12-31",
        files={name: sha256_file(run / "bundle" / name) for name in HASHED}, features=[], warmup=1, window=2,
        classes=["down", "up"], base_models=["base_rate", "lstm"],
        thresholds=Thresholds(0.6, 0.55, 0.45, 0.4),
        label={"kind": "fixed_horizon", "horizon": 5}, parity={}, data_hash="d", params_hash="p",
        tradable=False, reasons=[],
    )  # fmt: skip
    write_manifest(run / "bundle", manifest)
    evidence = {
        "rows": 99, "skill": {"difference": 0.01, "p_value": 0.04}, "overfitting": {"pbo": 0.4},
        "models": {"ensemble": {"log_loss": 0.68, "brier": 0.24, "auc": 0.55, "ece": 0.02}},
        "backtest": {"sharpe": 0.5, "max_drawdown": -0.1, "trades": 30},
        "intervals": {"figures": {"sharpe": {"estimate": 0.5, "low": -0.1, "high": 1.1}}},
    }  # fmt: skip
    write_json(run / "evidence" / "evidence.json", evidence)
    checks = [
        Check("bundle_intact", "integrity", True, None, None, ""),
        Check("luck", "trade", False, 0, 1, ""),
    ]
    write_json(run / "evidence" / "verdict.json", verdict(checks).to_dict())
    write_text(run / "pipeline" / "params.yaml", "ensemble: {method: blend}\n")
    made = Override("ada", "2020-01-02T03:04:05+00:00", "because", "1", ("it is worse",))
    tags = {"trials": "43", "tradable": "false", "reasons": json.dumps([REASON]), "commit": "c"}
    tags |= {"overrides": write_overrides([made])}
    created = datetime(2019, 1, 2, tzinfo=UTC)
    return Version("own-1d", "2", "r", created, ("champion",), "", run / "bundle", tags)


def registry_of(*versions: Version) -> Any:
    return SimpleNamespace(
        models=lambda: ["own-1d"],
        versions=lambda _: list(versions),
        metrics=lambda _: {"ensemble.deflated_sharpe": 0.25},
        get_alias=lambda *_: None,
        champion_history=lambda _: [
            {"version": "2", "at": "2020", "reason": "", "by": "", "move": "promoted"}
        ],
    )


def test_evidence_is_read_from_the_artifacts(version: Version) -> None:
    found = describe(registry_of(version), version)
    assert (found.families, found.method, found.rows, found.gain_p) == (
        ("base_rate", "lstm"),
        "blend",
        99,
        0.04,
    )
    assert (found.log_loss, found.brier, found.auc, found.ece) == (0.68, 0.24, 0.55, 0.02)
    assert (found.sharpe, found.sharpe_low, found.sharpe_high) == (0.5, -0.1, 1.1)
    assert (found.deflated_sharpe, found.trials, found.pbo, found.trades) == (0.25, 43, 0.4, 30)
    assert (found.failing, found.reasons, found.damaged) == (("luck",), (REASON,), "")
    assert found.overrides[0]["against"] == ("it is worse",)


def test_a_version_whose_artifacts_are_gone_is_shown_all_the_same(version: Version) -> None:
    for path in [*version.directory.parent.glob("*/*.json"), version.directory / MODEL]:
        path.unlink()
    found = describe(registry_of(version), version)
    assert (found.verdict, found.log_loss, found.families) == ("unknown", None, ())
    assert MANIFEST in found.damaged


@pytest.mark.parametrize("history", [False, True])
def test_the_verb_prints_one_json_document(
    version: Version, history: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(promotion, "open_registry", lambda _: registry_of(version))
    verbs.models(verbs.Request(history=history), as_json=True)
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["model"], row["version"]) == ("own-1d", "2")
    assert row["by" if history else "overrides"] is not None
