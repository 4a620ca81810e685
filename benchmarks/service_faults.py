"""The service under faults, at full size: `python -m benchmarks.service_faults`.

10,000 fuzzed requests (raw bytes, and cases made from the OpenAPI document), 300 stalled bodies with 300
stalled readers, 100 hot swaps under load. The tests run the same drills, smaller. Exits 1 when one fails.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from tests.serving.drills import Load, fuzz, later_bars, percentile, stall
from tests.serving.kit import FakeRegistry, Service, eventually, make_bars, make_bundle
from tests.serving.openapi_fuzz import fuzz_document

RAW, PER_OPERATION, SWAPS = 9_600, 30, 100
Drill = Callable[[Path, pd.DataFrame], bool]


def fuzzed(home: Path, bars: pd.DataFrame) -> bool:
    service = Service(home, bundle=make_bundle(home / "sp500-1d", bars))
    try:
        fuzz(service, 200, seed=1)
        raw = fuzz(service, RAW)
        statuses, faults = fuzz_document(service, PER_OPERATION)
    finally:
        service.stop()
    both = raw.statuses + statuses
    print(
        f"fuzz: {both.total()} requests, statuses {dict(sorted(both.items()))}, {raw.grown_mb:.1f} MiB grown"
    )
    for fault in [*raw.faults, *faults][:5]:
        print("  fault:", fault)
    traceback = "Traceback" in service.stderr.read_text()
    return not raw.faults and not faults and not traceback and raw.grown_mb < 50


def stalled(home: Path, bars: pd.DataFrame) -> bool:
    service = Service(home, bundle=make_bundle(home / "sp500-1d", bars))
    try:
        stalls = stall(service, bodies=300, readers=300, heads=100)
    finally:
        service.stop()
    p99, last = percentile(stalls.health, 0.99), max(stalls.cut)
    p50 = percentile(stalls.health, 0.5)
    print(f"stalls: health p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, last peer cut after {last:.1f} s")
    return p99 < 0.1 and last < 10 and set(stalls.statuses) == {200}


def swapped(home: Path, bars: pd.DataFrame) -> bool:
    registry = FakeRegistry(home / "mlflow" / "mlflow.db")
    for version in (1, 2, 3):
        directory = make_bundle(home / f"bundle{version}", bars, bias=version / 10, version=str(version))
        registry.add(version, directory)
    registry.alias(1)
    service = Service(home, BELLWETHER_POLL_SECONDS="0.02")
    load = Load(service, later_bars(bars.iloc[601:]), pause=0.0005)
    started = time.perf_counter()
    try:
        with load.running():
            reached = [_swap(registry, load, str(number % 3 + 1)) for number in range(1, SWAPS + 1)]
    finally:
        service.stop()
    mixed = sum(len(versions) != 1 for _, _, versions in load.answers)
    print(
        f"swaps: {sum(reached)} of {SWAPS} in {time.perf_counter() - started:.1f} s, {len(load.answers)} "
        f"requests answered, {len(load.failures)} failed, {mixed} of mixed versions"
    )
    return all(reached) and not load.failures and not mixed


def _swap(registry: FakeRegistry, load: Load, version: str) -> bool:
    registry.alias(int(version))
    return eventually(lambda: bool(load.answers) and load.answers[-1][2] == {version})


def main() -> int:
    """Run every drill; 1 when one fails."""
    failed = []
    drills: list[Drill] = [fuzzed, stalled, swapped]
    for drill in drills:
        with tempfile.TemporaryDirectory() as home:
            if not drill(Path(home), make_bars()):
                failed.append(drill.__name__)
    print("failed: " + ", ".join(failed) if failed else "all drills passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
