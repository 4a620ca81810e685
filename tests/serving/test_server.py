import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.errors import RegistryError, ServiceError, UsageError
from core.settings import child_environment, load_settings
from serving.client import connect, post, replay
from serving.fleet import Fleet
from serving.metrics import Metrics
from serving.server import serve
from tests.serving.kit import ROOT, FakeRegistry


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_an_open_address_needs_a_token(host: str) -> None:
    with pytest.raises(UsageError, match="BELLWETHER_TOKEN"):
        serve(load_settings(), host=host, port=0)


def test_an_address_that_is_not_ours_is_one_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELLWETHER_TOKEN", "correct-horse-battery")
    with pytest.raises(ServiceError, match="cannot be used"):
        serve(load_settings(), host="203.0.113.7", port=0)


def test_an_empty_registry_is_refused_or_waited_for() -> None:
    settings = load_settings()
    with pytest.raises(RegistryError, match="run `bellwether run`"):
        Fleet(settings, Metrics()).start()
    FakeRegistry(settings.mlflow_dir / "mlflow.db")
    with pytest.raises(RegistryError, match="no model with a champion"):
        Fleet(settings, Metrics()).start()
    assert Fleet(settings, Metrics()).start(wait=True) == []
    slots = Fleet(settings, Metrics(), model="sp500-1d").start(wait=True)
    assert slots[0].current is None
    with pytest.raises(RegistryError, match="no champion"):
        Fleet(settings, Metrics(), model="sp500-1d").start()


def test_replay_says_when_no_service_answers() -> None:
    with pytest.raises(ServiceError, match="bellwether serve"):
        replay("http://127.0.0.1:9", [(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)], "sp500")


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://x", "http://", "http://x:http", "http://[::1"])
def test_replay_refuses_a_strange_address(url: str) -> None:
    with pytest.raises(ServiceError, match=r"http://127\.0\.0\.1:8080"):
        post(connect(url), "/v1/bars", {})


LATE = """
import sys
from pathlib import Path
from core import log
from core.settings import load_settings
from serving.http import Limits
from serving.server import serve
log.configure(json=True)
serve(load_settings(), bundle=Path(sys.argv[1]), port=0, limits=Limits(graceful_seconds=1),
      on_ready=lambda ready: print(ready.url, flush=True))
"""


def test_who_keeps_the_end_waiting_is_cut_and_counted(bundle: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LATE, str(bundle)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=child_environment(BELLWETHER_HOME=str(tmp_path)),
    )
    assert process.stdout is not None
    port = int(process.stdout.readline().rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.sendall(b"POST /v1/bars HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n")
        time.sleep(0.2)
        started = time.monotonic()
        process.terminate()
        _, said = process.communicate(timeout=15)
    assert process.returncode == 0
    assert 1 <= time.monotonic() - started < 3
    lines = [json.loads(line) for line in said.splitlines()]
    assert [(line["event"], line["level"]) for line in lines][-2:] == [
        ("service_ending", "info"),
        ("connections_cut", "warning"),
    ]
    assert lines[-1]["connections"] == 1


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1", 8080),
        ("http://[::1]:8080/", "::1", 8080),
        ("http://[fe80::abcd]", "fe80::abcd", 80),
        ("https://[2001:db8::1]", "2001:db8::1", 443),
        ("https://signals.example:8443", "signals.example", 8443),
    ],
)
def test_the_client_finds_host_and_port(url: str, host: str, port: int) -> None:
    connection = connect(url)
    assert (connection.host, connection.port) == (host, port)
