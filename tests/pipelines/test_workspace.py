import subprocess
from pathlib import Path

import pytest
import yaml

from core.errors import StageFailed
from core.files import write_json, write_text
from core.settings import Settings
from pipelines.params import read_tree
from pipelines.workspace import INBOX, open_workspace

ROOT = Path(__file__).resolve().parents[2]
CSV = {"data.source": "csv"}


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    """A repository with parameters and a lock, as small as a worktree needs."""
    write_text(tmp_path / "params.yaml", (ROOT / "params.yaml").read_text())
    write_text(tmp_path / "dvc.lock", "schema: '2.0'\n")
    write_text(tmp_path / ".gitignore", "var/\nbars.csv\n.dvc/\n")
    write_text(tmp_path / "bars.csv", "nonsense")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "start"]):
        identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
        subprocess.run(["git", *identity, *command], cwd=tmp_path, check=True)
    return Settings(home=tmp_path)


def test_overrides_are_written_to_a_worktree_and_not_to_the_checkout(home: Settings) -> None:
    with open_workspace(home, {"labels.horizon": 7}) as workspace:
        written = yaml.safe_load((workspace.root / "params.yaml").read_text())
        assert written["labels"]["horizon"] == 7
    assert read_tree(home.home / "params.yaml")["labels"]["horizon"] != 7


def test_the_next_run_knows_what_the_outputs_of_the_last_were_made_from(home: Settings) -> None:
    with open_workspace(home, isolated=True) as workspace:
        write_text(workspace.root / "dvc.lock", "schema: '2.0'\nstages: {}\n")
    with open_workspace(home, isolated=True) as again:
        assert "stages" in (again.root / "dvc.lock").read_text()


def test_a_lock_of_another_commit_is_not_kept(home: Settings) -> None:
    with open_workspace(home, isolated=True) as workspace:
        write_text(workspace.root / "dvc.lock", "schema: '2.0'\nstages: {}\n")
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    subprocess.run(
        ["git", *identity, "commit", "-q", "--allow-empty", "-m", "next"], cwd=home.home, check=True
    )
    with open_workspace(home, isolated=True) as again:
        assert "stages" not in (again.root / "dvc.lock").read_text()


def test_a_stage_that_fails_names_the_users_own_file(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_workspace(home, CSV | {"data.path": str(home.home / "bars.csv")}) as workspace:
        copy = workspace.root / INBOX / "bars.csv"

        def dvc(*_: object, **__: object) -> tuple[int, list[str]]:
            fault = {"message": f"{copy}: no header", "exit_code": 1}
            write_json(workspace.root / "var" / "fault.json", fault)
            return 1, []

        monkeypatch.setattr(type(workspace), "_dvc", dvc)
        with pytest.raises(StageFailed) as caught:
            workspace.repro("ingest")
    assert str(caught.value) == f"{home.home / 'bars.csv'}: no header"
