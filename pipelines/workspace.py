"""Where a run happens: the checkout itself, or a git worktree of its own over the shared DVC cache.

Runs with overridden parameters and scheduled runs use a worktree, so the user's checkout, its params.yaml
and its dvc.lock stay clean. Worktrees are a small pool under var/worktrees/, reused so that compiled
kernels and unchanged files stay warm.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import yaml

from core.errors import ConfigurationError, DataError, StageFailed
from core.faults import disk_remedy
from core.files import exclusive_lock, read_json, sha256_file, write_bytes, write_text
from core.processes import end_marked
from core.settings import Settings, child_environment
from pipelines.dvc_lock import release_dead, set_aside_damaged
from pipelines.params import PARAMS_FILE, check, check_names, read_tree, with_overrides, write_tree

STAGES = ("ingest", "validate", "features", "labels", "train", "evaluate", "export", "gate")
STORE, REPORTS, INBOX = Path("data/store"), Path("reports"), Path("data/inbox")
FAULT_FILE, PUSHED_FILE = "fault.json", "pushed.txt"
_POOL = 4
_LOST = {
    ".git": "a run records the commit of its code; clone the repository again, or `git init` and commit",
    ".dvc/config": "restore it with `git checkout .dvc`",
}
# What a run starts carries its workspace under this name: a killed run's processes are found by it.
_MARK = "BELLWETHER_WORKSPACE"
OnLine = Callable[[str], None]


def _ignore(line: str) -> None:
    """Output nobody asked for."""


@dataclass(frozen=True)
class StageResult:
    """How one stage went: "ran", or "unchanged" when DVC had its outputs already."""

    stage: str
    status: Literal["ran", "unchanged"]
    seconds: float


@dataclass(frozen=True)
class Workspace:
    """A directory with the project's files in which stages run."""

    root: Path
    settings: Settings
    source: Path | None = None
    """Where the user's file came from, when the run works on a copy."""

    @property
    def store(self) -> Path:
        """The stages' outputs."""
        return self.root / STORE

    @property
    def reports(self) -> Path:
        """HTML reports and metrics."""
        return self.root / REPORTS

    def stale(self) -> set[str]:
        """Stages whose own dependencies, parameters or outputs changed; later stages may follow them."""
        check_stages(self.root)
        answer = self._query("status", "--json").splitlines()
        status = json.loads(next((line for line in reversed(answer) if line.startswith("{")), "{}"))
        return {name.rpartition(":")[2] for name in status}

    def repro(self, stage: str, on_line: OnLine = _ignore) -> StageResult:
        """Bring one stage up to date; StageFailed carries the stage's own message and exit code.

        `on_line` gets the stage's output line by line while it runs.
        """
        (self.root / "var").mkdir(exist_ok=True)
        fault = self._fault_path()
        fault.unlink(missing_ok=True)
        begin = perf_counter()
        code, lines = self._dvc("repro", "--single-item", stage, on_line=on_line)
        if code:
            raise self._failure(stage, code, lines)
        ran = any(f"Running stage '{stage}'" in line for line in lines)
        return StageResult(stage, "ran" if ran else "unchanged", perf_counter() - begin)

    def push(self) -> bool:
        """Send outputs to the configured DVC remote; False when these were sent before."""
        note, outputs = self.root / "var" / PUSHED_FILE, self.lock_hash()
        if note.exists() and note.read_text(encoding="utf-8") == outputs:
            return False
        self._query("push", "--quiet")
        write_text(note, outputs)
        return True

    def git(self, *arguments: str) -> str:
        """Output of a git command here, stripped."""
        return _git(self.root, *arguments)

    def commit(self) -> str:
        """The commit of the code here."""
        return self.git("rev-parse", "HEAD")

    def dirty(self) -> bool:
        """True when tracked code differs from the commit; parameters and dvc.lock are recorded apart."""
        changed = self.git("status", "--porcelain", "--untracked-files=no").splitlines()
        return any(line.split()[-1] not in {PARAMS_FILE, "dvc.lock"} for line in changed)

    def lock_hash(self) -> str:
        """SHA-256 of dvc.lock."""
        return sha256_file(self.root / "dvc.lock")

    def _fault_path(self) -> Path:
        return self.root / "var" / FAULT_FILE

    def _failure(self, stage: str, code: int, lines: list[str]) -> StageFailed:
        path = self._fault_path()
        if path.exists():
            fault = read_json(path)
            return StageFailed(self._users_words(fault["message"]), fault["exit_code"])
        if any(line.rstrip().endswith("exited with -9") for line in lines):
            return StageFailed(
                f"stage {stage} was killed (signal 9), most likely for want of memory: close other programs, "
                "or lower train.processes or train.window"
            )
        tail = "\n".join([line for line in lines if line.strip()][-12:])
        return StageFailed(
            _told(f"stage {stage} ended with exit code {code}; its last lines:\n{tail}", lines)
        )

    def _users_words(self, message: str) -> str:
        """The message with the user's own file in place of the copy that the stage read."""
        copy = self.root / INBOX / self.source.name if self.source else None
        return message.replace(str(copy), str(self.source)) if copy else message

    def _query(self, *arguments: str) -> str:
        code, lines = self._dvc(*arguments)
        if code:
            raise StageFailed(_told(f"dvc {' '.join(arguments)} failed: {' '.join(lines)[-500:]}", lines))
        return "\n".join(lines)

    def _dvc(self, *arguments: str, on_line: OnLine = _ignore) -> tuple[int, list[str]]:
        """Exit code and output of a dvc command, one at a time in a workspace (a second would give up)."""
        for needed in (".git", ".dvc/config"):
            if not (self.root / needed).exists():
                raise ConfigurationError(f"{self.root / needed} is gone: {_LOST[needed]}")
        lines: list[str] = []
        with exclusive_lock(self.root / ".dvc" / "tmp" / "bellwether.lock"):
            end_marked(_MARK, str(self.root))
            release_dead(self.root)
            set_aside_damaged(self.root)
            process = subprocess.Popen(
                [sys.executable, "-m", "dvc", *arguments],
                cwd=self.root,
                env=child_environment(BELLWETHER_HOME=str(self.settings.home), **{_MARK: str(self.root)}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            with process:
                try:
                    for line in process.stdout or ():
                        lines.append(line.rstrip())
                        on_line(lines[-1])
                except BaseException:
                    end_marked(_MARK, str(self.root))
                    raise
        return process.returncode, lines


def check_stages(root: Path) -> None:
    """ConfigurationError when dvc.yaml lacks a stage, which DVC would pass over in silence."""
    path = root / "dvc.yaml"
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        missing = set(STAGES) - set(tree["stages"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(
            f"{path} cannot be read ({reason}): restore it with `git checkout dvc.yaml`"
        ) from error
    if missing:
        raise ConfigurationError(
            f"{path} lacks {', '.join(s for s in STAGES if s in missing)}: restore it with "
            "`git checkout dvc.yaml`"
        )


def _told(message: str, lines: list[str]) -> str:
    """A message with the remedy that DVC does not give."""
    remedy = disk_remedy(" ".join(lines))
    return f"{message}: {remedy}" if remedy else message


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigurationError(f"git {' '.join(arguments)} in {root}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def open_workspace(
    settings: Settings, overrides: Mapping[str, Any] | None = None, *, isolated: bool = False
) -> Iterator[Workspace]:
    """Yield the checkout, or a worktree of its own when parameters are overridden or `isolated` is set.

    Parameters are checked before anything is touched. A worktree holds the checkout's commit and its
    params.yaml as it stands, with the overrides written into it.
    """
    home = settings.home
    tree = with_overrides(read_tree(home / PARAMS_FILE), overrides or {})
    check_names(check(tree))
    if not overrides and not isolated:
        yield Workspace(home, settings)
        return
    with _slot(home) as root:
        _prepare(home, root)
        adopted, source = _adopt_file(tree, home, root)
        write_tree(root / PARAMS_FILE, adopted)
        yield Workspace(root, settings, source)


@contextmanager
def _slot(home: Path) -> Iterator[Path]:
    pool = home / "var" / "worktrees"
    for number in range(_POOL):
        with exclusive_lock(pool / f"{number}.lock", wait=False) as mine:
            if mine:
                end_marked(_MARK, str(pool / str(number)))
                yield pool / str(number)
                return
    raise StageFailed(f"{_POOL} runs are under way in {pool}: wait for one to end")


def _prepare(home: Path, root: Path) -> None:
    commit = _git(home, "rev-parse", "HEAD")
    if not (root / ".git").exists():
        shutil.rmtree(root, ignore_errors=True)
        _git(home, "worktree", "prune")
        _git(home, "worktree", "add", "--force", "--detach", str(root), commit)
    lock = root / "dvc.lock"
    kept = lock.read_bytes() if lock.exists() and _git(root, "rev-parse", "HEAD") == commit else None
    _git(root, "checkout", "--force", "--detach", commit)
    if kept is not None:  # what the outputs there were made from: the same run again has nothing to do
        write_bytes(lock, kept)
    _share_kernels(home, root)
    config = f"[cache]\n    dir = {home / '.dvc' / 'cache'}\n[core]\n    remote = local\n"
    remote = f"['remote \"local\"']\n    url = {home / 'var' / 'dvc-remote'}\n"
    write_text(root / ".dvc" / "config.local", config + remote)


def _share_kernels(home: Path, root: Path) -> None:
    """Give a worktree the checkout's compiled backtest; features share theirs through the user's cache.

    numba trusts a cached kernel when its source has the recorded time and size, so sources with equal
    bytes take over the checkout's times.
    """
    for source in (home / "trading").glob("*.py"):
        twin, times = root / "trading" / source.name, source.stat()
        if twin.is_file() and twin.read_bytes() == source.read_bytes():
            os.utime(twin, ns=(times.st_atime_ns, times.st_mtime_ns))
    for compiled in (home / "trading" / "__pycache__").glob("*.nb[ic]"):
        target = root / "trading" / "__pycache__" / compiled.name
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(compiled, target)


def _adopt_file(tree: dict[str, Any], home: Path, root: Path) -> tuple[dict[str, Any], Path | None]:
    """Copy the file at data.path into the worktree's inbox, the only place that DVC watches.

    Returns the parameters that name the copy, and the path of the original.
    """
    inbox = root / INBOX
    for stray in inbox.iterdir() if inbox.is_dir() else []:
        if stray.name != "README.md":
            stray.unlink()
    if not tree["data"]["path"]:
        return tree, None
    source = home / Path(tree["data"]["path"]).expanduser()
    if not source.is_file():
        raise DataError(f"data.path {source} does not exist or is not a file: give a CSV or parquet file")
    inbox.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, inbox / source.name)
    return with_overrides(tree, {"data.path": (INBOX / source.name).as_posix()}), source


def absolute_paths(overrides: Mapping[str, Any], cwd: Path) -> dict[str, Any]:
    """Overrides with data.path made absolute against the directory the user stands in."""
    path = overrides.get("data.path")
    return {**overrides, "data.path": str(cwd / Path(path).expanduser())} if path else dict(overrides)
