"""Machine code: found, compiled, damaged, out of place."""

import subprocess
import sys

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


def _run(place, **more) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BARS],
        env={"NUMBA_CACHE_DIR": str(place), "PATH": "/usr/bin", "PYTHONPATH": ".", **more},
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
    assert len(written) == 5  # run, mean, log, sin, sub and no other
    assert said.endswith("False\n")
    assert _run(folder) == said
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == written


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
