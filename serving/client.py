"""A small client that feeds bars to the service as if they were live."""

import http.client
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from core.errors import ServiceError
from core.signal import Signal

# timestamp (epoch seconds, UTC), open, high, low, close, volume
BarRow = tuple[float, float, float, float, float, float]
_FIELDS = ("timestamp", "open", "high", "low", "close", "volume")


class _Answer(msgspec.Struct):
    signals: list[Signal]


# certificates that are no public authority's are named by SSL_CERT_FILE
_KINDS: dict[str, type[http.client.HTTPConnection]] = {
    "http": http.client.HTTPConnection,
    "https": http.client.HTTPSConnection,
}
_decoder = msgspec.json.Decoder(_Answer)


@dataclass(frozen=True)
class ReplaySummary:
    """What the service said of the bars it was fed."""

    bars: int
    predictions: int
    warming: int
    sides: dict[str, int]
    versions: list[str]
    first: str | None
    last: str | None
    seconds: float


def replay(
    url: str,
    bars: Iterable[BarRow],
    symbol: str,
    *,
    timeframe: str | None = None,
    batch: int = 64,
    token: str | None = None,
    on_progress: Callable[[int, Signal], None] | None = None,
) -> ReplaySummary:
    """Post `bars` in order, `batch` per request; `on_progress` gets the count so far and the newest signal.

    ServiceError when the service cannot be reached or refuses a bar; the bars before that request were used.
    """
    started = time.perf_counter()
    sides: Counter[str] = Counter()
    versions: dict[str, None] = {}
    count = warming = 0
    first = last = None
    for signals in _posted(url, bars, symbol, timeframe, batch, token):
        count += len(signals)
        warming += sum(s.probability is None for s in signals)
        sides.update(s.side for s in signals)
        versions.update(dict.fromkeys(s.model_version for s in signals))
        first, last = first or signals[0].bar_time, signals[-1].bar_time
        if on_progress:
            on_progress(count, signals[-1])
    elapsed = time.perf_counter() - started
    return ReplaySummary(count, count - warming, warming, dict(sides), list(versions), first, last, elapsed)


def _posted(
    url: str, bars: Iterable[BarRow], symbol: str, timeframe: str | None, batch: int, token: str | None
) -> Iterator[list[Signal]]:
    extra = {"timeframe": timeframe} if timeframe else {}
    rows = iter(bars)
    with closing(connect(url)) as connection:
        while chunk := list(itertools.islice(rows, batch)):
            body = [{"symbol": symbol, **extra, **dict(zip(_FIELDS, row, strict=True))} for row in chunk]
            yield _decoder.decode(post(connection, "/v1/bars", {"bars": body}, token)).signals


def connect(url: str) -> http.client.HTTPConnection:
    """A connection to the service at `url`; nothing is sent yet."""
    try:
        parts = urlsplit(url)
        kind, host, port = _KINDS[parts.scheme], parts.hostname or "", parts.port
    except (KeyError, ValueError):
        host = ""
    if not host:
        raise ServiceError(f"url {url!r}: an address such as http://127.0.0.1:8080 is expected")
    return kind(host, port or kind.default_port, timeout=60)


def post(connection: http.client.HTTPConnection, path: str, body: object, token: str | None = None) -> bytes:
    """Post JSON and return the answer's body; ServiceError on any refusal."""
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
    where = f"{'https' if isinstance(connection, http.client.HTTPSConnection) else 'http'}://"
    where += f"{connection.host}:{connection.port}"
    try:
        connection.request("POST", path, msgspec.json.encode(body), headers)
        response = connection.getresponse()
        data = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise ServiceError(
            f"no service answers at {where} ({error}): start it with `bellwether serve`"
        ) from error
    if response.status != 200:
        raise ServiceError(f"{where}{path} answered {response.status}: {_message(data)}")
    return data


def _message(data: bytes) -> str:
    try:
        return str(msgspec.json.decode(data, type=dict[str, str]).get("error", ""))
    except msgspec.DecodeError:
        return data[:200].decode("utf-8", "replace")
