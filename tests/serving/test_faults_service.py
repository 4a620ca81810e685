"""Faults around a running service; the same drills at full size are in benchmarks/service_faults.py."""

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pandas as pd
import pytest

from monitoring.prediction_log import read
from tests.serving.drills import (
    Load,
    fuzz,
    get,
    later_bars,
    memory_mb,
    open_files,
    percentile,
    send_raw,
    stall,
)
from tests.serving.kit import FakeRegistry, Service, as_body, eventually, make_bundle
from tests.serving.openapi_fuzz import fuzz_document

Start = Callable[..., Service]


def _post(service: Service, body: object, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(service.address, timeout=10)
    connection.request("POST", "/v1/bars", msgspec.json.encode(body), headers)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, {k.lower(): v for k, v in response.getheaders()}, data


def test_fuzzed_requests_are_never_the_services_fault(new_service: Start, bundle: Path) -> None:
    service = new_service(bundle=bundle)
    fuzz(service, 200, seed=1)
    result = fuzz(service, 9_600)
    assert result.faults == []
    assert result.grown_mb < 50
    assert {200, 400, 404, 413} <= set(result.statuses)
    assert get(service, "/v2/health/ready")[0] == 200
    assert "Traceback" not in service.stderr.read_text()


def test_requests_made_from_the_document_are_never_the_services_fault(
    new_service: Start, bundle: Path
) -> None:
    service = new_service(bundle=bundle)
    statuses, faults = fuzz_document(service, 3)
    assert faults == []
    assert statuses[200] > 40
    assert "Traceback" not in service.stderr.read_text()


def test_stalled_peers_are_cut_and_the_health_answers_meanwhile(new_service: Start, bundle: Path) -> None:
    service = new_service(bundle=bundle)
    get(service, "/openapi.json")
    before = open_files(service)
    stalls = stall(service, bodies=300, readers=300, heads=50)
    assert len(stalls.cut) == 650
    assert max(stalls.cut) < 10
    assert percentile(stalls.health, 0.99) < 0.1
    assert set(stalls.statuses) == {200}
    assert eventually(lambda: open_files(service) <= before + 2)
    assert memory_mb(service) < 400


def test_hot_swaps_under_load_lose_and_mix_nothing(
    new_service: Start, tmp_path: Path, bars: pd.DataFrame
) -> None:
    home = tmp_path / "home"
    registry = FakeRegistry(home / "mlflow" / "mlflow.db")
    for version in (1, 2, 3):
        directory = make_bundle(tmp_path / str(version), bars, bias=version / 10, version=str(version))
        registry.add(version, directory)
    registry.alias(1)
    service = new_service(home, BELLWETHER_POLL_SECONDS="0.02")
    load = Load(service, later_bars(bars.iloc[601:]))
    with load.running():
        for number in range(1, 101):
            version = str(number % 3 + 1)
            registry.alias(int(version))
            assert eventually(lambda v=version: bool(load.answers) and load.answers[-1][2] == {v})  # type: ignore[misc]
    assert load.failures == []
    assert all(len(versions) == 1 for _, _, versions in load.answers)
    assert b'bellwether_model_swaps_total{model="sp500-1d"} 100' in get(service, "/metrics")[1]


def test_moving_the_alias_back_is_served_within_a_poll(
    new_service: Start, tmp_path: Path, bars: pd.DataFrame
) -> None:
    home, poll = tmp_path / "home", 0.5
    registry = FakeRegistry(home / "mlflow" / "mlflow.db")
    for version in (1, 2):
        registry.add(version, make_bundle(tmp_path / str(version), bars, version=str(version)))
    registry.alias(1)
    service = new_service(home, BELLWETHER_POLL_SECONDS=str(poll))

    def version() -> str:
        return str(json.loads(get(service, "/v1/signal/sp500")[1])["model_version"])

    registry.alias(2)
    assert eventually(lambda: version() == "2")
    took = []
    for back in ("1", "2", "1"):
        started = time.monotonic()
        registry.alias(int(back))
        assert eventually(lambda b=back: version() == b)  # type: ignore[misc]
        took.append(time.monotonic() - started)
    # in memory already: nothing but the poll is waited for
    assert max(took) < poll + 0.3
    assert get(service, "/v2/health/ready")[1] == b'{"ready":true,"degraded":[]}'


def test_sigterm_under_load_loses_no_acknowledged_prediction(
    new_service: Start, bundle: Path, bars: pd.DataFrame
) -> None:
    service = new_service(bundle=bundle)
    loads = [
        Load(service, [{**body, "symbol": symbol} for body in later_bars(bars.iloc[601:])], pause=0.0)
        for symbol in ("sp500", "AAA", "BBB")
    ]
    threads = [threading.Thread(target=load.run) for load in loads]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    started = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(10) == 0
    assert time.monotonic() - started < 10
    for thread in threads:
        thread.join()
    logged = read(service.log_dir)
    known = {
        (symbol, moment.isoformat())
        for symbol, moment in zip(logged["symbol"].to_pylist(), logged["bar_time"].to_pylist(), strict=True)
    }
    acknowledged = {(symbol, moment) for load in loads[:1] for symbol, moment, _ in load.answers}
    assert len(acknowledged) > 50
    assert acknowledged <= known


def test_two_timeframes_of_one_symbol_and_a_model_that_appears_later(
    new_service: Start, tmp_path: Path, bars: pd.DataFrame, bundle: Path
) -> None:
    home = tmp_path / "home"
    registry = FakeRegistry(home / "mlflow" / "mlflow.db")
    registry.promote(1, bundle)
    service = new_service(home)
    body = as_body(bars.iloc[601:603])
    assert _post(service, body[0])[0] == 200
    hourly = make_bundle(tmp_path / "hourly", bars, timeframe="1h", version="9")
    registry.promote(9, hourly, model="sp500-1h")
    assert eventually(lambda: b"sp500-1h" in get(service, "/metrics")[1])
    status, _, data = _post(service, body[1])
    assert (status, "1d, 1h" in json.loads(data)["error"]) == (400, True)
    assert "timeframe" in json.loads(data)["error"]
    for timeframe, version in (("1d", "1"), ("1h", "9")):
        status, _, data = _post(service, {**body[1], "timeframe": timeframe})
        assert status == 200
        assert (json.loads(data)["timeframe"], json.loads(data)["model_version"]) == (timeframe, version)
        assert get(service, f"/v1/signal/sp500?timeframe={timeframe}")[0] == 200
    assert get(service, "/v1/signal/sp500")[0] == 400
    assert _post(service, {**body[1], "timeframe": "5m"})[0] == 422
    assert service.stop() == 0
    assert read(home / "var" / "predictions" / "sp500-1h").num_rows == 1


def test_a_registry_that_hangs_at_the_start_and_while_running(
    new_service: Start, tmp_path: Path, bars: pd.DataFrame, bundle: Path
) -> None:
    home = tmp_path / "home"
    registry = FakeRegistry(home / "mlflow" / "mlflow.db")
    registry.promote(1, bundle)
    service = new_service(home, BELLWETHER_REGISTRY_SECONDS="0.5")
    registry.database.rename(tmp_path / "kept.db")
    os.mkfifo(registry.database)
    assert eventually(lambda: b"did not answer" in get(service, "/v2/health/ready")[1])
    load = Load(service, as_body(bars.iloc[601:701]))
    load.run()
    assert (load.failures, len(load.answers)) == ([], 100)
    started = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - started < 5
    again = new_service(home, BELLWETHER_REGISTRY_SECONDS="0.5")
    assert again.cold_start < 15
    assert get(again, "/v2/health/ready")[0] == 200
    assert json.loads(get(again, "/v1/signal/sp500")[1])["model_version"] == "1"
    assert again.stop() == 0


def test_a_client_that_sends_too_much_is_told_when_to_come_back(new_service: Start, bundle: Path) -> None:
    service = new_service(bundle=bundle, BELLWETHER_RATE_LIMIT="0.5", BELLWETHER_RATE_BURST="3")
    statuses = [_post(service, {})[0] for _ in range(3)]
    assert statuses == [400] * 3
    status, headers, data = _post(service, {})
    assert (status, headers["retry-after"], headers["content-type"]) == (429, "2", "application/json")
    assert "slow down" in json.loads(data)["error"]
    assert get(service, "/v2/health/live")[0] == 200


def test_too_many_at_once_are_told_so_in_json(new_service: Start, bundle: Path) -> None:
    service = new_service(bundle=bundle, BELLWETHER_MAX_CONCURRENCY="2")
    held = []
    for _ in range(2):
        connection = http.client.HTTPConnection(service.address)
        connection.putrequest("POST", "/v1/bars")
        connection.putheader("content-length", "1000")
        connection.endheaders(b"{")
        held.append(connection)
    assert eventually(lambda: _post(service, {})[0] == 503)
    status, headers, data = _post(service, {})
    assert (status, headers["retry-after"], headers["content-type"]) == (503, "1", "application/json")
    assert "limit" in json.loads(data)["error"]
    assert get(service, "/v2/health/live")[0] == 200
    for connection in held:
        connection.close()
    assert eventually(lambda: _post(service, {})[0] == 400)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET \xff\xff HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 200_000, 431),
    ],
)
def test_what_is_not_http_is_answered_in_json(shared: Service, data: bytes, status: int) -> None:
    answer = send_raw(shared, data)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert int(head[9:12]) == status
    assert json.loads(body)["error"]


def test_who_sends_too_much_reads_why_all_the_same(shared: Service) -> None:
    host, port = shared.address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as peer:
        began = time.monotonic()
        peer.sendall(b"POST /v1/bars HTTP/1.1\r\ncontent-length: 30000000\r\n\r\n")
        for _ in range(30):
            peer.sendall(b" " * 1_000_000)
        answer = bytearray()
        while part := peer.recv(65536):
            answer += part
        assert answer.startswith(b"HTTP/1.1 413")
        assert time.monotonic() - began < 5
        # nor may it go on for ever
        with pytest.raises(OSError):
            for _ in range(100):
                peer.sendall(b" ")
                time.sleep(0.1)


def test_a_request_keeps_its_name_and_no_secret_is_logged(new_service: Start, bundle: Path) -> None:
    token = "correct-horse-battery"
    service = new_service(bundle=bundle, BELLWETHER_TOKEN=token)
    auth = {"authorization": f"Bearer {token}"}
    assert _post(service, {}, **auth, **{"x-request-id": "job-7"})[1]["x-request-id"] == "job-7"
    made = _post(service, {}, **auth)[1]["x-request-id"]
    assert _post(service, {}, **{"x-request-id": token})[0] == 401
    assert get(service, f"/v1/signal/{token}?token={token}")[0] == 401
    assert get(service, "/v2/health/live?access_token=other-secret")[0] == 200
    assert send_raw(service, b"\x16\x03\x01").startswith(b"HTTP/1.1 400")
    assert service.stop() == 0
    text = (service.home / "var" / "logs" / "access.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["request_id"] for line in lines[:3]] == ["job-7", made, "***"]
    assert {line["client"] for line in lines} == {"127.0.0.1"}
    assert lines[3]["path"] == "/v1/signal/***"
    assert [(line["path"], line["status"]) for line in lines[5:]] == [("-", 400)]
    everything = text + service.stderr.read_text()
    assert token not in everything
    assert "other-secret" not in everything


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Service:  # type: ignore[misc]
    service = Service(tmp_path_factory.mktemp("shared"), bundle=bundle)
    yield service
    service.stop()
