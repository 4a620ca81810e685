"""The same service, encrypted: by the clients of others, with a certificate made by openssl."""

import asyncio
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pandas as pd
import pytest
from websockets.asyncio.client import connect

from core.errors import ServiceError, UsageError
from serving import client, tls
from serving.grpc import open_inference_pb2 as pb
from serving.grpc.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.serving.kit import Service, as_body

Pair = tuple[Path, Path]


def make_pair(folder: Path, *options: str) -> Pair:
    """A certificate of this machine and its key."""
    folder.mkdir(exist_ok=True)
    chain, key = folder / "cert.pem", folder / "key.pem"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-days",
        "2",
    ]
    named = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*made, *(options or ["-nodes"]), *named, "-keyout", key, "-out", chain],
        check=True,
        capture_output=True,
    )
    return chain, key


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, bundle: Path, pair: Pair) -> Iterator[Service]:
    chain, key = map(str, pair)
    service = Service(
        tmp_path_factory.mktemp("service"),
        bundle=bundle,
        BELLWETHER_GRPC_PORT="0",
        BELLWETHER_TLS_CERT=chain,
        BELLWETHER_TLS_KEY=key,
    )
    yield service
    assert service.stop() == 0


@pytest.fixture(scope="module")
def context(pair: Pair) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(pair[0]))


def _port(service: Service) -> int:
    return int(service.url.rpartition(":")[2])


def test_curl_with_the_certificate_is_answered_and_without_it_is_not(live: Service, pair: Pair) -> None:
    assert live.url.startswith("https://127.0.0.1:")
    asked = ["curl", "-s", f"{live.url}/v1/signal/sp500"]
    trusting = subprocess.run([*asked, "--cacert", pair[0]], capture_output=True, check=True)
    assert json.loads(trusting.stdout)["symbol"] == "sp500"
    assert subprocess.run(asked, capture_output=True).returncode == 60  # not verified


def test_bars_and_large_answers_pass(live: Service, context: ssl.SSLContext, bars: pd.DataFrame) -> None:
    with httpx.Client(base_url=live.url, verify=context) as client:
        answer = client.post("/v1/bars", json={"bars": as_body(bars.iloc[601:650], "ftse")})
        assert len(answer.json()["signals"]) == 49
        windows = {"name": "features", "datatype": "FP32", "shape": [2000, 4, 89], "data": [0.5] * 712_000}
        answer = client.post("/v2/models/sp500-1d/infer", json={"inputs": [windows]})
        assert answer.json()["outputs"][0]["shape"] == [2000]


def test_our_own_client_passes(
    live: Service, pair: Pair, bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = bars.iloc[601:650]
    times = (some.index.as_unit("ns").asi8 / 1e9).tolist()
    rows = [(time, *values) for time, values in zip(times, some.to_numpy().tolist(), strict=True)]
    with pytest.raises(ServiceError, match=r"https://127.0.0.1:\d+ .*certificate"):
        client.replay(live.url, rows, "nikkei")
    monkeypatch.setenv("SSL_CERT_FILE", str(pair[0]))
    assert client.replay(live.url, rows, "nikkei").bars == 49


def test_a_websocket_passes(live: Service, context: ssl.SSLContext, bars: pd.DataFrame) -> None:
    async def talk() -> str | bytes:
        url = live.url.replace("https", "wss")
        async with asyncio.timeout(15), connect(f"{url}/v1/stream", ssl=context) as stream:
            await stream.send(json.dumps(as_body(bars.iloc[601:602], "dax")[0]))
            return await stream.recv()

    assert json.loads(asyncio.run(talk()))["symbol"] == "dax"


def test_grpc_passes(live: Service, pair: Pair) -> None:
    assert live.process.stdout is not None
    address = live.process.stdout.readline().strip()
    credentials = grpc.ssl_channel_credentials(pair[0].read_bytes())
    with grpc.secure_channel(address, credentials) as channel:
        assert GRPCInferenceServiceStub(channel).ServerReady(pb.ServerReadyRequest(), timeout=5).ready
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError):
        GRPCInferenceServiceStub(channel).ServerReady(pb.ServerReadyRequest(), timeout=5)


def test_plain_text_is_not_answered_and_leaves_no_raw_line(live: Service) -> None:
    with socket.create_connection(("127.0.0.1", _port(live))) as plain:
        plain.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        plain.settimeout(5)
        assert b"HTTP" not in plain.recv(100)
    for line in live.stderr.read_text().splitlines():
        json.loads(line)


def test_peers_that_stall_are_cut(live: Service, context: ssl.SSLContext) -> None:
    """One says nothing, one no request, one does not read: within the limits of plain connections."""
    address = ("127.0.0.1", _port(live))
    silent = socket.create_connection(address)
    idle = context.wrap_socket(socket.create_connection(address), server_hostname="127.0.0.1")
    deaf = context.wrap_socket(socket.create_connection(address), server_hostname="127.0.0.1")
    deaf.settimeout(15)
    idle.sendall(b"GET /v2/hea")
    started = time.monotonic()
    with pytest.raises(OSError, match=r"."):
        while True:
            deaf.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 50)
    assert time.monotonic() - started < 10
    for peer in (silent, idle):
        peer.settimeout(10 - (time.monotonic() - started))
        while peer.recv(1000):
            pass
        peer.close()
    deaf.close()
    assert time.monotonic() - started < 10


def test_files_that_are_no_certificate_and_key_are_refused(pair: Pair, tmp_path: Path) -> None:
    chain, key = pair
    other, locked = make_pair(tmp_path / "other"), make_pair(tmp_path / "locked", "-passout", "pass:secret")
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    for given, words in {
        (chain, None): f"--tls-cert {chain} needs --tls-key",
        (None, key): f"--tls-key {key} needs --tls-cert",
        (tmp_path / "none", key): "none cannot be read .No such file",
        (chain, tmp_path): "cannot be read .Is a directory",
        (chain, other[1]): "is not the key of .* made together",
        (text, key): "both PEM",
        (chain, text): "both PEM",
        locked: "without a password",
    }.items():
        with pytest.raises(UsageError, match=words):
            tls.read(*given)
    assert tls.read(None, None) is None
