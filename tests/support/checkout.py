"""A checkout of its own with quick parameters, and the command line run in it as a user would."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.settings import child_environment
from pipelines.params import PARAMS_FILE, read_tree, with_overrides, write_tree

ROOT = Path(__file__).resolve().parents[2]
QUICK = {"train.families": ["base_rate", "logistic", "lightgbm"], "splits.max_folds": 4}


def git(folder: Path, *arguments: str) -> str:
    """Output of a git command."""
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


def copy_checkout(target: Path) -> Path:
    """This checkout's files as they stand, committed with quick parameters; compiled kernels come along."""
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    kernels = [str(path.relative_to(ROOT)) for path in ROOT.glob("*/__pycache__/*.nb[ic]")]
    for name in filter(None, [*listed, *kernels]):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    (target / "dvc.lock").unlink(missing_ok=True)
    write_tree(target / PARAMS_FILE, with_overrides(read_tree(target / PARAMS_FILE), QUICK))
    git(target, "init", "--quiet", "--initial-branch=main")
    git(target, "add", "--all")
    git(target, "commit", "--quiet", "--message=checkout")
    return target


@dataclass(frozen=True)
class Checkout:
    """A folder in which `bellwether` runs."""

    root: Path

    def bellwether(
        self, *arguments: str, code: int = 0, cwd: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run the command line; its exit code must be `code`, and it must never show a traceback."""
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            cwd=cwd or self.root,
            env=child_environment(BELLWETHER_HOME=str(self.root), PYTHONPATH=str(self.root)),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def json(self, *arguments: str) -> Any:
        """The document that a command prints with --json."""
        return json.loads(self.bellwether(*arguments, "--json").stdout)

    def changed(self) -> list[str]:
        """Tracked files that differ from the commit, and files that git neither tracks nor ignores."""
        lines = git(self.root, "status", "--porcelain", "--untracked-files=all").splitlines()
        return [line[3:] for line in lines]
