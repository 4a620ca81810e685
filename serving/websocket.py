"""The WebSocket protocol of uvicorn, imported at the first handshake: a cold start does not pay for it."""

import logging
from typing import Any

# uvicorn 0.54 says so of every handshake that is refused with a status and a reason, as ours are
_NO_ERROR = "ASGI callable returned without completing handshake."


def lazy_websocket(**arguments: Any) -> Any:
    """A connection's protocol, over websockets without its own input and output.

    That implementation reads one message at a time, so a client that sends faster than it is answered is
    held back by TCP.
    """
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    logging.getLogger("uvicorn.error").addFilter(_is_error)
    return WebSocketsSansIOProtocol(**arguments)


def _is_error(record: logging.LogRecord) -> bool:
    return record.msg != _NO_ERROR


def options(message_bytes: int, ping_seconds: float) -> dict[str, Any]:
    """Of uvicorn.Config: messages of at most `message_bytes`, a peer silent for 2 * `ping_seconds` is cut.

    No per-message compression: a small message could unpack to a large one, and it costs memory per client.
    """
    return {
        "ws": lazy_websocket,
        "ws_max_size": message_bytes,
        "ws_ping_interval": ping_seconds,
        "ws_ping_timeout": ping_seconds,
        "ws_per_message_deflate": False,
    }
