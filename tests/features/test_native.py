"""Machine code: found, compiled, damaged, out of place."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from core.errors import ArtifactError
from features import native
from features.operators import KERNELS

BARS = """
import numpy as np
from features.catalogue import compiled
program = compiled({"x": "mean(log(close), 5) - sin(time)"})
columns, out = np.cumsum(np.ones((6, 40)), axis=1), np.empty((1, 40))
program.run(columns, program.initial_state.copy(), program.buffers(8), out)
import sys
print(out[0, -1], "numba" in sys.modules)
"""


def _environment(place) -> dict[str, str]:
    # settings for other work of numba's: none of them may matter
    others = {"NUMBA_DISABLE_JIT": "1", "NUMBA_DEBUGINFO": "1"}
    return {"NUMBA_CACHE_DIR": str(place), "PATH": "/usr/bin", "PYTHONPATH": ".", **others}


def _run(place, code=BARS) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=_environment(place),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernels")
    return folder, _run(folder)


def test_what_is_compiled_is_kept_and_loads_without_numba(place):
    folder, said = place
    written = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert len(written) == 6  # run, mean, log, sin, sub; the service's numerals along with them
    assert said.endswith("False\n")
    assert _run(folder) == said
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == written


def test_the_log_tells_that_it_compiles_and_how_far_it_is(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "features.native")
    monkeypatch.setattr(native, "_TOLD_SECONDS", 0.1)
    monkeypatch.setattr(sys, "executable", _program(tmp_path, "sleep 0.4"))
    native.keep(tmp_path, "mean", b"compiled already")
    assert native._compile(["add", "mean"], tmp_path)
    first, *told, last = [(record.msg, record.args) for record in caplog.records]
    assert first[0] == "features_compiling"
    assert first[1]["operators"] == 2
    assert "once per machine" in first[1]["note"]
    assert told[0] == ("features_compiling", {"operators": 2, "done": 1})
    assert last[0] == "features_compiled"
    assert last[1]["seconds"] > 0.1


@pytest.mark.parametrize(
    "damage", [lambda data: data[:100], lambda data: data[:-9] + bytes(9), lambda data: b""]
)
def test_a_damaged_kernel_is_compiled_again(place, damage):
    folder, said = place
    file = min(folder.iterdir())
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert _run(folder) == said
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_time_only(place, tmp_path):
    (tmp_path / "file").write_text("")
    assert _run(tmp_path / "file" / "kernels") == place[1]


def test_a_kernel_depends_on_its_modules_and_no_others(monkeypatch):
    before = {name: native.digest(name) for name in KERNELS}
    real = native._source

    def edited(module: str) -> bytes:
        return real(module) + (b"#" if module == "features.operators.tree" else b"")

    monkeypatch.setattr(native, "_source", edited)
    native.digest.cache_clear()
    changed = {name for name in KERNELS if native.digest(name) != before[name]}
    native.digest.cache_clear()
    assert {"mean", "std", "corr", "sum_since_highest", "place_of_highest"} <= changed
    assert not changed & {"add", "ema", "sin", "all4"}


def test_sources_that_changed_under_the_process_are_refused(monkeypatch):
    monkeypatch.setattr(native, "_IMPORTED", b"other")
    with pytest.raises(ArtifactError, match="start it again"):
        native.addresses(("run", "add", "mean"))


THREADS = """
import threading
import numpy as np
from features.catalogue import compiled
texts = ["mean(log(close), 5)", "mean(log(close), 7)", "mean(log(close), 5) - 1"]
columns, results = np.cumsum(np.ones((6, 9000)), axis=1), {}
def build(number):
    program, out = compiled({"x": texts[number % 3]}), np.empty((1, 9000))
    program.run(columns, program.initial_state.copy(), program.buffers(64), out)
    results[number] = out.tobytes()
threads = [threading.Thread(target=build, args=(number,)) for number in range(6)]
for each in threads: each.start()
for each in threads: each.join()
print(len(results), len(set(results.values())), all(results[k] == results[k + 3] for k in range(3)))
"""


def test_threads_may_compile_load_and_build_at_once(tmp_path):
    assert _run(tmp_path, code=THREADS) == "6 3 True\n"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_who_is_stopped_while_it_compiles_leaves_no_compiler(tmp_path, sent):
    code = "from features import native; native.addresses(tuple(native.KERNELS))"
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env=_environment(tmp_path), stderr=subprocess.DEVNULL
    )
    compilers: list[psutil.Process] = []
    while len(compilers) < 2 or not any(tmp_path.glob("*.o")):
        assert parent.poll() is None
        compilers = psutil.Process(parent.pid).children()
        time.sleep(0.02)
    parent.send_signal(sent)
    parent.wait(60)
    assert psutil.wait_procs(compilers, timeout=5)[1] == []


def test_a_compiler_that_is_killed_is_an_error_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(native, "_is_loaded", lambda name: False)
    monkeypatch.setattr(native, "child_environment", lambda **more: _environment(tmp_path))
    monkeypatch.setattr(sys, "executable", _program(tmp_path, "kill -9 $$"))
    with pytest.raises(ArtifactError, match=r"ended by signal 9, .* start again"):
        native.addresses(("add", "lowest"))


def _program(folder, command) -> str:
    file = folder / "python"
    file.write_text(f"#!/bin/sh\n{command}\n")
    file.chmod(0o755)
    return str(file)
