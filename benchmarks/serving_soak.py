"""Whether the service stays the size it is: `python -m benchmarks.serving_soak --minutes 10`.

Bars of several symbols, tensors as JSON and as bytes, signals, features, metrics, a WebSocket subscriber,
broken requests, connections that end and come again, and a hot swap between two versions of the bundle every
30 seconds, at a moderate rate. A first fifth warms up. From then on the resident memory is sampled every
second: the line fitted to it must not rise by more than 5 MB over the rest, however long that is. Threads and
descriptors are counted when nobody is connected, after the warm-up and at the end: neither may have grown.
Every answer must have the status that it should. Exits 1 when something is missed.
"""

import argparse
import asyncio
import contextlib
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import msgspec
import numpy as np
import psutil
from websockets.asyncio.client import connect

from benchmarks.figure import Figure, document, show
from benchmarks.serving_load import Bars, Windows, infer_binary, infer_json, post, windows
from core.bundle import Manifest, Registration, load_manifest, write_registration
from core.settings import disable_telemetry
from tests.serving.kit import FakeRegistry, Service

ROOT = Path(__file__).resolve().parent.parent
MEGABYTES, WARM_SHARE = 5.0, 0.2
SYMBOLS = ("sp500", "eurusd", "BTC/USD", "gold")
# requests after which a lane connects anew
KEPT = 200


# --- judging ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """The process at one moment: seconds since the warm-up, resident 10^6 bytes, threads, descriptors."""

    seconds: float
    megabytes: float
    threads: int
    descriptors: int


def growth(samples: Sequence[Sample]) -> float:
    """MB by which the least-squares line through resident memory rises from the first sample to the last."""
    seconds = np.array([sample.seconds for sample in samples])
    megabytes = np.array([sample.megabytes for sample in samples])
    return float(np.polyfit(seconds - seconds.mean(), megabytes, 1)[0] * np.ptp(seconds))


def judge(samples: Sequence[Sample], before: Sample, after: Sample) -> Iterator[Figure]:
    """Figures of samples under load, and of two moments without any, before and after them."""
    megabytes = [sample.megabytes for sample in samples]
    yield Figure("soak", "under load after the warm-up", samples[-1].seconds - samples[0].seconds, "s")
    yield Figure("soak", "resident memory, median", float(np.median(megabytes)), "MB")
    yield Figure("soak", "resident memory, most", max(megabytes), "MB", "<= 200")
    yield Figure("soak", "resident memory, rise of its line", growth(samples), "MB", f"<= {MEGABYTES:g}")
    yield Figure("soak", "threads, after the warm-up", before.threads)
    yield Figure("soak", "threads, more at the end", after.threads - before.threads, "", "<= 0")
    yield Figure("soak", "descriptors, after the warm-up", before.descriptors)
    yield Figure("soak", "descriptors, more at the end", after.descriptors - before.descriptors, "", "<= 0")


# --- load ---------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """What was answered: statuses, those that should have been others, streamed signals, swaps that came."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    streamed: int = 0
    swaps: int = 0
    swapped: int = 0

    def figures(self) -> Iterator[Figure]:
        """Figures of the answers."""
        yield Figure("soak", "requests answered", self.statuses.total())
        yield Figure("soak", "of them refused as they should be", self.statuses.total() - self.statuses[200])
        yield Figure("soak", "answers that should have been others", len(self.wrong), "", "<= 0")
        yield Figure("soak", "signals that the subscriber got", self.streamed, "", ">= 1")
        yield Figure("soak", "hot swaps asked for", self.swaps, "", ">= 1")
        yield Figure("soak", "hot swaps that came", self.swapped, "", f">= {self.swaps}")


def get(path: str) -> bytes:
    """The bytes of a GET."""
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


class Traffic:
    """Lanes of requests to one service, for as long as is told; the bars go on where they ended."""

    def __init__(self, service: Service, manifest: Manifest, registry: FakeRegistry, versions: int) -> None:
        self.load = Load()
        self._service, self._registry = service, registry
        self._model = manifest.model
        self._windows = list(windows(manifest, 100))
        self._random, self._bars = random.Random(2), Bars()
        self._versions = (str(number % versions + 1) for number in count(1))

    async def run(self, seconds: float, rate: float, swap_seconds: float) -> None:
        """Send about `rate` requests a second for `seconds`, then hang up."""
        stopped = asyncio.Event()
        lanes = self._lanes()
        pause = len(lanes) / rate
        tasks = [asyncio.create_task(self._lane(make, pause, stopped)) for make in lanes]
        tasks += [
            asyncio.create_task(self._subscribe(stopped)),
            asyncio.create_task(self._swap(swap_seconds, stopped)),
        ]
        await asyncio.sleep(seconds)
        stopped.set()
        await asyncio.gather(*tasks)

    def _lanes(self) -> list[Callable[[], tuple[bytes, int]]]:
        def some_window() -> Windows:
            return self._random.choice(self._windows)

        def bars(symbol: str) -> Callable[[], tuple[bytes, int]]:
            return lambda: (post("/v1/bars", msgspec.json.encode(self._bars.bar(symbol))), 200)

        return [
            *(bars(symbol) for symbol in SYMBOLS[1:]),
            lambda: (infer_json(self._model, some_window()), 200),
            lambda: (infer_binary(self._model, some_window()), 200),
            lambda: (get(f"/v1/signal/{SYMBOLS[0]}"), 200),
            lambda: (get(f"/v1/features/{SYMBOLS[0]}"), 200),
            lambda: (get("/metrics"), 200),
            lambda: self._random.choice(self._broken()),
        ]

    def _broken(self) -> list[tuple[bytes, int]]:
        bar = self._bars.bar("broken")
        return [
            (post("/v1/bars", b'{"symbol":'), 400),
            (post("/v1/bars", msgspec.json.encode({**bar, "close": "1"})), 400),
            (post("/v1/bars", msgspec.json.encode({**bar, "high": 0.0})), 422),
            (post(f"/v2/models/{self._model}/infer", b'{"inputs":[]}'), 400),
            (post("/invocations", b"{}"), 400),
            (get("/v2/models/nobody"), 404),
            (get(f"/v1/signal/nobody-{self._random.random()}"), 404),
            (get(f"/nothing/{self._random.random()}"), 404),
            (post("/v2/health/live", b""), 405),
        ]

    async def _lane(
        self, make: Callable[[], tuple[bytes, int]], pause: float, stopped: asyncio.Event
    ) -> None:
        host, port = self._service.address.split(":")
        while not stopped.is_set():
            reader, writer = await asyncio.open_connection(host, int(port))
            for _ in range(KEPT):
                request, wanted = make()
                writer.write(request)
                status, body, last = await _answer(reader)
                self.load.statuses[status] += 1
                if status != wanted:
                    self.load.wrong.append(f"{wanted} wanted: {status} {body[:200]!r} to {request[:200]!r}")
                await asyncio.sleep(pause)
                if last or stopped.is_set():
                    break
            await _hang_up(writer)

    async def _subscribe(self, stopped: asyncio.Event) -> None:
        while not stopped.is_set():
            async with connect(f"ws://{self._service.address}/v1/stream?subscribe=*") as stream:
                for _ in range(KEPT):
                    if stopped.is_set():
                        break
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.5):
                            await stream.recv()
                            self.load.streamed += 1

    async def _swap(self, every: float, stopped: asyncio.Event) -> None:
        host, port = self._service.address.split(":")
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), every)
            if stopped.is_set():
                return
            version = next(self._versions)
            self._registry.alias(int(version), model=self._model)
            self.load.swaps += 1
            for _ in range(100):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(get(f"/v2/models/{self._model}"))
                _, body, _ = await _answer(reader)
                await _hang_up(writer)
                if msgspec.json.decode(body)["versions"] == [version]:
                    self.load.swapped += 1
                    break
                await asyncio.sleep(0.1)


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    """Status, body, and whether the server hangs up after it."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    return int(head[9:12]), await reader.readexactly(length), b"connection: close" in head


# --- the soak -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """Seconds under load, warm-up included; requests a second; seconds between swaps, and without load."""

    seconds: float
    rate: float = 200.0
    swap_seconds: float = 30.0
    quiet_seconds: float = 3.0


def soak(bundles: Sequence[Path], home: Path, plan: Plan) -> list[Figure]:
    """Serve registered bundles, versions 1, 2, …, from a registry in `home` as planned; the figures."""
    manifest = load_manifest(bundles[0])
    registry = FakeRegistry(home / "mlflow" / "mlflow.db")
    for version, bundle in enumerate(bundles, 1):
        registry.add(version, bundle, model=manifest.model)
    registry.alias(1, model=manifest.model)
    service = Service(home, BELLWETHER_POLL_SECONDS="0.5", BELLWETHER_LOG_LEVEL="ERROR")
    try:
        traffic = Traffic(service, manifest, registry, len(bundles))
        return asyncio.run(_soak(traffic, psutil.Process(service.process.pid), plan))
    finally:
        service.stop()


async def _soak(traffic: Traffic, process: psutil.Process, plan: Plan) -> list[Figure]:
    warm = plan.seconds * WARM_SHARE
    await traffic.run(warm, plan.rate, min(plan.swap_seconds, warm / 2))
    before = await _quiet(process, plan.quiet_seconds)
    loading = asyncio.create_task(traffic.run(plan.seconds - warm, plan.rate, plan.swap_seconds))
    started, samples = asyncio.get_running_loop().time(), list[Sample]()
    while not loading.done():
        samples.append(_sample(process, asyncio.get_running_loop().time() - started))
        await asyncio.wait([loading], timeout=1.0)
    await loading
    after = await _quiet(process, plan.quiet_seconds)
    for told in traffic.load.wrong[:5]:
        print("wrong:", told, file=sys.stderr)
    return [*judge(samples, before, after), *traffic.load.figures()]


def _sample(process: psutil.Process, seconds: float) -> Sample:
    with process.oneshot():
        megabytes = process.memory_info().rss / 1e6
        return Sample(seconds, megabytes, process.num_threads(), process.num_fds())


async def _quiet(process: psutil.Process, seconds: float) -> Sample:
    """The fewest threads and descriptors while nobody is connected: a look at the registry opens some."""
    found = []
    for _ in range(int(seconds / 0.05)):
        await asyncio.sleep(0.05)
        found.append(_sample(process, 0.0))
    last = found[-1]
    return Sample(
        0.0, last.megabytes, min(one.threads for one in found), min(one.descriptors for one in found)
    )


def register(bundle: Path, folder: Path, versions: int) -> list[Path]:
    """Copies of a bundle, registered as version 1, 2, …"""
    model = load_manifest(bundle).model
    copies = []
    for version in range(1, versions + 1):
        copies.append(shutil.copytree(bundle, folder / f"version{version}"))
        registration = Registration(
            model=model, version=str(version), run_id="soak", commit="", dirty=False, dvc_lock_sha256="",
            registered_at="2000-01-01T00:00:00+00:00", trials=1, tradable=True, reasons=[],
        )  # fmt: skip
        write_registration(copies[-1], registration)
    return copies


def main() -> int:
    """Print the table, or one JSON document; 1 when something is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving_soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second")
    parser.add_argument("--bundle", type=Path, default=ROOT / "data" / "store" / "bundle")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    given = parser.parse_args()
    disable_telemetry()
    with tempfile.TemporaryDirectory(prefix="bellwether-soak-") as home:
        bundles = register(given.bundle, Path(home) / "bundles", 2)
        found = soak(bundles, Path(home) / "home", Plan(given.minutes * 60, given.rate))
    if given.json:
        print(document(found))
    else:
        for figure in found:
            show(figure)
    return 1 if any(figure.met is False for figure in found) else 0


if __name__ == "__main__":
    sys.exit(main())
