"""What `bellwether doctor` looks at. Every check is cheap: no heavy import, no write that stays."""

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from core.errors import RegistryError
from core.processes import environment_of
from core.settings import Settings, kernel_cache
from flows.find import champions, database
from flows.spawn import MARK
from flows.stack import CODE, port_is_free

_PYTHON = (3, 11)
_FREE_GB, _FREE_GB_WARNING = 1.0, 5.0
_GIT_SECONDS = 5.0
_REINSTALL = "rm .venv/.installed; make setup"


@dataclass(frozen=True)
class Check:
    """One finding. `remedy` is empty when all is well; `required` False marks advice, not a fault."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    required: bool = True


def checks(settings: Settings) -> list[Check]:
    """Every check, in the order a person would mend them."""
    found: list[Check] = []
    for group in _GROUPS:
        found.extend(group(settings))
    return found


def python(_settings: Settings) -> Iterator[Check]:
    """The interpreter's version."""
    found = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= _PYTHON
    needed = ".".join(map(str, _PYTHON))
    yield Check("python", ok, found, "" if ok else f"needs {needed} or newer: make PYTHON=python{needed}")


def packages(_settings: Settings) -> Iterator[Check]:
    """Installed versions against our own requirements: the pins that matter are among them."""
    try:
        lines = distribution("bellwether").requires or []
    except PackageNotFoundError:
        yield Check("packages", False, "bellwether itself is not installed", _REINSTALL)
        return
    needed = [Requirement(line) for line in lines if "extra ==" not in line]
    faults = [fault for fault in map(_fault, needed) if fault]
    detail = "; ".join(faults) or f"{len(needed)} requirements met"
    yield Check("packages", not faults, detail, _REINSTALL if faults else "")


def lock(_settings: Settings) -> Iterator[Check]:
    """Installed versions against requirements.lock; a difference is advice."""
    path = CODE / "requirements.lock"
    if not path.exists():
        yield Check("lock", False, f"{path} is missing", "git checkout requirements.lock", required=False)
        return
    pinned = [line.split(";")[0].strip() for line in path.read_text().splitlines() if "==" in line]
    wanted = dict(line.split("==", 1) for line in pinned if not line.startswith("#"))
    differ = [
        f"{name} {have} (lock: {want})"
        for name, want in wanted.items()
        if _public(have := _have(name)) != want
    ]
    shown = ", ".join(differ[:4]) + (f" and {len(differ) - 4} more" if len(differ) > 4 else "")
    detail = f"{len(differ)} differ: {shown}" if differ else f"{len(wanted)} packages as locked"
    yield Check("lock", not differ, detail, _REINSTALL if differ else "", required=False)


def _public(found: str | None) -> str | None:
    """A version without its build: torch 2.13.0+cpu is the locked 2.13.0."""
    return found and found.partition("+")[0]


def ports(settings: Settings) -> Iterator[Check]:
    """Each port is free, or held by a stack of this checkout."""
    for name, port, setting in (
        ("service", settings.port, "BELLWETHER_PORT"),
        ("prefect", settings.prefect_port, "BELLWETHER_PREFECT_PORT"),
        ("mlflow", settings.mlflow_port, "BELLWETHER_MLFLOW_PORT"),
    ):
        if port_is_free(port):
            yield Check(f"port {port}", True, f"free for {name}")
        elif stack_runs(settings):
            yield Check(f"port {port}", True, f"held while `bellwether up` runs ({name})")
        else:
            remedy = f"end the program that holds it, or set {setting} to a free port"
            yield Check(f"port {port}", False, f"in use; {name} needs it", remedy, required=False)


def stack_runs(settings: Settings) -> bool:
    """True while a `bellwether up` of this home has processes."""
    import psutil

    home = str(settings.home.resolve())
    return any(
        environment_of(process).get(MARK, "").startswith(f"{home}:") for process in psutil.process_iter()
    )


def disk(settings: Settings) -> Iterator[Check]:
    """Free space where data, models and logs go."""
    free = shutil.disk_usage(_existing(settings.home)).free / 1e9
    detail = f"{free:.1f} GB free at {settings.home}"
    remedy = "" if free >= _FREE_GB_WARNING else "free some space; `dvc gc -w` drops old outputs"
    yield Check("disk", free >= _FREE_GB_WARNING, detail, remedy, required=free < _FREE_GB)


def git(settings: Settings) -> Iterator[Check]:
    """A repository with a commit: every model names the code that made it."""
    home = settings.home
    if shutil.which("git") is None:
        yield Check("git", False, "no git on PATH", "install git")
        return
    commit = _run(home, "git", "rev-parse", "--short=12", "HEAD")
    if commit is None:
        yield Check("git", False, f"{home} has no commit", "work in a clone, or git init and commit")
        return
    changed = (_run(home, "git", "status", "--porcelain", "--untracked-files=no") or "").splitlines()
    detail = f"commit {commit}, " + (f"{len(changed)} tracked files changed" if changed else "clean")
    remedy = "commit, so that a model's pedigree names its code" if changed else ""
    yield Check("git", not changed, detail, remedy, required=False)


def dvc(settings: Settings) -> Iterator[Check]:
    """DVC is set up: its folder, the pipeline, a remote, the cache."""
    home = settings.home
    for name in (".dvc/config", "dvc.yaml", "params.yaml"):
        if not (home / name).is_file():
            yield Check("dvc", False, f"{home / name} is missing", f"git checkout {name}")
            return
    remote = _remote(home)
    remedy = "" if remote else "dvc remote add --default local ../var/dvc-remote"
    yield Check("dvc remote", bool(remote), remote or "none configured", remedy)
    cache = home / ".dvc" / "cache"
    lock_there = (home / "dvc.lock").exists()
    ran = lock_there and cache.is_dir()
    detail = f"cache {cache}" if ran else "no outputs yet"
    yield Check("dvc outputs", ran, detail, "" if ran else "bellwether run", required=False)


def stores(settings: Settings) -> Iterator[Check]:
    """Places that must be writable, and databases that must be whole."""
    for place in (settings.var_dir, settings.mlflow_dir):
        fault = _unwritable(place)
        remedy = f"chown or chmod {place}" if fault else ""
        yield Check(f"write {place.name}/", not fault, fault or str(place), remedy)
    place = kernel_cache()
    fault = _unwritable(place)
    remedy = "set NUMBA_CACHE_DIR to a writable folder, or every start compiles" if fault else ""
    yield Check("kernel cache", not fault, fault or str(place), remedy, required=False)
    for path in (database(settings), settings.var_dir / "prefect" / "prefect.db"):
        if path.exists():
            fault = damage(path)
            remedy = f"move {path.name} away and restore it from a backup" if fault else ""
            yield Check(f"database {path.name}", not fault, fault or "whole", remedy)


def champion(settings: Settings) -> Iterator[Check]:
    """A model serves."""
    try:
        found = champions(settings)
    except RegistryError as error:
        yield Check("champion", False, str(error), "see mlflow/README.md")
        return
    detail = ", ".join(f"{name} version {number}" for name, number in found.items())
    yield Check("champion", bool(found), detail or "none", "" if found else "bellwether run", required=False)


_GROUPS: tuple[Callable[[Settings], Iterator[Check]], ...] = (
    python, packages, lock, git, dvc, disk, stores, ports, champion,
)  # fmt: skip


def damage(path: Path) -> str:
    """What is wrong with a SQLite file; empty when nothing is. Reads the header and a quick check."""
    try:
        with closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=0.5)
        ) as connection:
            answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        return "" if "locked" in str(error) else str(error)
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if answer == "ok" else " ".join(str(answer).split())


def _fault(need: Requirement) -> str:
    if need.marker and not need.marker.evaluate():
        return ""
    have = _have(need.name)
    if have is None:
        return f"{need.name} is missing"
    return (
        ""
        if need.specifier.contains(Version(have), prereleases=True)
        else f"{need.name} {have} is not {need.specifier}"
    )


def _have(name: str) -> str | None:
    try:
        return version(name.split("[")[0])
    except PackageNotFoundError:
        return None


def _run(home: Path, *command: str) -> str | None:
    try:
        done = subprocess.run(
            command, cwd=home, capture_output=True, text=True, timeout=_GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _remote(home: Path) -> str:
    text = (home / ".dvc" / "config").read_text(encoding="utf-8", errors="replace")
    keys = (line.partition("=") for line in text.splitlines())
    return next((value.strip() for key, _, value in keys if key.strip() == "remote"), "")


def _unwritable(place: Path) -> str:
    try:
        with tempfile.NamedTemporaryFile(dir=_existing(place)):
            return ""
    except OSError as error:
        return f"{place}: {error.strerror}"


def _existing(path: Path) -> Path:
    return next((one for one in (path, *path.parents) if one.exists()), Path("/"))
