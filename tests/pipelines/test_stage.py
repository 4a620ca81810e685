"""How a stage ends: one message and its exit code in var/fault.json, or a headline."""

import json
import shutil
from pathlib import Path

import pytest

from core.errors import BellwetherError, DataError, GateRefused
from pipelines import stage
from pipelines.params import Params

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def end(error: Exception, root: Path) -> dict[str, object]:
    def work(_root: Path, _params: Params) -> str:
        raise error

    with pytest.raises(SystemExit) as stopped:
        stage.run("train", work)
    found: dict[str, object] = json.loads((root / "var/fault.json").read_text())
    assert stopped.value.code == found["exit_code"]
    return found


@pytest.mark.parametrize(("error", "code"), [(DataError("bad bars"), 1), (GateRefused("bad bars"), 3)])
def test_a_fault_of_ours_keeps_its_words_and_code(error: BellwetherError, code: int, workspace: Path) -> None:
    assert end(error, workspace) == {"stage": "train", "message": "bad bars", "exit_code": code}


def test_any_other_fault_is_one_message_too(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = end(MemoryError("Unable to allocate 3 TiB"), workspace)
    assert str(found["message"]).startswith("stage train: out of memory (Unable to allocate 3 TiB)")
    assert "Traceback" not in capsys.readouterr().err


def test_a_disk_that_takes_no_fault_file_still_shows_the_message(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "var").write_text("a file")
    with pytest.raises(SystemExit):
        stage.run("train", lambda _root, _params: (_ for _ in ()).throw(DataError("bad bars")))
    assert capsys.readouterr().err == "train: bad bars\n"


def test_the_headline_of_a_stage_that_went_well(workspace: Path) -> None:
    stage.run("train", lambda _root, _params: "3 families")
    assert stage.headline(workspace, "train") == "3 families"
