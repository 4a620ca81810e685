"""What a request must pass before it costs anything: rate, token, concurrency, memory."""

import hmac
import math
import re
import secrets
import time
from collections.abc import Callable
from itertools import count

from serving.errors import BadRequest, BodyTooLarge, Overloaded, RateLimited, Unauthorized
from serving.http import Limits, Request

# Probes of an orchestrator pass freely; whole paths only, never a prefix or suffix.
OPEN_PATHS = frozenset(
    {
        "/v2/health/live",
        "/v2/health/ready",
        "/inference.GRPCInferenceService/ServerLive",
        "/inference.GRPCInferenceService/ServerReady",
        "/grpc.health.v1.Health/Check",
    }
)
# Bodies up to this size are not counted against the memory budget.
SMALL_BODY = 64 * 1024
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,64}")


class Buckets:
    """One token bucket per client: `rate` requests per second, `burst` at once. A rate of 0 limits nothing.

    Remembers at most `clients` clients; the one seen least recently is forgotten, which only ever favours it.
    """

    def __init__(
        self, rate: float, burst: int, *, clients: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clients, self._clock = rate, float(burst), clients, clock
        self._known: dict[str, tuple[float, float]] = {}

    def take(self, client: str) -> float:
        """0 when the request may pass, else the seconds until one may."""
        if self._rate <= 0:
            return 0.0
        client, now = _network(client), self._clock()
        tokens, since = self._known.pop(client, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._known[client] = (tokens if wait else tokens - 1, now)
        if len(self._known) > self._clients:
            del self._known[next(iter(self._known))]
        return wait


class Guard:
    """Admits requests: `enter` before the body is read, `leave` with its result once answered."""

    def __init__(
        self, limits: Limits, *, token: str | None = None, rate: float = 0.0, burst: int = 100
    ) -> None:
        self._limits = limits
        self._token = token.encode() if token else None
        self._rate, self._burst = rate, burst
        self._buckets = Buckets(rate, burst)
        self._running = self._buffered = 0
        self._prefix, self._numbers = secrets.token_hex(6).encode(), count(1)

    def request_id(self, request: Request) -> bytes:
        """The caller's X-Request-ID when it is a plain short one, else a new one."""
        given = request.headers.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return b"%s-%x" % (self._prefix, next(self._numbers))

    def authorise(self, request: Request) -> None:
        """Unauthorized unless the path is a probe's, no token is set, or the caller sent it."""
        if self._token is None or request.path in OPEN_PATHS:
            return
        scheme, _, given = request.headers.get(b"authorization", b"").partition(b" ")
        if not hmac.compare_digest(given, self._token) or scheme.lower() != b"bearer":
            raise Unauthorized(
                "the token is missing or wrong: send 'Authorization: Bearer <BELLWETHER_TOKEN>'"
            )

    def enter(self, request: Request) -> int:
        """Admit a request, or a message of a stream; what is returned goes to `leave`.

        RateLimited, Unauthorized, BodyTooLarge or Overloaded when it is not admitted. Probes always are,
        but for a body, which none has.
        """
        if request.path in OPEN_PATHS:
            if self._declared(request) > SMALL_BODY:
                raise BodyTooLarge("a probe has no body: send none")
            return -1
        self.check_rate(request)
        self.authorise(request)
        if self._running >= self._limits.concurrency:
            raise Overloaded(f"{self._running} requests are being answered, the limit: send it again later")
        size = self._declared(request)
        if size > SMALL_BODY and self._buffered + size > self._limits.buffered_bytes:
            raise Overloaded(
                f"bodies of {self._buffered} bytes are being received, the limit is "
                f"{self._limits.buffered_bytes}: send it again later"
            )
        self._running += 1
        reserved = size if size > SMALL_BODY else 0
        self._buffered += reserved
        return reserved

    def leave(self, admitted: int) -> None:
        """The request that `enter` admitted is answered."""
        if admitted >= 0:
            self._running -= 1
            self._buffered -= admitted

    def check_rate(self, request: Request) -> None:
        """RateLimited when this client sent too many."""
        wait = self._buckets.take(request.client)
        if wait:
            raise RateLimited(
                f"more than {self._rate:g} requests a second from this address, {self._burst} at once: slow "
                "down, or set BELLWETHER_RATE_LIMIT and BELLWETHER_RATE_BURST",
                math.ceil(wait),
            )

    def _declared(self, request: Request) -> int:
        """Bytes the body may take: what its head declares, or the limit when that is not told."""
        declared, largest = request.headers.get(b"content-length"), self._limits.body_bytes
        if declared is None:
            return largest if b"transfer-encoding" in request.headers else 0
        if not declared.isdigit() or len(declared) > 18:
            raise BadRequest("content-length is not a number of bytes")
        if int(declared) > largest:
            raise BodyTooLarge(f"the body is over {largest} bytes: send fewer bars per request")
        return int(declared)


def _network(host: str) -> str:
    # one IPv6 customer has 2^64 addresses
    return ":".join(host.split(":")[:4]) if ":" in host else host
