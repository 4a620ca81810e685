"""The service from outside: a process, HTTP, signals."""

import http.client
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pandas as pd

import features
from core.errors import BellwetherError
from core.settings import child_environment
from monitoring.prediction_log import feature_columns, read
from serving.client import connect, post, replay
from tests.serving.kit import ROOT, SERVE, FakeRegistry, Service, as_body, eventually, make_bundle

HEAVY = (
    "pandas sklearn torch mlflow prefect dvc lightgbm catboost xgboost evidently great_expectations "
    "matplotlib scipy numba"
)
Start = Callable[..., Service]


def _rows(bars: pd.DataFrame) -> list[tuple[float, ...]]:
    values = bars.to_numpy().tolist()
    return [(time.timestamp(), *row) for time, row in zip(bars.index, values, strict=True)]


def _get(service: Service, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(service.address, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def test_serving_imports_nothing_heavy() -> None:
    code = (
        "import sys, serving.server, serving.client, monitoring.prediction_log, features.stream\n"
        f"print([m for m in {HEAVY.split()!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_live_features_equal_batch_features_bit_for_bit(
    new_service: Start, bundle: Path, bars: pd.DataFrame
) -> None:
    service = new_service(bundle=bundle)
    seen: list[int] = []
    rows = _rows(bars)
    first = replay(service.url, rows[601:602], "sp500", on_progress=lambda n, s: seen.append(n))
    rest = replay(service.url, rows[602:900], "sp500", timeframe="1d", batch=50)
    assert (first.predictions, first.warming, seen) == (1, 0, [1])
    assert (rest.predictions, rest.bars, rest.versions) == (298, 298, ["1"])
    live = read(service.log_dir)
    assert service.stop() == 0
    closed = read(service.log_dir)
    assert closed.num_rows == live.num_rows == 299
    batch = features.build(bars, features.definitions("core")).iloc[601:900]
    assert closed["bar_time"].to_pylist() == list(batch.index.to_pydatetime())
    columns = feature_columns(closed)
    assert list(columns) == list(batch.columns)
    for name, column in columns.items():
        assert column.tobytes() == batch[name].to_numpy().tobytes(), name


def test_a_new_champion_is_swapped_in_under_load_and_a_bad_one_is_refused(
    new_service: Start, tmp_path: Path, bars: pd.DataFrame, bundle: Path
) -> None:
    home = tmp_path / "home"
    registry = FakeRegistry(home / "mlflow" / "mlflow.db")
    registry.promote(1, bundle)
    service = new_service(home)
    failures: list[object] = []
    versions: list[str] = []
    stop = threading.Event()

    def load() -> None:
        connection = connect(service.url)
        for body in as_body(bars.iloc[601:]):
            if stop.is_set():
                break
            try:
                answered = msgspec.json.decode(post(connection, "/v1/bars", {"bars": [body]}))["signals"][0]
            except BellwetherError as error:
                failures.append(error)
                break
            versions.append(answered["model_version"])
            time.sleep(0.003)
        connection.close()

    thread = threading.Thread(target=load)
    thread.start()
    assert eventually(lambda: len(versions) > 5)
    broken = make_bundle(tmp_path / "two", bars, bias=0.3)
    (broken / "model.onnx").write_bytes(b"x" + (broken / "model.onnx").read_bytes()[1:])
    registry.promote(2, broken)
    assert eventually(lambda: b"model.onnx has SHA-256" in _get(service, "/v2/health/ready")[1])
    assert 'bellwether_bundle_refused{model="sp500-1d"} 1.0' in _get(service, "/metrics")[1].decode()
    assert set(versions) == {"1"}
    registry.promote(3, make_bundle(tmp_path / "three", bars, bias=0.5, tradable=False))
    assert eventually(lambda: versions[-1] == "3")
    stop.set()
    thread.join()
    assert failures == []
    assert versions == sorted(versions)
    current = msgspec.json.decode(_get(service, "/v1/signal/sp500")[1])
    assert (current["model_version"], current["side"]) == ("3", "hold")
    assert current["reasons"] == ["deflated Sharpe 0.31 is below 0.95"]
    assert _get(service, "/v2/health/ready")[1] == b'{"ready":true,"degraded":[]}'
    registry.database.write_bytes(b"not a database" * 100)
    assert eventually(lambda: b"cannot be read as a model registry" in _get(service, "/v2/health/ready")[1])
    assert _get(service, "/v1/signal/sp500")[0] == 200
    assert service.stop() == 0
    assert read(service.log_dir).num_rows == len(versions)
    # the registry is gone: the last good copy serves
    again = new_service(home)
    status, body = _get(again, "/v2/health/ready")
    assert status == 200
    assert b"last good copy" in body
    assert msgspec.json.decode(_get(again, "/v1/signal/sp500")[1])["model_version"] == "3"


def test_kill_9_loses_no_answered_prediction(new_service: Start, bundle: Path, bars: pd.DataFrame) -> None:
    service = new_service(bundle=bundle)
    connection = connect(service.url)
    for body in as_body(bars.iloc[601:641]):
        post(connection, "/v1/bars", body)
    service.process.kill()
    connection.close()
    service.stop()
    assert read(service.log_dir).num_rows == 40
    again = new_service(service.home, bundle=bundle)
    assert again.stop() == 0
    assert read(service.log_dir).num_rows == 40


def test_sigterm_ends_with_a_stalled_body_in_time(new_service: Start, bundle: Path) -> None:
    service = new_service(bundle=bundle)
    connection = http.client.HTTPConnection(service.address)
    connection.putrequest("POST", "/v1/bars")
    connection.putheader("content-length", "1000")
    connection.endheaders(b'{"symbol"')
    time.sleep(0.1)
    started = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(10) == 0
    assert time.monotonic() - started < 10
    connection.close()


def test_a_busy_port_is_one_clear_message(new_service: Start, bundle: Path, tmp_path: Path) -> None:
    service = new_service(bundle=bundle)
    port = service.address.split(":")[1]
    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(bundle), port],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=30,
        env=child_environment(BELLWETHER_HOME=str(tmp_path / "other")),
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"ServiceError port {port} on 127.0.0.1 is in use" in done.stderr
    assert _get(service, "/v2/health/live")[0] == 200
