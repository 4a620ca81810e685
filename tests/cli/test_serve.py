"""What `bellwether serve` says: once when it is ready, once when it cannot be, nothing raw in between."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.settings import child_environment, kernel_cache
from features import native
from tests.serving.kit import ROOT, make_bars, make_bundle

TOKEN = "correct-horse-battery"
Started = subprocess.Popen[str]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of one feature."""
    directory = tmp_path_factory.mktemp("bundle") / "sp500-1d"
    return make_bundle(directory, make_bars(120), row=100, names=[], own={"gap": "open / close - 1"})


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    running: list[Started] = []

    def begin(*options: str, **environment: str) -> Started:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "serve", "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=(tmp_path / "stderr").open("w"),
            text=True,
            cwd=ROOT,
            env=child_environment(BELLWETHER_HOME=str(tmp_path), **environment),
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def _said(process: Started, last: str) -> list[str]:
    """The lines of standard output, the one that begins with `last` included."""
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if line.startswith(last):
            break
    return lines


def _log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "stderr").read_text().splitlines()]


def test_where_what_how_to_try_it_and_how_to_stop(
    start: Callable[..., Started], bundle: Path, tmp_path: Path
) -> None:
    process = start("--bundle", str(bundle), BELLWETHER_TOKEN=TOKEN)
    model, at, attempt, stop = _said(process, "  stop")
    assert model == "serving sp500-1d version 1"
    url = at.split()[1]
    assert at == f"  at    {url} (its requests: {url}/docs)"
    command = attempt.removeprefix("  try   ")
    tried = subprocess.run(
        command, shell=True, capture_output=True, env={"BELLWETHER_TOKEN": TOKEN}, check=True
    )
    assert json.loads(tried.stdout)["model_version"] == "1"
    subprocess.run(stop.partition(", or ")[2], shell=True, check=True)
    assert process.wait(15) == 0
    events = [line["event"] for line in _log(tmp_path)]
    assert events[-1] == "service_ending"
    assert events.count("model_serving") == 1


def test_a_machine_reads_one_document(start: Callable[..., Started], bundle: Path) -> None:
    process = start("--bundle", str(bundle), "--grpc-port", "0", "--json")
    told = json.loads(*_said(process, "{"))
    assert told.pop("url").startswith("http://127.0.0.1:")
    assert told.pop("grpc").startswith("127.0.0.1:")
    assert told == {
        "pid": process.pid,
        "models": [{"model": "sp500-1d", "version": "1", "symbol": "sp500", "tradable": True}],
    }


def test_the_first_start_of_a_machine_says_what_takes_so_long(
    start: Callable[..., Started], bundle: Path, tmp_path: Path
) -> None:
    place = tmp_path / "kernels"
    place.mkdir()
    # all but one operator, which takes seconds
    native.addresses(("run", "sub", "numerals"))
    for name in ("run", "sub", "numerals"):
        shutil.copy(kernel_cache() / f"{native.digest(name)}.o", place)
    process = start("--bundle", str(bundle), NUMBA_CACHE_DIR=str(place))
    _said(process, "  stop")
    first, *others = _log(tmp_path)
    assert (first["event"], first["done"], first["operators"]) == ("features_compiling", 0, 1)
    assert str(place) in first["note"]
    events = [line["event"] for line in others]
    assert events.index("features_compiled") < events.index("model_serving")


@pytest.mark.parametrize(
    ("options", "environment", "code", "words"),
    [
        (["--bundle", "{bundle}", "--model", "sp500-1d"], {}, 2, "leave out --model sp500-1d"),
        (["--bundle", "{bundle}/none"], {}, 2, "no manifest.json"),
        (["--bundle", "{bundle}", "--port", "{busy}"], {}, 1, "is in use"),
        (["--bundle", "{bundle}", "--grpc-port", "{busy}"], {}, 1, "gRPC cannot use"),
        (["--bundle", "{bundle}"], {"BELLWETHER_TOKEN": "a"}, 2, "openssl rand -hex 32"),
        ([], {}, 1, "run `bellwether run`"),
    ],
)
def test_a_fault_at_the_start_is_told_once(
    start: Callable[..., Started],
    bundle: Path,
    tmp_path: Path,
    options: list[str],
    environment: dict[str, str],
    code: int,
    words: str,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        process = start(*[option.format(bundle=bundle, busy=port) for option in options], **environment)
        assert process.wait(30) == code
    told = (tmp_path / "stderr").read_text()
    assert told.count(words) == 1
    assert [line for line in told.splitlines() if not line.startswith("{")] == told.splitlines()[-1:]
    assert '"level": "error"' not in told
    assert process.stdout is not None
    assert process.stdout.read() == ""
