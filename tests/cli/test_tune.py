"""What `bellwether tune` prints and returns; the search itself is tested in tests/pipelines."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from core.errors import DataError
from pipelines import tuning
from pipelines.tuning import Comparison, Progress, Request, Tuned

FOUND = Tuned(
    model="own-1d",
    family="lightgbm",
    metric="log_loss",
    scope="early",
    searched_rows=500,
    searched_until="2004-12-28T21:00:00+00:00",
    trials=30,
    added=10,
    finished=17,
    pruned=11,
    failed=2,
    reasons={"fold 2: too few rows": 2},
    trial=20,
    best={"num_leaves": 3},
    best_loss=0.6901,
    in_force_loss=0.6903,
    comparison=Comparison(rows=3500, folds=14, in_force=0.6852, best=0.6851, p_better=0.3),
    improved=False,
    written=False,
    command="bellwether run --set 'train.lightgbm={num_leaves: 3}'",
    counted=72,
    unlogged="",
    journal="/home/var/tuning/own.journal",
    seconds=1.0,
)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def asked() -> list[Request]:
    """What the searches were asked for."""
    return []


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: list[Request]) -> Run:
    """run(options, outcome) → exit code, standard output, standard error."""

    def act(*options: str, outcome: Any = FOUND) -> tuple[int, str, str]:
        def tune(_settings: Any, request: Request, on_progress: Any, _on_note: Any) -> list[Tuned]:
            asked.append(request)
            on_progress(Progress("lightgbm", 12, 30, 0.69, "/home/var/tuning/own.journal"))
            if isinstance(outcome, BaseException):
                raise outcome
            return [outcome]

        monkeypatch.setattr(tuning, "tune", tune)
        monkeypatch.setattr(sys, "argv", ["bellwether", "tune", *options])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return act


def test_the_summary_says_what_holds_and_what_to_do(run: Run) -> None:
    code, out, _ = run()
    assert code == 0
    for said in (
        "30 trials, 10 of them new: 17 finished, 11 given up early, 2 failed",
        "2 failed: fold 2: too few rows",
        "500 rows until 2004-12-28, before the first judged block",
        "trial 20: num_leaves 3",
        "0.69010 against 0.69030 in force on the rows it was chosen on, which flatters it",
        "0.68510 against 0.68520 in force on 3500 rows of 14 blocks; one-sided p 0.3: no better than",
        "72 trials now count against own-1d",
        "keep the parameters in force; to see for yourself: bellwether run --set 'train.lightgbm={num_leaves",
    ):
        assert said in out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"improved": True}, "--write keeps them in params.yaml"),
        ({"written": True}, "params.yaml has the new train.lightgbm: `bellwether run`"),
        (
            {"trial": 0, "best": {}, "comparison": None},
            "in force, log-loss 0.69010: no trial is better",
        ),
        ({"comparison": None}, "not compared: one of the two cannot be fitted"),
        ({"scope": "all"}, "each block with the best of those before it"),
    ],
)
def test_the_summary_of_other_ends(run: Run, changes: dict[str, Any], said: str) -> None:
    assert said in run(outcome=replace(FOUND, **changes))[1]


def test_json_is_one_document(run: Run) -> None:
    code, out, _ = run("--json")
    (found,) = json.loads(out)
    assert code == 0
    assert (found["best"], found["comparison"]["p_better"], found["counted"]) == ({"num_leaves": 3}, 0.3, 72)


def test_options_reach_the_search(run: Run, asked: list[Request]) -> None:
    run("--family", "lightgbm", "--trials", "5", "--timeout", "9", "--metric", "brier", "--folds", "all",
        "--space", "num_leaves=2:8:log", "--new", "--write")  # fmt: skip
    space = tuning.parse_space(["num_leaves=2:8:log"])
    assert asked == [Request(("lightgbm",), 5, 9.0, "brier", "all", resume=False, write=True, space=space)]
    run()
    assert asked[1] == Request()


@pytest.mark.parametrize(
    ("options", "outcome", "code", "said"),
    [
        (("--trials", "0"), FOUND, 2, "--trials"),
        (("--metric", "sharpe"), FOUND, 2, "--metric"),
        (("--space", "num_leaves"), FOUND, 2, "expected name=low:high"),
        ((), DataError("none of 4 trials"), 1, "none of 4 trials"),
        ((), KeyboardInterrupt(), 130, "lightgbm: 12 of 30 trials are kept in /home/var/tuning/own.journal"),
        ((), KeyboardInterrupt(), 130, "run the command again to go on"),
    ],
)
def test_exit_codes(run: Run, options: tuple[str, ...], outcome: Any, code: int, said: str) -> None:
    got, _, err = run(*options, outcome=outcome)
    assert got == code
    assert said in err


def test_outside_a_checkout_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("BELLWETHER_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["bellwether", "tune"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "params.yaml does not exist: run from the checkout's root" in capsys.readouterr().err
