"""WebSocket /v1/stream against a live service, by another program's client."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect

from core.signal import Signal
from serving.guard import Guard
from serving.http import Limits, Request
from serving.plane import Plane
from serving.protocols.stream import Streams, handshake
from serving.subscription import Subscription
from tests.serving.kit import ROOT, Service, as_body

TOKEN = "correct-horse-battery"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
Talk = Callable[[ClientConnection], Awaitable[Any]]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("stream"), bundle=bundle, BELLWETHER_TOKEN=TOKEN)
    yield service
    service.stop()


def _talk(service: Service, talk: Talk, query: str = "", **options: Any) -> Any:
    async def inside() -> Any:
        options.setdefault("additional_headers", HEADERS)
        url = f"ws://{service.address}/v1/stream{query}"
        async with asyncio.timeout(15), connect(url, max_size=None, **options) as stream:
            return await talk(stream)

    return asyncio.run(inside())


async def _ask(stream: ClientConnection, message: Any) -> Any:
    await stream.send(message if isinstance(message, str | bytes) else json.dumps(message))
    return json.loads(await stream.recv())


def test_bars_in_signals_out_in_order(live: Service, bars: pd.DataFrame) -> None:
    bodies = as_body(bars.iloc[601:606], "sp500")

    async def talk(stream: ClientConnection) -> list[Any]:
        for body in bodies[:3]:
            await stream.send(json.dumps(body))
        await stream.send(json.dumps({"bars": bodies[3:]}).encode())
        return [json.loads(await stream.recv()) for _ in range(4)]

    *single, many = _talk(live, talk)
    times = [answer["bar_time"] for answer in [*single, *many["signals"]]]
    assert times == [time.isoformat() for time in bars.index[601:606]]
    assert all(0 < answer["probability"] < 1 for answer in single)


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("", 400),
        ("[", 400),
        (b"\xff\xfe", 400),
        ('{"symbol":NaN}', 400),
        ("[" * 100_000, 400),
        ({"bars": []}, 400),
        ({"subscribe": "sp500"}, 400),
        ({"subscribe": ["x"] * 2000}, 400),
        ({"subscribe": [""]}, 400),
        ({"subscribe": ["a"], "x": 1}, 400),
        (
            {
                "symbol": "subscribe",
                "timestamp": 1.0,
                "open": 1,
                "high": 1,
                "low": 1,
                "close": 0,
                "volume": 1,
            },
            422,
        ),
    ],
)
def test_a_bad_message_is_answered_and_the_stream_goes_on(live: Service, message: Any, status: int) -> None:
    async def talk(stream: ClientConnection) -> Any:
        refused = await _ask(stream, message)
        return refused, await _ask(stream, {"subscribe": ["a"]})

    refused, after = _talk(live, talk)
    assert (refused["status"], bool(refused["error"])) == (status, True)
    assert after == {"event": "subscribed", "symbols": ["a"]}


def test_a_reader_gets_what_others_send(live: Service, bars: pd.DataFrame) -> None:
    first, *rest = as_body(bars.iloc[:4], "SHARED")
    other = as_body(bars.iloc[:1], "OTHER")[0]

    async def talk(reader: ClientConnection) -> list[Any]:
        heard = [json.loads(await reader.recv())]
        async with connect(f"ws://{live.address}/v1/stream", additional_headers=HEADERS) as writer:
            for body in (other, first, *rest):
                await _ask(writer, body)
        heard += [json.loads(await reader.recv()) for _ in range(4)]
        return [*heard, await _ask(reader, first)]

    ready, *events, refused = _talk(live, talk, "?subscribe=SHARED,Y")
    assert ready == {"event": "subscribed", "symbols": ["SHARED", "Y"]}
    assert [e["signal"]["bar_time"] for e in events] == [time.isoformat() for time in bars.index[:4]]
    assert {(e["event"], e["signal"]["symbol"], e["dropped"]) for e in events} == {("signal", "SHARED", 0)}
    assert "only reads" in refused["error"]


def test_subscriptions_change(live: Service, bars: pd.DataFrame) -> None:
    async def talk(stream: ClientConnection) -> list[Any]:
        await _ask(stream, {"subscribe": ["*", "a"]})
        left = await _ask(stream, {"unsubscribe": ["*"]})
        answer = await _ask(stream, as_body(bars.iloc[:1], "QUIET")[0])
        return [left, answer, await _ask(stream, {"subscribe": []})]

    left, answer, last = _talk(live, talk)
    assert left["symbols"] == last["symbols"] == ["a"]
    assert answer["symbol"] == "QUIET"


@pytest.mark.parametrize(
    ("options", "query", "status"),
    [
        ({"additional_headers": {}}, "", 401),
        ({"additional_headers": {"Authorization": "Bearer wrong"}}, "", 401),
        ({"additional_headers": {}, "subprotocols": ["bearer", "wrong"]}, "", 401),
        ({}, "/other", 404),
        ({}, f"?subscribe={'x' * 33}", 400),
        ({}, "?subscribe=,", 400),
        ({}, "?subscribe=", 400),
    ],
)
def test_a_handshake_is_refused_with_a_reason(live: Service, options: Any, query: str, status: int) -> None:
    with pytest.raises(websockets.InvalidStatus) as caught:
        _talk(live, lambda stream: stream.recv(), query, **options)
    assert caught.value.response.status_code == status
    assert json.loads(caught.value.response.body)["error"]
    assert '"error"' not in live.stderr.read_text(), "a client's mistake is no fault of the service"


def test_a_browser_sends_its_token_as_a_subprotocol(live: Service) -> None:
    async def talk(stream: ClientConnection) -> Any:
        return stream.subprotocol, await _ask(stream, {"subscribe": ["a"]})

    subprotocol, answer = _talk(live, talk, additional_headers={}, subprotocols=["bearer", TOKEN])
    assert (subprotocol, answer["event"]) == ("bearer", "subscribed")


def test_pings_are_answered_and_large_messages_end_the_stream(live: Service) -> None:
    async def talk(stream: ClientConnection) -> float:
        latency = await (await stream.ping())
        await stream.send("x" * (1024 * 1024 + 1))
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await stream.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009
        return float(latency)

    assert _talk(live, talk) < 5


def test_a_sender_that_does_not_read_is_held_back_and_loses_nothing(
    live: Service, bars: pd.DataFrame
) -> None:
    bodies = [json.dumps({"bars": as_body(bars.iloc[i : i + 50], "FAST")}) for i in range(0, 900, 50)]

    async def talk(stream: ClientConnection) -> list[str]:
        for body in bodies:
            await stream.send(body)
        return [s["bar_time"] for _ in bodies for s in json.loads(await stream.recv())["signals"]]

    assert _talk(live, talk) == [time.isoformat() for time in bars.index[:900]]


def test_the_shutdown_closes_streams_cleanly(tmp_path: Path, bundle: Path) -> None:
    service = Service(tmp_path / "service", bundle=bundle)

    async def talk(stream: ClientConnection) -> int:
        await _ask(stream, {"subscribe": ["*"]})
        service.process.send_signal(signal.SIGTERM)
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await stream.recv()
        assert caught.value.rcvd is not None
        return int(caught.value.rcvd.code)

    started = time.monotonic()
    assert _talk(service, talk) == 1012
    assert service.stop() == 0
    assert time.monotonic() - started < 10
    assert "Traceback" not in service.stderr.read_text()


def _signal(number: int, symbol: str = "a") -> Signal:
    return Signal(symbol, "1d", str(number), None, {}, {}, None, "hold", False, [], "m", "1", "d", 0.0)


def test_a_slow_reader_loses_the_oldest_and_is_told() -> None:
    async def inside() -> list[tuple[str, int]]:
        subscription = Subscription(3)
        subscription.offer([_signal(0)])
        subscription.add(["a"])
        subscription.offer([_signal(i) for i in range(5)])
        subscription.offer([_signal(9, "b")])
        return [(s.bar_time, dropped) for s, dropped in [await subscription.take() for _ in range(3)]]

    assert asyncio.run(inside()) == [("2", 2), ("3", 0), ("4", 0)]


def test_a_start_does_not_pay_for_websockets() -> None:
    code = "import sys, serving.server; print('websockets' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


def test_a_message_of_a_stream_costs_what_a_request_costs(
    new_service: Callable[..., Service], bundle: Path, bars: pd.DataFrame
) -> None:
    service = new_service(bundle=bundle, BELLWETHER_RATE_LIMIT="0.001", BELLWETHER_RATE_BURST="3")
    bodies = as_body(bars.iloc[601:605])

    async def talk(stream: ClientConnection) -> list[Any]:
        return [await _ask(stream, body) for body in bodies]

    async def inside() -> list[Any]:
        async with asyncio.timeout(15), connect(f"ws://{service.address}/v1/stream") as stream:
            return await talk(stream)

    answers = asyncio.run(inside())
    assert [answer.get("status", 200) for answer in answers] == [200, 200, 429, 429]
    service.stop()
    log = service.home / "var" / "logs" / "access.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["path"], line["status"]) for line in lines] == [("/v1/stream", 101)]
    assert lines[0]["request_id"]


def test_streams_share_the_limit_on_what_is_answered_at_once(
    new_plane: Callable[[Path], Plane], bundle: Path, bars: pd.DataFrame
) -> None:
    plane, limits = new_plane(bundle), Limits(concurrency=1)
    guard = Guard(limits)
    body = json.dumps(as_body(bars.iloc[601:602])[0])

    async def talk() -> list[Any]:
        said: list[Any] = []
        messages = iter([{"type": "websocket.connect"}, {"type": "websocket.receive", "text": body}])

        async def receive() -> dict[str, Any]:
            return next(messages, {"type": "websocket.disconnect"})

        async def send(message: dict[str, Any]) -> None:
            said.append(message)

        place = {"path": "/v1/stream", "raw_path": b"/v1/stream", "query_string": b""}
        scope = {**place, "headers": [], "client": None}
        await Streams(plane, limits, guard)(handshake(scope), receive, send)
        return [json.loads(message["text"]) for message in said if message["type"] == "websocket.send"]

    busy = guard.enter(Request("GET", "/metrics", b"/metrics", b"", {}, ""))
    [refused] = asyncio.run(talk())
    assert refused["status"] == 503
    guard.leave(busy)
    [answered] = asyncio.run(talk())
    assert answered["probability"] is not None
    assert guard._running == 0
