"""The service against a bare ASGI echo and FastAPI with pydantic, as ratios taken in one run.

    python benchmarks/serving.py [--bundle DIR] [--rounds 5] [--requests 2000]

Each server is a process of its own on loopback, with uvicorn, uvloop and httptools, one worker, and the same
access log. They take turns, round by round; every request has other rows. The FastAPI peer calls the same
data plane, so the ratio to it is of the protocol alone. Latencies are of this machine and this moment.
"""

import argparse
import asyncio
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvloop

from core.settings import child_environment, disable_telemetry

ROOT = Path(__file__).resolve().parent.parent
ECHO, OURS, FASTAPI = "echo", "bellwether", "fastapi"
WARM_BARS = 400
DAY = 86_400
START = 1_600_000_000
JSON = "content-type: application/json\r\n"


def serve(kind: str, bundle: Path) -> None:
    """Be one of the servers until SIGTERM; prints its port."""
    from benchmarks import serving_peers

    disable_telemetry()
    {ECHO: serving_peers.echo, OURS: serving_peers.ours, FASTAPI: serving_peers.fastapi}[kind](bundle)


@contextmanager
def server(kind: str, bundle: Path, home: Path) -> Iterator[int]:
    """One of the servers in a process of its own; its port."""
    command = [sys.executable, "-m", "benchmarks.serving", "--serve", kind, "--bundle", str(bundle)]
    environment = child_environment(BELLWETHER_HOME=str(home / kind), BELLWETHER_LOG_LEVEL="ERROR")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)


class Client(asyncio.Protocol):
    """One connection that sends its requests in turn, the next once the answer before it is whole."""

    def __init__(self, requests: Sequence[bytes], done: "asyncio.Future[None]") -> None:
        self._requests, self._done = iter(requests), done
        self._buffer, self._wanted = b"", -1
        self.seconds: list[float] = []

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._next()

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            self._done.set_result(None)
            return
        self._since = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._wanted < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end].lower()
            if not head.startswith(b"http/1.1 200"):
                self._done.set_exception(RuntimeError(self._buffer[:600].decode("utf-8", "replace")))
                self._transport.close()
                return
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            self._wanted = end + 4 + length
        if len(self._buffer) >= self._wanted:
            self.seconds.append(time.perf_counter() - self._since)
            self._buffer, self._wanted = b"", -1
            self._next()


async def send(port: int, lanes: Sequence[Sequence[bytes]]) -> tuple[float, list[float]]:
    """Requests per second over one connection per lane, and the seconds that each request took."""
    loop = asyncio.get_running_loop()
    done = [loop.create_future() for _ in lanes]
    started = time.perf_counter()
    clients = [
        (await loop.create_connection(lambda lane=lane, end=end: Client(lane, end), "127.0.0.1", port))[1]  # type: ignore[misc]
        for lane, end in zip(lanes, done, strict=True)
    ]
    await asyncio.gather(*done)
    elapsed = time.perf_counter() - started
    seconds = [value for client in clients for value in client.seconds]
    return len(seconds) / elapsed, seconds


def post(path: str, body: bytes, headers: str = "") -> bytes:
    """The bytes of a request."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Workload:
    """Requests of one kind, other rows in each, split over lanes."""

    def __init__(self, name: str, manifest: Any) -> None:
        self.name, self._manifest = name, manifest
        self._random = np.random.default_rng(1)
        self._clocks: dict[str, int] = {}
        self._prices: dict[str, float] = {}

    def lanes(self, count: int, concurrency: int, run: str) -> list[list[bytes]]:
        """About `count` requests; `run` names the symbols, whose bars never repeat."""
        each = max(1, count // concurrency)
        if self.name == "bars":
            return [[self._bar(f"{run}-{lane}") for _ in range(each)] for lane in range(concurrency)]
        make = self._binary if self.name == "infer binary" else self._json
        return [[make() for _ in range(each)] for _ in range(concurrency)]

    def warm_up(self, concurrency: int, run: str) -> list[bytes]:
        """What a server must get before `lanes`: the bars that warm the symbols up."""
        if self.name != "bars":
            return []
        bodies = [[self._bar_body(f"{run}-{lane}") for _ in range(WARM_BARS)] for lane in range(concurrency)]
        return [post("/v1/bars", msgspec.json.encode({"bars": body}), JSON) for body in bodies]

    def _window(self) -> np.ndarray:
        shape = (1, self._manifest.window, len(self._manifest.features))
        return self._random.standard_normal(shape, dtype=np.float32)

    def _head(self, **more: Any) -> bytes:
        shape = [1, self._manifest.window, len(self._manifest.features)]
        tensor = {"name": "features", "shape": shape, "datatype": "FP32", **more}
        return msgspec.json.encode({"inputs": [tensor]})

    def _binary(self) -> bytes:
        data = self._window().tobytes()
        head = self._head(parameters={"binary_data_size": len(data)})
        header = f"inference-header-content-length: {len(head)}\r\n"
        return post(f"/v2/models/{self._manifest.model}/infer", head + data, header)

    def _json(self) -> bytes:
        body = self._head(data=self._window().ravel().tolist())
        return post(f"/v2/models/{self._manifest.model}/infer", body, JSON)

    def _bar(self, symbol: str) -> bytes:
        body = msgspec.json.encode(self._bar_body(symbol))
        return post("/v1/bars", body, JSON)

    def _bar_body(self, symbol: str) -> dict[str, Any]:
        number = self._clocks[symbol] = self._clocks.get(symbol, 0) + 1
        opened = self._prices.get(symbol, 100.0)
        close = self._prices[symbol] = opened * (1 + random.gauss(0, 0.01))
        high, low = max(opened, close) * 1.002, min(opened, close) * 0.998
        prices = {
            "open": opened,
            "high": high,
            "low": low,
            "close": close,
            "volume": random.uniform(1e6, 2e6),
        }
        return {"symbol": symbol, "timestamp": START + number * DAY, **prices}


def measure(
    ports: dict[str, int], workload: Workload, concurrency: int, requests: int, rounds: int
) -> dict[str, tuple[float, list[float]]]:
    """Median requests per second and all latencies of each server; the servers take turns."""
    rates: dict[str, list[float]] = {kind: [] for kind in ports}
    latencies: dict[str, list[float]] = {kind: [] for kind in ports}
    for number in range(rounds + 1):
        run = f"c{concurrency}r{number}"
        lanes = workload.lanes(requests, concurrency, run) if workload.name != "bars" else None
        for kind, port in ports.items():
            warm_up = workload.warm_up(concurrency, f"{kind}-{run}")
            if warm_up and kind != ECHO:
                uvloop.run(send(port, [warm_up]))
            own = lanes or workload.lanes(requests, concurrency, f"{kind}-{run}")
            rate, seconds = uvloop.run(send(port, own))
            if number:
                rates[kind].append(rate)
                latencies[kind] += seconds
    return {kind: (statistics.median(rates[kind]), latencies[kind]) for kind in ports}


def show(name: str, concurrency: int, found: dict[str, tuple[float, list[float]]]) -> None:
    """One line per server."""
    echo, ours = found[ECHO][0], found[OURS][0]
    for kind, (rate, seconds) in found.items():
        p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
        print(
            f"{name:13s} {concurrency:3d}  {kind:11s} {rate:8.0f} /s  {rate / echo:6.1%} of echo  "
            f"ours {ours / rate:5.2f}x  p50 {p50:6.3f} ms  p99 {p99:6.3f} ms",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--bundle", type=Path, default=ROOT / "data" / "store" / "bundle")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--serve", choices=(ECHO, OURS, FASTAPI), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.bundle)
        return
    from core.bundle import load_manifest

    manifest = load_manifest(arguments.bundle)
    with tempfile.TemporaryDirectory() as home, ExitStack() as stack:
        kinds = (ECHO, OURS, FASTAPI)
        ports = {k: stack.enter_context(server(k, arguments.bundle, Path(home))) for k in kinds}
        for name in ("infer binary", "infer json", "bars"):
            taking_part = {k: p for k, p in ports.items() if k != FASTAPI or name != "infer binary"}
            for concurrency in (1, 32):
                workload = Workload(name, manifest)
                found = measure(taking_part, workload, concurrency, arguments.requests, arguments.rounds)
                show(name, concurrency, found)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
