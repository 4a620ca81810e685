"""python -m benchmarks.honesty: does the gate keep quiet on noise, speak up for an edge, and see leaks?

A killed study goes on where it was when started again, unless the code or the parameters changed.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.honesty import page, study
from benchmarks.honesty.pipeline import ROOT


def main() -> None:
    """Conduct the study and write docs/honesty.md and docs/honesty.svg."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.honesty", description=__doc__)
    parser.add_argument("--noise", type=int, default=200, help="data sets of each kind of noise")
    parser.add_argument("--edges", type=int, default=60, help="data sets of each size of edge")
    parser.add_argument("--processes", type=int, default=study.PROCESSES)
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of the page")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        study.serve(given.worker)
        return
    tasks = study.plan(given.noise, given.edges)
    lines = study.conduct(tasks, study.results_path(), processes=given.processes, tell=_tell)
    page.write(given.out, list(lines.values()))
    failed = page.shortfalls(list(lines.values()))
    _tell("\n".join(failed) or "every target is met")
    sys.exit(1 if failed else 0)


def _tell(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
