"""`bellwether serve`: the inference service; imports nothing heavy."""

from pathlib import Path

from core import log
from core.settings import disable_telemetry, load_settings


def serve(
    model: str | None,
    bundle: str | None,
    host: str | None,
    port: int | None,
    grpc_port: int | None,
    *,
    wait: bool,
    fresh: bool,
) -> None:
    """Serve until interrupted; the addresses are printed once requests are answered."""
    disable_telemetry()
    settings = load_settings()
    log.configure(settings.log_level)
    from serving.server import serve as run

    run(
        settings,
        bundle=Path(bundle) if bundle else None,
        model=model,
        host=host,
        port=port,
        grpc_port=grpc_port,
        wait_for_model=wait,
        fresh=fresh,
        on_ready=_tell,
        on_grpc=_tell_grpc,
    )


def _tell(url: str) -> None:
    print(f"serving on {url} (ctrl-C ends it); try {url}/v2 and {url}/openapi.json", flush=True)


def _tell_grpc(address: str) -> None:
    print(f"gRPC on {address}", flush=True)
