"""The application over connections in this process: protocols, errors, limits."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pandas as pd
import pytest

from serving.app import App
from serving.http import Limits
from serving.plane import Plane
from tests.serving.kit import as_body, make_bundle
from tests.serving.wire import run

NewPlane = Callable[[Path], Plane]


@pytest.fixture
def app(new_plane: NewPlane, bundle: Path, limits: Limits) -> App:
    return App(new_plane(bundle), limits=limits)


def test_warm_at_the_first_bar(app: App, bars: pd.DataFrame) -> None:
    signal = run(app, lambda c: c.post("/v1/bars", json=as_body(bars.iloc[601:602])[0])).json()
    assert 0 < signal["probability"] < 1
    assert set(signal["base_probabilities"]) == {"logistic", "lstm"}
    assert (signal["model"], signal["model_version"], signal["data_hash"]) == ("sp500-1d", "1", "data-600")
    assert signal["bar_time"] == bars.index[601].isoformat()


def test_epoch_seconds_and_iso_are_the_same_time(app: App, bars: pd.DataFrame) -> None:
    body = as_body(bars.iloc[601:602])[0]
    body["timestamp"] = bars.index[601].timestamp()
    assert run(app, lambda c: c.post("/v1/bars", json=body)).json()["bar_time"] == bars.index[601].isoformat()


def test_the_signal_is_known_before_the_first_bar_and_follows_the_last(app: App, bars: pd.DataFrame) -> None:
    async def calls(client: httpx.AsyncClient) -> list[Any]:
        before = await client.get("/v1/signal/sp500")
        made = await client.post("/v1/bars", json=as_body(bars.iloc[601:602])[0])
        after = await client.get("/v1/signal/sp500")
        return [before.json(), made.json(), after.json()]

    before, made, after = run(app, calls)
    assert before["bar_time"] == bars.index[600].isoformat()
    assert {k: v for k, v in made.items() if k != "latency_ms"} == {
        k: v for k, v in after.items() if k != "latency_ms"
    }


def test_an_unseeded_symbol_warms_up_and_says_so(app: App, bars: pd.DataFrame) -> None:
    async def calls(client: httpx.AsyncClient) -> list[Any]:
        many = await client.post("/v1/bars", json={"bars": as_body(bars.iloc[:300], "OTHER")})
        return [many.json()["signals"], (await client.get("/v1/signal/OTHER")).json()]

    signals, last = run(app, calls)
    first = signals[0]
    assert (first["probability"], first["confidence"]) == (None, None)
    assert (first["side"], first["tradable"]) == ("hold", False)
    assert first["reasons"][0].startswith("warming up: 1 of 2")
    assert last["probability"] is not None
    warm = [i for i, s in enumerate(signals) if s["probability"] is not None]
    assert warm == list(range(warm[0], 300))


def test_a_request_with_one_bad_bar_changes_nothing(app: App, bars: pd.DataFrame) -> None:
    good = as_body(bars.iloc[601:604])
    stale = {"bars": [good[0], good[1], good[1]]}
    broken = {"bars": [good[0], {**good[1], "low": 1e6}]}

    async def calls(client: httpx.AsyncClient) -> list[int]:
        statuses = [(await client.post("/v1/bars", json=b)).status_code for b in (stale, broken)]
        return [*statuses, (await client.post("/v1/bars", json={"bars": good})).status_code]

    assert run(app, calls) == [409, 422, 200]


def _bar(**changes: Any) -> bytes:
    prices = {"open": 2.0, "high": 3.0, "low": 1.0, "close": 2.0, "volume": 1.0}
    bar = {"symbol": "sp500", "timestamp": 1.3e9, **prices}
    return msgspec.json.encode({k: v for k, v in {**bar, **changes}.items() if v is not ...})


def _tensor(**changes: Any) -> bytes:
    tensor = {"name": "features", "shape": [1, 4, 89], "datatype": "FP32", "data": [0.0] * 356, **changes}
    return msgspec.json.encode({"inputs": [{k: v for k, v in tensor.items() if v is not ...}]})


GARBAGE = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "text": b"hello",
    "bad utf-8": b'{"symbol":"\xff\xfe"}',
    "bad utf-8 outside": b"\xff\xfe\x00",
    "lone surrogate": b'{"symbol":"\\ud800"}',
    "deep list": b"[" * 100_000,
    "deep object": b'{"bars":' * 50_000,
    "deep value": b'{"bars":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "truncated": b'{"bars":[{"symbol":"sp500"',
    "trailing": b'{"bars":[]} x',
    "no bars": b'{"bars":[]}',
    "null bars": b'{"bars":null}',
    "bars of numbers": b'{"bars":[1,2]}',
    "long integer": b'{"bars":[],"x":' + b"9" * 5000 + b"}",
}
BARS = {
    "NaN": b'{"symbol":"s","timestamp":1,"open":NaN,"high":1,"low":1,"close":1,"volume":1}',
    "Infinity": b'{"symbol":"s","timestamp":1,"open":Infinity,"high":1,"low":1,"close":1,"volume":1}',
    "1e999": b'{"symbol":"s","timestamp":1,"open":1e999,"high":1,"low":1,"close":1,"volume":1}',
    "5000 digits": b'{"symbol":"s","timestamp":1,"open":' + b"9" * 5000 + b"}",
    "negative zero price": _bar(low=-0.0),
    "bool price": _bar(open=True),
    "text price": _bar(open="2"),
    "null price": _bar(open=None),
    "missing price": _bar(open=...),
    "unknown field": _bar(vol=1),
    "zero price": _bar(low=0.0),
    "negative price": _bar(low=-1.0),
    "negative volume": _bar(volume=-1.0),
    "high below low": _bar(high=0.5),
    "milliseconds": _bar(timestamp=1.3e12),
    "bool time": _bar(timestamp=True),
    "no zone": _bar(timestamp="2018-12-31T21:00:00"),
    "not a time": _bar(timestamp="yesterday"),
    "surrogate time": b'{"timestamp":"\\udc00"}',
    "empty symbol": _bar(symbol=""),
    "long symbol": _bar(symbol="x" * 1000),
    "strange symbol": _bar(symbol="a\nb"),
    "other timeframe": _bar(timeframe="1h"),
    "bad timeframe": _bar(timeframe="soon"),
}
TENSORS = {
    "NaN": _tensor().replace(b"[0.0,", b"[NaN,"),
    "1e999": _tensor().replace(b"[0.0,", b"[1e999,"),
    "beyond float32": _tensor(data=[1e39] * 356),
    "bool": _tensor(data=[True] * 356),
    "text": _tensor(data=["a"] * 356),
    "no data": _tensor(data=...),
    "data object": _tensor(data={"a": 1}),
    "data number": _tensor(data=1),
    "empty data": _tensor(data=[]),
    "short data": _tensor(data=[0.0] * 355),
    "ragged": _tensor(data=[[0.0, 1.0], [0.0]]),
    "four deep": _tensor(data=[[[[0.0]]]]),
    "deep data": _tensor().replace(b"[0.0", b"[" * 50_000 + b"0.0"),
    "wrong type": _tensor(datatype="INT64"),
    "wrong name": _tensor(name="x"),
    "negative shape": _tensor(shape=[-1, 4, 89]),
    "zero shape": _tensor(shape=[0, 4, 89], data=[]),
    "huge shape": _tensor(shape=[1 << 62, 4, 89]),
    "flat shape": _tensor(shape=[356]),
    "other window": _tensor(shape=[1, 89, 4]),
    "unknown output": _tensor()[:-1] + b',"outputs":[{"name":"x"}]}',
    "no inputs": b'{"inputs":[]}',
}
CASES = [
    *(("/v1/bars", name, body) for name, body in {**GARBAGE, **BARS}.items()),
    *(("/v2/models/sp500-1d/infer", name, body) for name, body in {**GARBAGE, **TENSORS}.items()),
]


@pytest.fixture(scope="module")
def shared_app(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Any:
    from serving.metrics import Metrics
    from serving.resolver import DirectoryResolver
    from serving.slot import Slot

    metrics = Metrics()
    log_root = tmp_path_factory.mktemp("predictions")
    slot = Slot(DirectoryResolver(bundle), log_root=log_root, metrics=metrics)
    slot.start()
    yield App(Plane([slot], metrics), limits=Limits(body_bytes=1_000_000, body_seconds=0.5))
    slot.close()


@pytest.mark.parametrize(
    ("body", "remedy"),
    [
        (b"[]", 'send {"bars": '),
        (b'{"symbol":"a","timestamp":1,"open":NaN}', "no bar lacks a number"),
    ],
)
def test_a_bad_bar_is_refused_with_its_remedy(shared_app: App, body: bytes, remedy: str) -> None:
    answer = run(shared_app, lambda client: client.post("/v1/bars", content=body))
    assert answer.status_code == 400
    assert remedy in answer.json()["error"]


@pytest.mark.parametrize(("path", "body"), [c[::2] for c in CASES], ids=[f"{c[0]} {c[1]}" for c in CASES])
def test_a_bad_body_is_refused_with_a_reason(shared_app: App, path: str, body: bytes) -> None:
    response = run(shared_app, lambda c: c.post(path, content=body))
    assert 400 <= response.status_code < 500, response.text
    assert "Traceback" not in response.text
    assert response.json()["error"]


def test_null_is_a_missing_feature(app: App) -> None:
    response = run(app, lambda c: c.post("/v2/models/sp500-1d/infer", content=_tensor(data=[None] * 356)))
    assert response.status_code == 200
    assert [o["name"] for o in response.json()["outputs"]] == [
        "probability",
        "base_probabilities",
        "confidence",
        "class_probabilities",
    ]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/", 404),
        ("GET", "//", 404),
        ("GET", "/v1/bars", 405),
        ("DELETE", "/v2/models/sp500-1d/infer", 405),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/sp500-1d/versions/9", 404),
        ("GET", "/v2/models/sp500-1d/versions/1", 200),
        ("GET", "/v2/models/sp500-1d/versions/1/ready", 200),
        ("GET", "/v1/signal/unknown", 404),
        ("GET", "/v1/signal/%ff%00", 404),
        ("GET", "/v1/signal/sp500?x=1", 200),
        ("GET", "/v1/signal/sp500?timeframe=1d", 200),
        ("GET", "/v1/signal/sp500?timeframe=1h", 422),
        ("GET", "/v1/signal/sp500?" + "a=1&" * 17, 400),
    ],
)
def test_paths(app: App, method: str, path: str, status: int) -> None:
    response = run(app, lambda c: c.request(method, path))
    assert response.status_code == status
    assert status == 200 or response.json()["error"]


def test_a_large_body_is_refused(app: App) -> None:
    assert run(app, lambda c: c.post("/v1/bars", content=b" " * 1_000_001)).status_code == 413


def test_a_stalled_body_is_cut(app: App) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    response = run(app, lambda c: c.post("/v1/bars", content=stalled()))
    assert response.status_code == 408
    assert response.headers["connection"] == "close"


def test_a_fault_inside_answers_500_without_its_text(
    app: App, bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(app.plane, "signal", broken)
    response = run(app, lambda c: c.get("/v1/signal/sp500"))
    assert response.status_code == 500
    assert "secret" not in response.text


def test_a_token_guards_everything_but_the_probes(new_plane: NewPlane, bundle: Path) -> None:
    app = App(new_plane(bundle), token="s3cret")

    async def statuses(client: httpx.AsyncClient) -> list[int]:
        good = {"Authorization": "Bearer s3cret"}
        calls = [
            await client.get("/v2/health/live"),
            await client.get("/v2/health/ready"),
            await client.get("/x/v2/health/live"),
            await client.get("/metrics"),
            await client.get("/metrics", headers={"Authorization": "Bearer s3cres"}),
            await client.get("/metrics", headers=good),
        ]
        return [call.status_code for call in calls]

    assert run(app, statuses) == [200, 200, 401, 401, 401, 200]


def test_a_model_that_may_not_trade_holds(new_plane: NewPlane, tmp_path: Path, bars: pd.DataFrame) -> None:
    app = App(new_plane(make_bundle(tmp_path / "b", bars, tradable=False, bias=3.0)))
    signal = run(app, lambda c: c.get("/v1/signal/sp500")).json()
    assert signal["probability"] > 0.6
    assert (signal["side"], signal["tradable"]) == ("hold", False)
    assert signal["reasons"] == ["deflated Sharpe 0.31 is below 0.95"]


def test_a_prediction_that_cannot_be_logged_may_not_be_traded_on(
    app: App, bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(app.plane.slots[0].log, "append", full)
    signal = run(app, lambda c: c.post("/v1/bars", json=as_body(bars.iloc[601:602])[0])).json()
    assert (signal["side"], signal["tradable"]) == ("hold", False)
    assert "No space left" in signal["reasons"][0]


def test_every_path_is_documented(app: App) -> None:
    document = run(app, lambda c: c.get("/openapi.json")).json()
    documented = {(m.upper(), p) for p, methods in document["paths"].items() for m in methods}
    routed = {(m, pattern) for m, pattern in app.routes}
    assert documented == routed


def test_metrics_count_requests_and_name_the_model(app: App) -> None:
    async def calls(client: httpx.AsyncClient) -> str:
        await client.get("/v1/signal/sp500")
        return (await client.get("/metrics")).text

    text = run(app, calls)
    assert 'bellwether_requests_total{route="/v1/signal/{symbol}",status="200"} 1' in text
    assert 'bellwether_model_info{model="sp500-1d",version="1",data_hash="data-600"} 1' in text
    assert 'le="+Inf"} 1' in text
