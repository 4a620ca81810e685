"""`bellwether serve`: the inference service; imports nothing heavy."""

from pathlib import Path

from core import log
from core.settings import disable_telemetry, load_settings


def serve(
    model: str | None, bundle: str | None, host: str | None, port: int | None, *, wait: bool, fresh: bool
) -> None:
    """Serve until interrupted; the address is printed once requests are answered."""
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
        wait_for_model=wait,
        fresh=fresh,
        on_ready=_tell,
    )


def _tell(url: str) -> None:
    print(f"serving on {url} (ctrl-C ends it); try {url}/v2 and {url}/openapi.json", flush=True)
