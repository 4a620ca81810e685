"""What doctor finds, in homes that are made for it."""

import os
import socket
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from cli import doctor
from cli.doctor import Check, checks, damage
from core.settings import Settings


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    """A checkout with git and DVC, never run; its ports are free."""
    root = tmp_path / "home"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc" / "config").write_text("[core]\n    remote = local\n")
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / "params.yaml").write_text("data: {}\n")
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    service, prefect, mlflow = (probe.getsockname()[1] for probe in probes)
    for probe in probes:
        probe.close()
    return Settings(home=root, port=service, prefect_port=prefect, mlflow_port=mlflow)


def _named(found: list[Check], name: str) -> Check:
    return next(check for check in found if check.name == name)


def test_fresh_checkout_has_no_fault_and_is_told_to_run(home: Settings) -> None:
    found = checks(home)
    assert [check for check in found if not check.ok and check.required] == []
    assert _named(found, "champion").remedy == "bellwether run"
    assert _named(found, "git").ok


def test_every_finding_that_is_not_ok_has_a_remedy(home: Settings, tmp_path: Path) -> None:
    for settings in (home, home.model_copy(update={"home": tmp_path / "nowhere"})):
        assert [check.name for check in checks(settings) if not check.ok and not check.remedy] == []


def test_nothing_is_left_behind(home: Settings) -> None:
    before = sorted(path for path in home.home.rglob("*") if ".git" not in path.parts)
    checks(home)
    assert sorted(path for path in home.home.rglob("*") if ".git" not in path.parts) == before


def test_busy_port_names_its_setting(home: Settings) -> None:
    with socket.create_server(("127.0.0.1", home.mlflow_port)):
        (check,) = [check for check in doctor.ports(home) if not check.ok]
    assert check.name == f"port {home.mlflow_port}"
    assert "BELLWETHER_MLFLOW_PORT" in check.remedy


def test_port_held_by_our_own_stack_is_fine(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "stack_runs", lambda _: True)
    with socket.create_server(("127.0.0.1", home.mlflow_port)):
        assert all(check.ok for check in doctor.ports(home))


def test_damaged_database_is_named(home: Settings) -> None:
    home.mlflow_dir.mkdir()
    (home.mlflow_dir / "mlflow.db").write_bytes(b"x" * 5000)
    found = checks(home)
    assert not _named(found, "database mlflow.db").ok
    assert not _named(found, "champion").ok


def test_whole_database_has_no_damage(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a b.db")) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.commit()
    assert damage(tmp_path / "a b.db") == ""


def test_wrong_version_is_named_with_the_rule(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    have = doctor._have
    monkeypatch.setattr(doctor, "_have", lambda name: "3.0.1" if name == "pandas" else have(name))
    (check,) = doctor.packages(home)
    assert not check.ok
    assert "pandas 3.0.1 is not" in check.detail


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_folder_that_cannot_be_written_is_a_fault(home: Settings) -> None:
    home.var_dir.mkdir()
    home.var_dir.chmod(0o500)
    assert not _named(list(doctor.stores(home)), "write var/").ok


def test_missing_pipeline_is_a_fault(home: Settings) -> None:
    (home.home / "dvc.yaml").unlink()
    (check,) = doctor.dvc(home)
    assert not check.ok
    assert check.required


def test_changed_code_is_advice(home: Settings) -> None:
    (home.home / "params.yaml").write_text("data: {symbol: x}\n")
    (check,) = doctor.git(home)
    assert not check.ok
    assert not check.required
    assert "1 tracked files changed" in check.detail
