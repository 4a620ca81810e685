"""The study's tasks, done by processes of their own; each result is one line of a file that a rerun reads.

Where the results are kept is named by a digest of all that decides them: parameters, worlds, and the source
of every package involved. Other code, another file.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.honesty import worlds
from benchmarks.honesty.pipeline import ROOT, light_params, run
from benchmarks.honesty.worlds import Edge
from core.files import canonical_json, sha256_bytes, write_text
from core.settings import child_environment, disable_telemetry

SEED = 20261121
BARS = 5000
NOISE = ("random_walk", "garch")
EDGES = {"small": Edge(0.08, 0.7), "middle": Edge(0.13, 0.7), "large": Edge(0.185, 0.7)}
LEAKS = 10
PROCESSES = 2
_PACKAGES = ("benchmarks/honesty", "core", "data", "evaluation", "features", "models", "pipelines", "trading")
# they shape the page, not the results
_NOT_RESULTS = ("page.py", "__main__.py")
Line = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One data set of a group, or one leak; `number` draws it."""

    group: str
    number: int


def plan(noise: int = 200, edges: int = 60) -> list[Task]:
    """Every leak, `noise` data sets of each kind of noise, and `edges` of each size."""
    sizes = {"leak": LEAKS, **dict.fromkeys(NOISE, noise), **dict.fromkeys(EDGES, edges)}
    return [Task(group, number) for group, size in sizes.items() for number in range(size)]


def perform(task: Task, root: Path) -> Line:
    """The line of one task: of a leak the table's, else the gate's verdict on the data set."""
    if task.group == "leak":
        from benchmarks.honesty.leaks import LEAKS as KINDS
        from benchmarks.honesty.leaks import examine

        return asdict(task) | examine(KINDS[task.number])
    groups = (*NOISE, *EDGES)
    rng = np.random.default_rng([SEED, groups.index(task.group), task.number])
    if task.group in EDGES:
        returns = worlds.drifting(rng, BARS, EDGES[task.group])
    else:
        returns = (worlds.random_walk if task.group == "random_walk" else worlds.garch)(rng, BARS)
    return asdict(task) | run(root, returns, rng, light_params())


def digest() -> str:
    """SHA-256 of everything that decides the results."""
    sources = {
        path.relative_to(ROOT).as_posix(): sha256_bytes(path.read_bytes())
        for package in _PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.name not in _NOT_RESULTS
    }
    return sha256_bytes(canonical_json([light_params().model_dump(mode="json"), sources]).encode())


def results_path() -> Path:
    """Where results of this code are kept."""
    return ROOT / "var" / "honesty" / f"{digest()[:16]}.jsonl"


def read(path: Path) -> dict[Task, Line]:
    """The whole lines of a results file; a line cut by a kill is not one."""
    if not path.is_file():
        return {}
    whole = path.read_text(encoding="utf-8").split("\n")[:-1]
    return {Task(line["group"], line["number"]): line for line in map(json.loads, whole)}


def conduct(
    tasks: Sequence[Task], path: Path, *, processes: int = PROCESSES, tell: Callable[[str], None]
) -> dict[Task, Line]:
    """Do what `path` does not hold yet, and return the lines of all tasks."""
    done = read(path)
    write_text(path, "".join(json.dumps(line) + "\n" for line in done.values()))
    missing = [task for task in tasks if task not in done]
    tell(f"{len(tasks) - len(missing)} of {len(tasks)} results in {path}")
    begun, lock, left = time.monotonic(), threading.Lock(), iter(missing)
    finished = 0

    with path.open("a", encoding="utf-8") as file, ThreadPoolExecutor(processes) as pool:

        def work() -> None:
            nonlocal finished
            with _worker() as ask:
                while True:
                    with lock:
                        task = next(left, None)
                    if task is None:
                        return
                    line = ask(task)
                    with lock:
                        done[task] = line
                        _append(file, line)
                        finished += 1
                        rate = (time.monotonic() - begun) / finished
                        minutes = rate * (len(missing) - finished) / 60
                        tell(f"{finished}/{len(missing)} {_word(line)}, {minutes:.1f} minutes left")

        for future in [pool.submit(work) for _ in range(min(processes, len(missing)))]:
            future.result()
    return {task: done[task] for task in tasks}


def _append(file: IO[str], line: Line) -> None:
    file.write(json.dumps(line) + "\n")
    file.flush()
    os.fsync(file.fileno())


def _word(line: Line) -> str:
    if line["group"] == "leak":
        return f"{line['leak']}: {'caught' if line['caught'] else 'MISSED'}"
    outcome = "tradable" if line["tradable"] else "servable" if line["servable"] else "neither"
    return f"{line['group']} {line['number']}: {outcome}"


@contextmanager
def _worker() -> Iterator[Callable[[Task], Line]]:
    """A process with a home of its own that answers tasks line by line; it ends with the block."""
    with tempfile.TemporaryDirectory(prefix="bellwether-honesty-") as home:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.honesty", "--worker", home],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=child_environment(BELLWETHER_HOME=home),
        )
        assert process.stdin is not None
        assert process.stdout is not None
        given, taken = process.stdin, process.stdout

        def ask(task: Task) -> Line:
            given.write(json.dumps(asdict(task)) + "\n")
            given.flush()
            answer = taken.readline()
            if not answer:
                raise RuntimeError(f"the process of {task} ended with code {process.wait()}; see above")
            line: Line = json.loads(answer)
            return line

        try:
            yield ask
        finally:
            given.close()
            process.wait(60)


def serve(home: Path) -> None:
    """Be a worker: a task per line of standard input, its result per line of standard output."""
    disable_telemetry()
    out = sys.stdout
    for text in sys.stdin:
        # stages tell their progress on standard output
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            line = perform(Task(**json.loads(text)), home)
        out.write(json.dumps(line) + "\n")
        out.flush()
