"""A run that was stopped: its processes end, its outputs are pushed by the next one."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import ConfigurationError, StageFailed
from core.processes import marked
from core.settings import Settings
from pipelines.workspace import STAGES, Workspace, check_stages

FAKE_DVC = {
    "sleep": "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "print('started', flush=True)\n"
    "time.sleep(60)\n",
    "killed": "import sys\nprint('ERROR: python -m pipelines.train, exited with -9')\nsys.exit(255)\n",
    "full": "import sys\nprint('ERROR: [Errno 28] No space left on device')\nsys.exit(255)\n",
    "count": "open('pushes', 'a').write('.')\n",
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "dvc.lock").write_text("stages: {}\n")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").touch()
    return Workspace(tmp_path, Settings(home=tmp_path))


@pytest.fixture
def fake_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a program in DVC's place, found first by `python -m dvc` in the workspace."""
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    return lambda name: (tmp_path / "dvc.py").write_text(FAKE_DVC[name]) and None


def running(workspace: Workspace) -> list[int]:
    return [process.pid for process in marked("BELLWETHER_WORKSPACE", str(workspace.root))]


def test_an_interrupt_ends_everything_a_stage_started(
    workspace: Workspace, fake_dvc: Callable[[str], None]
) -> None:
    fake_dvc("sleep")

    def interrupt(_line: str) -> None:
        assert len(running(workspace)) == 2
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workspace.repro("train", interrupt)
    assert running(workspace) == []


def test_the_next_run_ends_what_a_killed_one_left(
    workspace: Workspace, fake_dvc: Callable[[str], None]
) -> None:
    fake_dvc("sleep")
    code = (
        "import sys\nfrom pathlib import Path\nfrom core.settings import Settings\n"
        "from pipelines.workspace import Workspace\nroot = Path(sys.argv[1])\n"
        "Workspace(root, Settings(home=root)).repro('train', lambda line: print(line, flush=True))\n"
    )
    killed = subprocess.Popen(
        [sys.executable, "-c", code, str(workspace.root)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        stdout=subprocess.PIPE,
    )
    with killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"started\n"
        killed.send_signal(signal.SIGKILL)
    assert len(running(workspace)) == 2
    fake_dvc("count")
    workspace.push()
    assert running(workspace) == []


def test_outputs_are_pushed_once_and_again_when_they_change(
    workspace: Workspace, fake_dvc: Callable[[str], None]
) -> None:
    fake_dvc("full")
    with pytest.raises(StageFailed, match="No space left on device: free space"):
        workspace.push()
    fake_dvc("count")
    assert [workspace.push(), workspace.push()] == [True, False]
    (workspace.root / "dvc.lock").write_text("stages: {ingest: {}}\n")
    assert [workspace.push(), workspace.push()] == [True, False]
    assert (workspace.root / "pushes").read_text() == ".."


def test_a_stage_killed_for_want_of_memory_says_so(
    workspace: Workspace, fake_dvc: Callable[[str], None]
) -> None:
    fake_dvc("killed")
    with pytest.raises(StageFailed, match=r"train was killed .* lower train\.processes"):
        workspace.repro("train")


@pytest.mark.parametrize("text", ["stages: {ingest: {}}", "stages: [", "a: 1", ""])
def test_a_damaged_dvc_yaml_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "dvc.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"git checkout dvc\.yaml"):
        check_stages(tmp_path)


def test_a_whole_dvc_yaml_passes(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(f"stages: {dict.fromkeys(STAGES, 1)}")
    check_stages(tmp_path)


@pytest.mark.parametrize(("gone", "remedy"), [(".git", "git init"), (".dvc", r"git checkout \.dvc")])
def test_a_checkout_without_git_or_dvc_is_named(workspace: Workspace, gone: str, remedy: str) -> None:
    shutil.rmtree(workspace.root / gone)
    with pytest.raises(ConfigurationError, match=f"is gone: .*{remedy}"):
        workspace.push()
