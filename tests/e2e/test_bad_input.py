"""Faults a user can make: one clear message, the documented exit code, and what was there stays."""

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from core.files import directory_hashes

pytestmark = pytest.mark.e2e
FirstRun = tuple[Any, dict[str, Any]]


@pytest.fixture
def checkout(first_run: FirstRun) -> Any:
    """The checkout of the first run; a fault must leave its store and tracked files as they are."""
    checkout, _ = first_run
    before = directory_hashes(checkout.root / "data/store"), checkout.changed()
    yield checkout
    assert (directory_hashes(checkout.root / "data/store"), checkout.changed()) == before


@pytest.fixture
def bars(shared_data: Path) -> list[str]:
    """Lines of a real CSV, the header first."""
    return (shared_data / "nvda_1d.csv").read_text().splitlines()


def refuse(
    checkout: Any, folder: Path, lines: list[str] | bytes, *, name: str = "own.csv", code: int = 1
) -> str:
    """What `bellwether run` says of a user's file, on one line."""
    content = lines if isinstance(lines, bytes) else ("\n".join(lines) + "\n").encode()
    (folder / name).write_bytes(content)
    sets = ["--set", "data.source=csv", "--set", f"data.path={folder / name}", "--set", "data.symbol=OWN"]
    message = checkout.bellwether("run", *sets, code=code).stderr.strip()
    assert len(message.splitlines()) == 1
    return str(message)


def test_all_configuration_faults_are_reported_together(checkout: Any) -> None:
    sets = ["labels.horizn=3", "splits.scheme=sideways", "train.seed=many"]
    said = checkout.bellwether("run", *(part for s in sets for part in ("--set", s)), code=2).stderr
    assert "labels.horizn is not a parameter: did you mean labels.horizon?" in said
    assert "splits.scheme = 'sideways'" in said
    assert "train.seed = 'many'" in said


def test_an_unknown_source_is_refused(checkout: Any) -> None:
    said = checkout.bellwether("run", "--set", "data.source=bloomberg", code=2).stderr
    assert "'bloomberg' is unknown: use one of arch_sp500, csv" in said


def test_a_family_parameter_that_is_not_there(checkout: Any) -> None:
    said = checkout.bellwether("run", "--set", "train.lightgbm={leafs: 3}", code=2).stderr
    assert "train.lightgbm.leafs" in said


@pytest.mark.parametrize("arguments", [["run", "--sett", "a.b=1"], ["fly"], ["serve", "--port", "http"]])
def test_usage_faults(checkout: Any, arguments: list[str]) -> None:
    checkout.bellwether(*arguments, code=2)


def test_a_missing_file(checkout: Any, tmp_path: Path) -> None:
    sets = [
        "--set",
        "data.source=csv",
        "--set",
        f"data.path={tmp_path / 'none.csv'}",
        "--set",
        "data.symbol=X",
    ]
    assert "none.csv does not exist" in checkout.bellwether("run", *sets, code=1).stderr


def test_a_csv_without_a_column(checkout: Any, bars: list[str], tmp_path: Path) -> None:
    lines = [",".join(cell for k, cell in enumerate(line.split(",")) if k != 3) for line in bars]
    said = refuse(checkout, tmp_path, lines)
    assert "low" in said
    assert "high" in said


def test_a_corrupt_parquet_file(checkout: Any, tmp_path: Path) -> None:
    assert "own.parquet" in refuse(checkout, tmp_path, b"PAR1" + bytes(500) + b"PAR1", name="own.parquet")


def test_bars_out_of_order_and_without_a_price(checkout: Any, bars: list[str], tmp_path: Path) -> None:
    for row in range(100, 112):
        bars[row], bars[row + 700] = bars[row + 700], bars[row]
        date, _, *rest = bars[row + 40].split(",")
        bars[row + 40] = ",".join([date, "", *rest])
    said = refuse(checkout, tmp_path, bars, code=3)
    assert "more than validate.max_quarantined = 5" in said
    assert "increasing_time" in said or "prices" in said
    assert "validation-refused.html" in said


def test_a_refused_file_in_the_checkout_keeps_yesterdays_outputs(checkout: Any, bars: list[str]) -> None:
    own, params = checkout.root / "data/inbox/own.csv", checkout.root / "params.yaml"
    saved = params.read_text()
    try:
        own.write_text("\n".join(bars[:1] + bars[:20:-1]) + "\n" + "\n".join(bars[1:20]) + "\n")
        text = saved.replace("source: arch_sp500", "source: csv").replace(
            "path: null", "path: data/inbox/own.csv"
        )
        params.write_text(text)
        before = directory_hashes(checkout.root / "data/store/bundle")
        checkout.bellwether("run", code=3)
        assert directory_hashes(checkout.root / "data/store/bundle") == before
    finally:
        params.write_text(saved)
        own.unlink()
        checkout.json("run")


def test_a_damaged_bundle_is_not_served(checkout: Any, first_run: FirstRun, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(first_run[1]["bundle"], bundle)
    data = bytearray((bundle / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(data)
    said = checkout.bellwether("serve", "--bundle", str(bundle), "--port", "0", code=1).stderr
    assert "model.onnx" in said
    assert "SHA-256" in said


def test_a_busy_port_is_named(checkout: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = checkout.bellwether("serve", "--port", port, code=1).stderr
    assert port in said
    assert "in use" in said
