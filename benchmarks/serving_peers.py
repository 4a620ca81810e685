"""Servers in this environment that benchmarks/serving.py compares; each is a process until SIGTERM.

    python -m benchmarks.serving_peers echo|fastapi --bundle DIR --port PORT

uvicorn with uvloop and httptools, one worker, and the access log of the service itself.
"""

import argparse
import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

import uvicorn
import uvloop

from core import log
from core.settings import disable_telemetry, load_settings
from serving.access_log import AccessLog
from serving.fleet import Fleet
from serving.http import Request
from serving.metrics import Metrics
from serving.plane import Plane

Asgi = Callable[..., Any]


class Asked(NamedTuple):
    """As much of a request as the access log wants."""

    client: str
    method: str
    path: str
    id: bytes = b"-"


def echo(bundle: Path) -> Asgi:
    """What was sent, back."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        length = (b"content-length", str(len(body)).encode())
        headers = [(b"content-type", b"application/json"), length]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def fastapi(bundle: Path) -> Asgi:
    """The same endpoints as one writes them with FastAPI and pydantic, over the same data plane."""
    import msgspec
    import numpy as np
    from fastapi import FastAPI
    from pydantic import BaseModel

    from serving.bar import Bar

    class BarModel(BaseModel):
        symbol: str
        timestamp: float
        open: float
        high: float
        low: float
        close: float
        volume: float
        timeframe: str | None = None

    class BarsModel(BaseModel):
        bars: list[BarModel]

    class SignalModel(BaseModel):
        symbol: str
        timeframe: str
        bar_time: str
        probability: float | None
        class_probabilities: dict[str, float]
        base_probabilities: dict[str, float]
        confidence: float | None
        side: str
        tradable: bool
        reasons: list[str]
        model: str
        model_version: str
        data_hash: str
        latency_ms: float

    class SignalsModel(BaseModel):
        signals: list[SignalModel]

    class TensorModel(BaseModel):
        name: str
        shape: list[int]
        datatype: str
        data: list[float | None]

    class InferModel(BaseModel):
        inputs: list[TensorModel]

    class OutputModel(BaseModel):
        name: str
        datatype: str
        shape: list[int]
        data: list[float]

    class InferredModel(BaseModel):
        model_name: str
        model_version: str
        outputs: list[OutputModel]

    log.configure(json=True, level="ERROR")
    metrics = Metrics()
    fleet = Fleet(load_settings(), metrics, bundle=bundle)
    plane = Plane([], metrics)
    plane.slots += fleet.start()
    app = FastAPI()

    async def signals(bars: list[BarModel]) -> list[SignalModel]:
        plain = [Bar(b.symbol, b.timestamp, b.open, b.high, b.low, b.close, b.volume) for b in bars]
        return [SignalModel(**msgspec.structs.asdict(s)) for s in await plane.bars(plain, bars[0].timeframe)]

    @app.post("/v1/bars")
    async def post(body: BarModel | BarsModel) -> SignalModel | SignalsModel:
        if isinstance(body, BarsModel):
            return SignalsModel(signals=await signals(body.bars))
        return (await signals([body]))[0]

    @app.post("/v2/models/{name}/infer")
    async def infer(name: str, body: InferModel) -> InferredModel:
        model, tensor = plane.model(name), body.inputs[0]
        found = await plane.infer(model, np.array(tensor.data, dtype=np.float32).reshape(tensor.shape))
        outputs = [
            OutputModel(name=key, datatype="FP64", shape=list(values.shape), data=values.ravel().tolist())
            for key, values in found._asdict().items()
        ]
        return InferredModel(model_name=model.name, model_version=model.version, outputs=outputs)

    return app


def run(app: Asgi, port: int) -> None:
    """Serve on loopback until SIGTERM."""
    access_log = AccessLog(load_settings().var_dir / "logs" / "access.jsonl")

    async def logged(scope: Any, receive: Any, send: Any) -> None:
        started = time.perf_counter()
        await app(scope, receive, send)
        asked = Asked(scope["client"][0], scope["method"], scope["path"])
        access_log.add(cast("Request", asked), 200, (time.perf_counter() - started) * 1e3)

    async def drain() -> None:
        while True:
            await asyncio.sleep(0.5)
            await asyncio.to_thread(access_log.drain)

    async def main() -> None:
        options: dict[str, Any] = {"http": "httptools", "ws": "none", "lifespan": "off", "log_config": None}
        config = uvicorn.Config(
            logged, port=port, backlog=2048, access_log=False, server_header=False, **options
        )
        draining = asyncio.create_task(drain())
        await uvicorn.Server(config).serve()
        draining.cancel()

    with suppress(KeyboardInterrupt):
        uvloop.run(main())


APPS = {"echo": echo, "fastapi": fastapi}


def main() -> None:
    """Be one of the servers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving_peers")
    parser.add_argument("kind", choices=APPS)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    disable_telemetry()
    run(APPS[given.kind](given.bundle), given.port)


if __name__ == "__main__":
    main()
