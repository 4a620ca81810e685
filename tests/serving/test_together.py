"""Requests that arrive together are answered as if alone: each its own fault, order and numbers."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pandas as pd
import pytest

from core.clock import FakeClock
from serving.app import App
from serving.bar import Bar
from serving.errors import BarRefused, ServingError, StaleBar
from serving.http import Limits
from serving.plane import CHUNK, INLINE_WINDOWS, TOGETHER, BarsAsked, Plane
from tests.serving.kit import as_body, make_bundle
from tests.serving.wire import open_connection, run

NewPlane = Callable[[Path], Plane]
INFER = "/v2/models/sp500-1d/infer"


@pytest.fixture
def app(new_plane: NewPlane, bundle: Path) -> App:
    return App(new_plane(bundle))


def _bars(frame: pd.DataFrame, symbol: str = "sp500") -> list[Bar]:
    values = frame.to_numpy().tolist()
    return [Bar(symbol, t.timestamp(), *v) for t, v in zip(frame.index, values, strict=True)]


def _stripped(answer: Any) -> Any:
    return {key: value for key, value in answer.items() if key != "latency_ms"}


def _tensor(window: np.ndarray) -> dict[str, Any]:
    data = window.ravel().tolist()
    return {"inputs": [{"name": "features", "shape": list(window.shape), "datatype": "FP32", "data": data}]}


def test_bars_sent_at_once_are_answered_as_one_after_another(
    new_plane: NewPlane, bundle: Path, bars: pd.DataFrame
) -> None:
    bodies = as_body(bars.iloc[601:640])

    async def at_once(client: httpx.AsyncClient) -> list[Any]:
        return [r.json() for r in await asyncio.gather(*(client.post("/v1/bars", json=b) for b in bodies))]

    async def in_turn(client: httpx.AsyncClient) -> list[Any]:
        return [(await client.post("/v1/bars", json=b)).json() for b in bodies]

    plane = new_plane(bundle)
    alone = run(App(plane), in_turn)
    plane.slots[0].close()
    together = run(App(new_plane(bundle)), at_once)
    for one, other in zip(alone, together, strict=True):
        for key in ("probability", "confidence"):
            assert one.pop(key) == pytest.approx(other.pop(key), abs=1e-12)
        for key in ("base_probabilities", "class_probabilities"):
            assert one.pop(key) == pytest.approx(other.pop(key), abs=1e-12)
        assert _stripped(one) == _stripped(other)


def test_a_fault_is_its_own_requests_alone(app: App, bars: pd.DataFrame) -> None:
    good = as_body(bars.iloc[601:604])
    broken = {**good[1], "low": 1e6}
    bodies: list[Any] = [good[0], broken, good[0], {"bars": []}, good[1], b"{", good[2]]

    async def calls(client: httpx.AsyncClient) -> list[int]:
        sent = [
            client.post("/v1/bars", content=b if isinstance(b, bytes) else msgspec.json.encode(b))
            for b in bodies
        ]
        return [response.status_code for response in await asyncio.gather(*sent)]

    assert run(app, calls) == [200, 422, 409, 400, 200, 400, 200]


def test_the_plane_says_who_was_refused_and_moves_no_refused_bar(
    new_plane: NewPlane, bundle: Path, bars: pd.DataFrame
) -> None:
    plane, wanted = new_plane(bundle), _bars(bars.iloc[601:605])
    half_good = [wanted[1], wanted[2]._replace(high=0.5)]
    asked = [wanted[:1], half_good, wanted[:1], wanted[1:2], []]
    found = plane.bars_together([BarsAsked(each, None) for each in asked])
    assert [type(each) for each in found] == [list, BarRefused, StaleBar, list, list]
    assert plane.state("sp500")[1].last == wanted[1].timestamp
    refused = "\n".join(plane.metrics.bars_refused.lines())
    assert 'reason="BarRefused"} 1' in refused
    assert 'reason="StaleBar"} 1' in refused


def test_what_refuses_a_request_at_one_model_leaves_nothing_of_it_at_another(
    new_plane: NewPlane, bundle: Path, tmp_path: Path, bars: pd.DataFrame
) -> None:
    plane = new_plane(bundle)
    plane.slots += new_plane(make_bundle(tmp_path / "other", bars, symbol="dax")).slots
    [fresh] = _bars(bars.iloc[601:602])
    [stale] = _bars(bars.iloc[600:601], "dax")
    found = plane.bars_together([BarsAsked([fresh, stale], None), BarsAsked([fresh], None)])
    assert [type(each) for each in found] == [StaleBar, list]
    assert plane.state("sp500")[1].last == fresh.timestamp


def test_symbols_beyond_the_limit_are_counted_over_all_that_came_together(
    new_plane: NewPlane, bundle: Path, bars: pd.DataFrame
) -> None:
    plane = new_plane(bundle)
    plane.slots[0].require().states.limit = 3  # the bundle's own is one
    found = plane.bars_together([BarsAsked(_bars(bars.iloc[:1], f"S{k}"), None) for k in range(4)])
    assert [isinstance(each, ServingError) for each in found] == [False, False, True, True]


def test_windows_sent_at_once_are_answered_each_in_the_words_of_its_protocol(app: App) -> None:
    windows = np.random.default_rng(3).standard_normal((6, 1, 4, 89)).astype(np.float32)
    columns = [{"inputs": window.tolist()} for window in windows]
    rows = [{"dataframe_split": {"columns": ["features"], "data": [window.tolist()]}} for window in windows]
    many = {"instances": np.repeat(windows[0], INLINE_WINDOWS + 1, axis=0).tolist()}
    bodies: list[Any] = [*columns, *rows, many, {"inputs": windows[0, :, :3].tolist()}, {}]

    async def at_once(client: httpx.AsyncClient) -> list[httpx.Response]:
        sent = [client.post("/invocations", json=body) for body in bodies]
        return await asyncio.gather(*sent, *(client.post(INFER, json=_tensor(w)) for w in windows))

    found = run(app, at_once)
    assert [each.status_code for each in found] == [200] * 13 + [400] * 2 + [200] * 6
    answers = [each.json() for each in found]
    wanted = [app.plane.slots[0].require().model.score(window).probability[0] for window in windows]
    assert [a["predictions"]["probability"][0] for a in answers[:6]] == pytest.approx(wanted, abs=1e-12)
    assert [a["predictions"][0]["probability"] for a in answers[6:12]] == pytest.approx(wanted, abs=1e-12)
    assert answers[12]["predictions"]["probability"] == pytest.approx(
        [wanted[0]] * (INLINE_WINDOWS + 1), abs=1e-12
    )
    assert [a["outputs"][0]["data"][0] for a in answers[15:]] == pytest.approx(wanted, abs=1e-12)


def test_too_many_bars_and_a_held_turn_wait(new_plane: NewPlane, bundle: Path, bars: pd.DataFrame) -> None:
    plane, frame = new_plane(bundle), bars.iloc[601:860]
    many = _bars(pd.concat([frame] * 2).set_axis(pd.date_range("2012", periods=518, freq="D", tz="UTC")))
    asked = [BarsAsked(many[:1], None), BarsAsked(many[1 : TOGETHER + 2], None), BarsAsked(many[-1:], None)]
    assert [each is None for each in plane.bars_together(asked)] == [False, True, True]

    async def while_held() -> list[Any]:
        async with plane._turn:
            return list(plane.bars_together([BarsAsked(many[2:3], None)]))

    assert asyncio.run(while_held()) == [None]


def test_a_bar_that_cannot_have_closed_yet_is_refused_and_costs_its_symbol_nothing(
    new_plane: NewPlane, bundle: Path, bars: pd.DataFrame
) -> None:
    plane, (known, *_) = new_plane(bundle), _bars(bars.iloc[601:602])
    clock = FakeClock(bars.index[601].to_pydatetime())
    plane = Plane(plane.slots, plane.metrics, clock=clock)
    ahead = known._replace(timestamp=known.timestamp + 86_401)
    [fault] = plane.bars_together([BarsAsked([ahead], None)])
    assert isinstance(fault, BarRefused)
    # whatever else is wrong: one who takes a 409 for "sent already" would go on
    [fault] = plane.bars_together([BarsAsked([known, known, ahead], None)])
    assert isinstance(fault, BarRefused)
    assert "more than a day after this machine's clock" in str(fault)
    with pytest.raises(BarRefused):
        asyncio.run(plane.bars([known, ahead]))
    assert [len(each) for each in plane.bars_together([BarsAsked([known], None)])] == [1]  # type: ignore[arg-type]
    clock.advance(1)
    assert isinstance(plane.bars_together([BarsAsked([ahead], None)])[0], list)


def test_who_waits_for_the_turn_is_not_overtaken(
    new_plane: NewPlane, bundle: Path, bars: pd.DataFrame
) -> None:
    plane, wanted = new_plane(bundle), _bars(bars.iloc[601:603])

    async def inside() -> list[Any]:
        async with plane._turn:
            earlier = asyncio.create_task(plane.bars(wanted[:1]))
            await asyncio.sleep(0)
        # let go, but not taken yet by the one that waits
        later = plane.bars_together([BarsAsked(wanted[1:], None)])
        return [*later, len(await earlier)]

    assert asyncio.run(inside()) == [None, 1]


def test_one_write_holds_a_whole_chunk(
    new_plane: NewPlane, bundle: Path, bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane, calls = new_plane(bundle), []
    write = os.write
    monkeypatch.setattr(os, "write", lambda *given: calls.append(len(given[1])) or write(*given))
    found = plane.bars_together([BarsAsked([bar], None) for bar in _bars(bars.iloc[601 : 601 + CHUNK])])
    assert all(isinstance(each, list) and each[0].probability is not None for each in found)
    assert len(calls) == 1


def test_windows_sent_at_once_keep_their_own_answers(app: App) -> None:
    rng = np.random.default_rng(0)
    windows = [rng.normal(size=(1 + k % 3, 4, 89)).astype(np.float32) for k in range(9)]
    windows.insert(4, np.zeros((1, 4, 88), np.float32))
    windows.insert(6, rng.normal(size=(40, 4, 89)).astype(np.float32))  # too many for the loop: a thread

    async def calls(client: httpx.AsyncClient) -> list[httpx.Response]:
        return list(await asyncio.gather(*(client.post(INFER, json=_tensor(w)) for w in windows)))

    model = app.plane.model("sp500-1d")
    for window, response in zip(windows, run(app, calls), strict=True):
        if window.shape[2] == 88:
            assert response.status_code == 400
            continue
        expected = model.score(window)
        for output in response.json()["outputs"]:
            given = np.reshape(output["data"], output["shape"])
            np.testing.assert_allclose(given, getattr(expected, output["name"]), rtol=0, atol=1e-12)


def test_a_fault_of_our_own_is_answered_to_everybody(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(app.plane, "bars_together", broken)
    body = msgspec.json.encode(
        {"symbol": "x", "timestamp": 1, "open": 1, "high": 1, "low": 1, "close": 1, "volume": 0}
    )

    async def calls(client: httpx.AsyncClient) -> list[Any]:
        return list(await asyncio.gather(*(client.post("/v1/bars", content=body) for _ in range(3))))

    answers = run(app, calls)
    assert [response.status_code for response in answers] == [500] * 3
    assert not any("secret" in response.text for response in answers)
    assert app.guard._running == 0


def _request(path: str, body: bytes = b"", method: bytes = b"POST", headers: bytes = b"") -> bytes:
    head = b"%s %s HTTP/1.1\r\nhost: x\r\n%scontent-length: %d\r\n\r\n"
    return head % (method, path.encode(), headers, len(body)) + body


def _connected(app: App, talk: Callable[[Any, Any], Any], seconds: float = 0.1) -> bytes:
    async def inside() -> bytes:
        connection, pipe = open_connection(app)
        talk(connection, pipe)
        end = time.monotonic() + seconds
        while time.monotonic() < end and (connection._unanswered or seconds < 1):
            await asyncio.sleep(0.005)
        connection.connection_lost(None)
        return bytes(pipe.written)

    return asyncio.run(inside())


def test_pipelined_requests_are_answered_in_order(app: App, bars: pd.DataFrame) -> None:
    bodies = [msgspec.json.encode(body) for body in as_body(bars.iloc[601:604])]
    live = _request("/v2/health/live", method=b"GET")
    pieces = [_request("/v1/bars", bodies[0]), live, _request("/v1/bars", bodies[1])]
    pieces += [_request("/nope", b"x"), live]
    answers = _connected(app, lambda connection, _: connection.data_received(b"".join(pieces)))
    statuses = [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]
    # what follows a refused body is not read
    assert statuses == [200, 200, 200, 404]
    assert b'"live":true' in answers.split(b"HTTP/1.1 ")[2]
    assert answers.rstrip().endswith(b'see /openapi.json"}')


@pytest.mark.parametrize("concurrency", [2, 512])
def test_a_long_pipeline_is_one_request_after_another(
    new_plane: NewPlane, bundle: Path, bars: pd.DataFrame, concurrency: int
) -> None:
    app = App(new_plane(bundle), limits=Limits(concurrency=concurrency))
    times = pd.date_range("2012", periods=300, freq="D", tz="UTC")
    frame = pd.concat([bars.iloc[601:701]] * 3).set_axis(times)
    live = _request("/v1/signal/sp500", method=b"GET") * 2000
    pieces = [live, *(_request("/v1/bars", msgspec.json.encode(body)) for body in as_body(frame)), live]
    answers = _connected(app, lambda connection, _: connection.data_received(b"".join(pieces)), seconds=20)
    assert answers.count(b"HTTP/1.1 200") == 4300
    assert answers.count(b"HTTP/1.1") == 4300
    order = [answers.index(when.isoformat().encode()) for when in times]
    assert order == sorted(order)
    assert app.guard._running == 0


def test_bytes_may_come_in_any_pieces(app: App, bars: pd.DataFrame) -> None:
    raw = _request("/v1/bars", msgspec.json.encode(as_body(bars.iloc[601:602])[0]))

    def drip(connection: Any, _: Any) -> None:
        for k in range(len(raw)):
            connection.data_received(raw[k : k + 1])

    assert _connected(app, drip).startswith(b"HTTP/1.1 200")


def test_nothing_is_answered_to_who_does_not_read(app: App) -> None:
    def talk(connection: Any, pipe: Any) -> None:
        connection.pause_writing()
        connection.data_received(_request("/v2/health/live", method=b"GET") * 3)
        assert not pipe.written
        assert not pipe.reading
        connection.resume_writing()
        assert pipe.reading

    assert _connected(app, talk).count(b"200 OK") == 3


def test_the_end_of_the_service_answers_what_has_begun(app: App, bars: pd.DataFrame) -> None:
    raw = _request("/v1/bars", msgspec.json.encode(as_body(bars.iloc[601:602])[0]))

    def talk(connection: Any, pipe: Any) -> None:
        connection.data_received(raw[:-40])
        connection.shutdown()
        assert not pipe.closed
        connection.data_received(raw[-40:])

    answers = _connected(app, talk)
    assert answers.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answers
    idle = []
    _connected(app, lambda connection, pipe: (connection.shutdown(), idle.append(pipe.closed)))
    assert idle == [True]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT example.org:443 HTTP/1.1\r\n\r\n", 400),
        (b"POST /v1/bars HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"POST /v1/bars HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /v2/health/live HTTP/1.0\r\n\r\n", 200),
        (b"GET /v2/health/live HTTP/1.1\r\nconnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n", 200),
        (b"GET /v2/health/live HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", 200),
    ],
)
def test_odd_heads_end_the_connection_with_one_answer(app: App, raw: bytes, status: int) -> None:
    closed = []

    def talk(connection: Any, pipe: Any) -> None:
        connection.data_received(raw)
        closed.append(pipe.closed)

    answers = _connected(app, talk)
    assert answers.startswith(b"HTTP/1.1 %d" % status)
    assert answers.count(b"HTTP/1.1") == 1
    assert closed == [True]


def test_continue_is_said_once_the_head_is_let_in(app: App) -> None:
    head = b"POST /v1/bars HTTP/1.1\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
    answers = _connected(app, lambda connection, _: connection.data_received(head))
    assert answers == b"HTTP/1.1 100 Continue\r\n\r\n"
    refused = head.replace(b"/v1/bars", b"/nope")
    answers = _connected(app, lambda connection, _: connection.data_received(refused))
    assert answers.startswith(b"HTTP/1.1 404")


def test_a_client_that_leaves_gives_back_what_was_reserved(app: App, bars: pd.DataFrame) -> None:
    raw = _request("/v1/bars", b" " * 100_000)

    def leave(connection: Any, _: Any) -> None:
        connection.data_received(raw[:5000])
        assert app.guard._running == 1
        assert app.guard._buffered == 100_000

    _connected(app, leave)
    assert (app.guard._running, app.guard._buffered) == (0, 0)
