"""What goes wrong around a running service, in any amount: a few in the tests, many in the benchmarks."""

import asyncio
import contextlib
import http.client
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import pandas as pd
import psutil

from tests.serving.kit import Service, as_body


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def get(service: Service, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(service.address, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def memory_mb(service: Service) -> float:
    return float(psutil.Process(service.process.pid).memory_info().rss) / 2**20


def open_files(service: Service) -> int:
    return int(psutil.Process(service.process.pid).num_fds())


# --- stalling -----------------------------------------------------------------------------------------------


@dataclass
class Stalls:
    """`cut` seconds until each stalled peer was gone, `health` seconds of each probe meanwhile."""

    cut: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)


HEADS = b"POST /v1/bars HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n"
PIPELINE = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 60


def stall(service: Service, bodies: int, readers: int, heads: int = 0) -> Stalls:
    """Peers that send half a head, half a body, or never read, while the health is asked for."""
    return asyncio.run(_stall(service, bodies, readers, heads))


async def _stall(service: Service, bodies: int, readers: int, heads: int) -> Stalls:
    stalls = Stalls()
    payloads = [HEADS] * heads + [HEADS + b'\r\n{"symbol"'] * bodies + [PIPELINE] * readers
    prober = asyncio.create_task(_probe(service, stalls))
    peers = [asyncio.create_task(_peer(service, data, stalls)) for data in payloads]
    await asyncio.gather(*peers)
    prober.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await prober
    return stalls


async def _peer(service: Service, data: bytes, stalls: Stalls) -> None:
    host, port = service.address.split(":")
    loop, bare = asyncio.get_running_loop(), socket.socket()
    bare.setblocking(False)
    bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await loop.sock_connect(bare, (host, int(port)))
    started = time.monotonic()
    try:
        await loop.sock_sendall(bare, data)
        while time.monotonic() - started < 20:
            await asyncio.sleep(0.1)
            # not reading: the state of the connection says whether it was cut
            state = bare.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            if state != 1:
                break
    except OSError:
        pass
    finally:
        bare.close()
    stalls.cut.append(time.monotonic() - started)


async def _probe(service: Service, stalls: Stalls) -> None:
    host, port = service.address.split(":")
    while True:
        started = time.perf_counter()
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
        stalls.health.append(time.perf_counter() - started)
        stalls.statuses[int(answer[9:12])] += 1
        writer.close()
        await asyncio.sleep(0.02)


def later_bars(bars: pd.DataFrame, more: int = 40_000) -> list[dict[str, object]]:
    """Bodies of these bars, then `more` of them a minute apart."""
    row = bars.iloc[-1].to_dict()
    times = pd.date_range(bars.index[-1], periods=more + 1, freq="min", tz="UTC")[1:]
    later = [{"symbol": "sp500", "timestamp": time.isoformat(), **row} for time in times]
    return [*as_body(bars), *later]


# --- load ---------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """Bars sent one after another, each answer's symbol, time and versions kept."""

    service: Service
    bodies: Sequence[dict[str, object]]
    pause: float = 0.002
    answers: list[tuple[str, str, set[str]]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        connection = http.client.HTTPConnection(self.service.address, timeout=10)
        for body in self.bodies:
            if self.stopped.is_set():
                break
            try:
                connection.request("POST", "/v1/bars", msgspec.json.encode({"bars": [body]}))
                response = connection.getresponse()
                data = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                break
            if response.status != 200:
                self.failures.append(data.decode())
                break
            signals = msgspec.json.decode(data)["signals"]
            versions = {s["model_version"] for s in signals}
            self.answers.append((signals[0]["symbol"], signals[0]["bar_time"], versions))
            time.sleep(self.pause)
        connection.close()

    @contextlib.contextmanager
    def running(self) -> Iterator["Load"]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield self
        finally:
            self.stopped.set()
            thread.join()


# --- fuzzing ------------------------------------------------------------------------------------------------

_NUMBERS = [b"NaN", b"-Infinity", b"1e999", b"-0", b"0x1", b"1_0", b"true", b"null", b'"1"', b"9" * 5000]
_NUMBERS += [b"1e-400", b"[1]", b"{}", b"01", b"1.", b".5", b"+1", b"1e309", b"18446744073709551616"]
_BODIES = [
    b"",
    b"\xff\xfe\x00",
    b'{"symbol":"\xc3\x28"}',
    b"[" * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"bars":' * 50_000,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"bars":[],"bars":[]}',
    b'{"bars":[' + b"{}," * 10_000 + b"{}]}",
    b"\x00" * 1000,
    b'"' + b"\\u0000" * 5000 + b'"',
    b"\x1f\x8b\x08\x00" + b"\x00" * 100,
]
_FIELDS = ["symbol", "timestamp", "open", "high", "low", "close", "volume"]
_PATHS = ["/v1/bars", "/v2/models/sp500-1d/infer", "/invocations", "/v2/repository/index", "/nope", "/%ff%00"]
_PATHS += ["/v2/models/%00/infer", "/v2/models/sp500-1d/versions/1/infer", "/v2/../v1/bars", "//"]
_TYPES = ["application/json", "application/octet-stream", "text/csv", "", "application/json; charset=utf-16"]


def _bar(draw: random.Random) -> bytes:
    values = {
        "symbol": b'"sp500"',
        "timestamp": b"1300000000",
        **dict.fromkeys(_FIELDS[2:], b"2.0"),
    }
    for name in draw.sample(_FIELDS, draw.randint(0, 3)):
        values[name] = draw.choice(_NUMBERS)
    pairs = [b'"%s":%s' % (k.encode(), v) for k, v in values.items()]
    if draw.random() < 0.3:
        pairs.append(draw.choice(pairs))
    if draw.random() < 0.2:
        pairs.append(b'"extra":' + draw.choice(_NUMBERS))
    return b"{" + b",".join(pairs) + b"}"


def _tensor(draw: random.Random) -> bytes:
    count = draw.choice([0, 1, 355, 356, 357])
    data = b"[" + b",".join([draw.choice(_NUMBERS) if draw.random() < 0.02 else b"0.5"] * count) + b"]"
    shape = draw.choice(
        [b"[1,4,89]", b"[-1,4,89]", b"[4611686018427387904,4,89]", b"[]", b"[true,4,89]", b'"x"']
    )
    kind = draw.choice([b'"FP32"', b'"FP64"', b'"BYTES"', b"1", b"null"])
    return b'{"inputs":[{"name":"features","shape":%s,"datatype":%s,"data":%s}]}' % (shape, kind, data)


def _body(draw: random.Random) -> bytes:
    kind = draw.randrange(6)
    if kind == 0:
        return draw.choice(_BODIES)
    made = _bar(draw) if kind < 4 else _tensor(draw)
    if kind == 2:
        made = b'{"bars":[' + b",".join([made] * draw.randint(1, 3)) + b"]}"
    if draw.random() < 0.3:
        made = made[: draw.randrange(len(made) + 1)]
    if draw.random() < 0.3:
        changed = bytearray(made or b"x")
        changed[draw.randrange(len(changed))] = draw.randrange(256)
        made = bytes(changed)
    return made


def _request(draw: random.Random) -> bytes:
    body, path = _body(draw), draw.choice(_PATHS).encode()
    method = draw.choice([b"POST"] * 6 + [b"GET", b"PUT", b"OPTIONS", b"HEAD"])
    head = b"%s %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" % (method, path)
    head += b"content-type: %s\r\n" % draw.choice(_TYPES).encode()
    if draw.random() < 0.1:
        size = draw.choice([b"0", b"3", b"9" * 5000, b"-1", b"abc", b"18446744073709551615"])
        head += b"inference-header-content-length: %s\r\n" % size
    if draw.random() < 0.1:
        head += b"content-encoding: %s\r\n" % draw.choice([b"gzip", b"deflate", b"br", b"x"])
    way = draw.random()
    if way < 0.2:
        chunks = [body[i : i + 7000] for i in range(0, len(body), 7000)]
        sent = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks)
        return (
            head + b"transfer-encoding: chunked\r\n\r\n" + sent + (b"0\r\n\r\n" if way < 0.17 else b"zz\r\n")
        )
    if way < 0.25:
        wrong = draw.choice([b"-1", b"9" * 30, b"x", b"3, 4"])
        return head + b"content-length: %s\r\n\r\n" % wrong + body
    if way < 0.28:
        return bytes(draw.randrange(256) for _ in range(200))
    if way < 0.33:
        return head + b"content-length: %d\r\n\r\n" % (len(body) + 10) + body + TRUNCATED
    if way < 0.35:
        return head + b"x: " + b"y" * 100_000 + b"\r\n\r\n"
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


# The client ends here, in the middle of its body.
TRUNCATED = b"<truncated>"
LARGE = b"POST /v1/bars HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"


def large_requests() -> list[bytes]:
    """20 MB, declared and chunked."""
    body = b" " * 20_000_000
    chunk = b"%x\r\n" % 1_000_000 + b" " * 1_000_000 + b"\r\n"
    declared = LARGE + b"content-length: %d\r\n\r\n" % len(body) + body
    return [declared, LARGE + b"transfer-encoding: chunked\r\n\r\n" + chunk * 20 + b"0\r\n\r\n"]


@dataclass
class Fuzzed:
    statuses: Counter[int]
    faults: list[tuple[bytes, bytes]]
    grown_mb: float


def fuzz(service: Service, count: int, seed: int = 0) -> Fuzzed:
    """Raw requests of every broken kind; what was answered 5xx or with a traceback, and what memory grew."""
    draw, statuses, faults = random.Random(seed), Counter[int](), list[tuple[bytes, bytes]]()
    before = memory_mb(service)
    requests = [*large_requests(), *(_request(draw) for _ in range(count))]
    for data in requests:
        answer = send_raw(service, data)
        status = int(answer[9:12]) if answer[9:12].isdigit() else 0
        statuses[status] += 1
        if status >= 500 or b"Traceback" in answer:
            faults.append((data[:500], answer[:500]))
    return Fuzzed(statuses, faults, memory_mb(service) - before)


def send_raw(service: Service, data: bytes) -> bytes:
    """What comes back for these bytes; a connection cut is an empty answer."""
    host, port = service.address.split(":")
    answer, ends = b"", data.endswith(TRUNCATED)
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host, int(port)), timeout=2) as bare,
    ):
        # an answer may come, and the connection end, before all was sent
        with contextlib.suppress(OSError):
            bare.sendall(data.removesuffix(TRUNCATED))
            if ends:
                bare.shutdown(socket.SHUT_WR)
        while part := bare.recv(65536):
            answer += part
    return answer
