"""What the serving benchmarks send, and the client that sends it, on bare asyncio."""

import asyncio
import itertools
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.bundle import Manifest

Windows = NDArray[np.float32]
JSON = "content-type: application/json\r\n"
# hours of 1900 until this year, of which the service takes none that has not come
FIRST_HOUR, HOUR, MOST_BARS = -2_208_000_000, 3_600, 1_000_000
# bars that warm a symbol up, and the most that all lanes are given per second of a turn
WARM_BARS, BARS_PER_SECOND = 400, 15_000
DISTINCT = 500


# --- the client ---------------------------------------------------------------------------------------------


@dataclass
class Turn:
    """The answers of one server's turn: seconds that each took, and of the whole turn."""

    until: float
    seconds: list[float] = field(default_factory=list)
    elapsed: float = 0.0
    over: bool = False

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.seconds) / self.elapsed


class Lane(asyncio.Protocol):
    """One connection that sends the next request once the answer to the one before it is whole."""

    def __init__(self, requests: Iterator[bytes], turn: Turn, keep: list[bytes] | None = None) -> None:
        self._requests, self._turn, self._keep = requests, turn, keep
        self._head, self._missing = b"", -1
        self._body: list[bytes] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        """Wait for `start`."""
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """A server that hangs up has failed."""
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"the server hung up: {exc}"))

    def start(self) -> None:
        """Send the first request."""
        self._next()

    def _next(self) -> None:
        turn = self._turn
        request = None if turn.over else next(self._requests, None)
        if request is None:
            # a lane without requests ends the turn: no rate is taken of fewer lanes than there should be
            turn.over = True
            self.done.set_result(None)
            self._transport.close()
            return
        self._since = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Some of an answer."""
        if self._missing < 0:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._head[:end].lower()
            if not head.startswith(b"http/1.1 200"):
                self.done.set_exception(RuntimeError(self._head[:600].decode("utf-8", "replace")))
                self._transport.close()
                return
            data = self._head[end + 4 :]
            self._missing = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            self._head = b""
        self._missing -= len(data)
        if self._keep is not None:
            self._body.append(data)
        if self._missing <= 0:
            self._take()

    def _take(self) -> None:
        now = time.perf_counter()
        self._turn.seconds.append(now - self._since)
        self._turn.over = self._turn.over or now >= self._turn.until
        self._missing = -1
        if self._keep is not None:
            self._keep.append(b"".join(self._body))
            self._body = []
        self._next()


async def take_turn(port: int, lanes: Sequence[Iterator[bytes]], seconds: float) -> Turn:
    """Keep one request of each lane at the server until `seconds` are over or a lane has no more."""
    loop = asyncio.get_running_loop()
    turn = Turn(until=float("inf"))
    clients = []
    for lane in lanes:
        _, client = await loop.create_connection(lambda lane=lane: Lane(lane, turn), "127.0.0.1", port)  # type: ignore[misc]
        clients.append(client)
    started = time.perf_counter()
    turn.until = started + seconds
    for client in clients:
        client.start()
    await asyncio.gather(*(client.done for client in clients))
    turn.elapsed = time.perf_counter() - started
    return turn


async def ask(port: int, requests: Sequence[bytes]) -> list[bytes]:
    """The bodies that answer these requests, sent one after another; RuntimeError for any but 200."""
    kept: list[bytes] = []
    turn = Turn(until=float("inf"))
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: Lane(iter(requests), turn, kept), "127.0.0.1", port)
    client.start()
    await client.done
    return kept


# --- what is sent -------------------------------------------------------------------------------------------


def post(path: str, body: bytes, headers: str = JSON) -> bytes:
    """The bytes of a request."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def windows(manifest: Manifest, count: int = DISTINCT) -> Windows:
    """Windows [count, T, F] that differ."""
    shape = (count, manifest.window, len(manifest.features))
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


def _tensor(window: Windows, **more: Any) -> bytes:
    shape = [1, *window.shape]
    return msgspec.json.encode({"inputs": [{"name": "features", "shape": shape, "datatype": "FP32", **more}]})


def infer_json(model: str, window: Windows) -> bytes:
    """One window, Open Inference Protocol, JSON."""
    return post(f"/v2/models/{model}/infer", _tensor(window, data=window.ravel().tolist()))


def infer_binary(model: str, window: Windows) -> bytes:
    """One window, Open Inference Protocol, its numbers as bytes after the JSON."""
    data = window.tobytes()
    head = _tensor(window, parameters={"binary_data_size": len(data)})
    header = f"inference-header-content-length: {len(head)}\r\n"
    return post(f"/v2/models/{model}/infer", head + data, header)


def invocation(window: Windows) -> bytes:
    """One window, as MLflow's scoring takes a tensor."""
    return post("/invocations", msgspec.json.encode({"inputs": [window.tolist()]}))


class Bars:
    """Endless bars of symbols of their own for each server, an hour apart, never one twice."""

    def __init__(self) -> None:
        self._random = random.Random(1)
        self._made: dict[str, int] = {}
        self._price: dict[str, float] = {}
        self._unsent: dict[str, deque[bytes]] = {}

    def bar(self, symbol: str) -> dict[str, Any]:
        """The symbol's next bar."""
        number = self._made[symbol] = self._made.get(symbol, 0) + 1
        opened = self._price.get(symbol, 100.0)
        close = self._price[symbol] = max(1.0, opened * (1 + self._random.gauss(0, 0.01)))
        high, low = max(opened, close) * 1.002, min(opened, close) * 0.998
        prices = {"open": opened, "high": high, "low": low, "close": close}
        volume = self._random.uniform(1e6, 2e6)
        return {"symbol": symbol, "timestamp": FIRST_HOUR + number * HOUR, **prices, "volume": volume}

    def made(self, symbol: str) -> int:
        """Bars of the symbol so far, sent or not."""
        return self._made.get(symbol, 0)

    def warm_up(self, symbol: str) -> bytes:
        """One request of as many bars as a symbol needs before it has a signal."""
        return post("/v1/bars", msgspec.json.encode({"bars": [self.bar(symbol) for _ in range(WARM_BARS)]}))

    def lane(self, symbol: str, count: int) -> Iterator[bytes]:
        """Requests of one bar each, `count` of them made beforehand; those left over come first next time."""
        queue = self._unsent.setdefault(symbol, deque())
        queue.extend(
            post("/v1/bars", msgspec.json.encode(self.bar(symbol))) for _ in range(count - len(queue))
        )
        return _drained(queue)


def _drained(queue: deque[bytes]) -> Iterator[bytes]:
    while queue:
        yield queue.popleft()


def in_lanes(requests: Sequence[bytes], concurrency: int) -> list[Iterator[bytes]]:
    """The requests dealt to lanes, over and over."""
    return [itertools.cycle(requests[lane::concurrency]) for lane in range(concurrency)]
