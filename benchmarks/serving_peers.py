"""The servers that benchmarks/serving.py compares; each runs in a process of its own until SIGTERM."""

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn

from core import log
from core.settings import load_settings
from serving.access_log import AccessLog
from serving.fleet import Fleet
from serving.metrics import Metrics
from serving.plane import Plane
from serving.server import serve

Asgi = Callable[..., Any]


def main() -> None:
    """Nothing to measure here: `make bench` runs every script of this folder."""


def ours(bundle: Path) -> None:
    """The service as `bellwether serve --bundle` starts it."""
    log.configure(json=True, level="ERROR")
    serve(load_settings(), bundle=bundle, port=0, on_ready=lambda url: print(url.rsplit(":")[-1], flush=True))


def echo(bundle: Path) -> None:
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

    _run(app)


def fastapi(bundle: Path) -> None:
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
            for key, values in vars(found).items()
        ]
        return InferredModel(model_name=model.name, model_version=model.version, outputs=outputs)

    _run(app)


def _run(app: Asgi) -> None:
    access_log = AccessLog(load_settings().var_dir / "logs" / "access.jsonl")

    async def logged(scope: Any, receive: Any, send: Any) -> None:
        started = time.perf_counter()
        await app(scope, receive, send)
        access_log.add(scope, 200, (time.perf_counter() - started) * 1e3, b"-")

    async def drain() -> None:
        while True:
            await asyncio.sleep(0.5)
            await asyncio.to_thread(access_log.drain)

    async def run() -> None:
        options: dict[str, Any] = {"http": "httptools", "ws": "none", "lifespan": "off", "log_config": None}
        config = uvicorn.Config(logged, access_log=False, server_header=False, **options)
        draining = asyncio.create_task(drain())
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            bound.listen(2048)
            print(bound.getsockname()[1], flush=True)
            await uvicorn.Server(config).serve([bound])
        draining.cancel()

    import uvloop

    with suppress(KeyboardInterrupt):
        uvloop.run(run())


if __name__ == "__main__":
    main()
