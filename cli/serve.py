"""`bellwether serve`: the inference service; imports nothing heavy."""

import json
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from core import log
from core.settings import Settings, disable_telemetry, load_settings

if TYPE_CHECKING:
    from serving.server import Ready


@dataclass(frozen=True)
class Asked:
    """What the command was given; None leaves it to the settings."""

    model: str | None
    bundle: Path | None
    host: str | None
    port: int | None
    grpc_port: int | None
    tls_cert: Path | None
    tls_key: Path | None
    wait: bool
    fresh: bool


def serve(asked: Asked, *, as_json: bool) -> None:
    """Serve until interrupted; where, what and how to try it are printed once requests are answered."""
    disable_telemetry()
    settings = load_settings()
    log.configure(settings.log_level)
    from serving.server import serve as run

    def tell(ready: "Ready") -> None:
        if as_json:
            print(json.dumps(_facts(ready)), flush=True)
        else:
            print(*_lines(ready, asked.tls_cert or settings.tls_cert, settings), sep="\n", flush=True)

    run(
        settings,
        bundle=asked.bundle,
        model=asked.model,
        host=asked.host,
        port=asked.port,
        grpc_port=asked.grpc_port,
        tls_cert=asked.tls_cert,
        tls_key=asked.tls_key,
        wait_for_model=asked.wait,
        fresh=asked.fresh,
        on_ready=tell,
    )


def _facts(ready: "Ready") -> dict[str, object]:
    models = [
        {"model": m.name, "version": m.version, "symbol": m.manifest.symbol, "tradable": m.tradable}
        for m in ready.models
    ]
    return {"url": ready.url, "grpc": ready.grpc, "pid": os.getpid(), "models": models}


def _lines(ready: "Ready", certificate: Path | None, settings: Settings) -> Iterator[str]:
    for model in ready.models:
        yield f"serving {model.name} version {model.version}{'' if model.tradable else ', not tradable'}"
    if not ready.models:
        yield "serving nothing yet: waiting for a champion, which `bellwether run` makes"
    yield f"  at    {ready.url} (its requests: {ready.url}/docs)"
    if ready.grpc is not None:
        yield f"  gRPC  {ready.grpc}"
    given = f"--cacert {shlex.quote(str(certificate))} " if certificate else ""
    if settings.token is not None:
        given += '-H "authorization: Bearer $BELLWETHER_TOKEN" '
    path = "/v2/health/ready"
    if ready.models:
        path = "/v1/signal/" + quote(ready.models[0].manifest.symbol, safe="")
    yield f"  try   curl -s {given}{ready.url}{path}"
    yield f"  stop  ctrl-C, or kill {os.getpid()}"
