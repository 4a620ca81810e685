"""POST /v1/bars: raw bars in, signals out."""

from collections.abc import Awaitable
from typing import Annotated, NamedTuple

import msgspec

from core.signal import Signal
from serving.bar import Bar, epoch
from serving.errors import BadRequest
from serving.http import Limits, Request, Response, Router, answer, decode
from serving.plane import Plane

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=32)]


class BarBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One closed bar; `timestamp` is its close, ISO 8601 with a zone or epoch seconds."""

    symbol: Text
    timestamp: float | str
    open: float
    high: float
    low: float
    close: float
    volume: float
    timeframe: Text | None = None

    def bar(self) -> Bar:
        """The bar with its time as epoch seconds; BarRefused when the time is not one."""
        time = epoch(self.timestamp)
        return Bar(self.symbol, time, self.open, self.high, self.low, self.close, self.volume)


class BarsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Many bars, of one symbol or several, each symbol's in order of time."""

    bars: list[BarBody]


class SignalsBody(msgspec.Struct, frozen=True):
    """One signal per bar, in the order of the bars."""

    signals: list[Signal]


class _Probe(msgspec.Struct):
    bars: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_probe = msgspec.json.Decoder(_Probe)
_one = msgspec.json.Decoder(BarBody)
_many = msgspec.json.Decoder(BarsBody)


def routes(router: Router, plane: Plane, limits: Limits) -> None:
    """Mount the protocol."""

    def post(request: Request) -> Response | Awaitable[Response]:
        asked = read(limits, request.body)
        signals = plane.bars_at_once(asked.bars, asked.timeframe)
        return answer(asked.shape(signals)) if signals is not None else _later(plane, asked)

    router.add("POST", "/v1/bars", post)


class Asked(NamedTuple):
    """What a body asks, and the shape of its answer."""

    bars: list[Bar]
    timeframe: str | None
    many: bool

    def shape(self, signals: list[Signal]) -> Signal | SignalsBody:
        """One signal for one bar, {"signals": […]} for {"bars": […]}."""
        return SignalsBody(signals) if self.many else signals[0]


def read(limits: Limits, body: bytes) -> Asked:
    """A JSON bar, or {"bars": […]}; BadRequest or BarRefused says what is wrong."""
    if b'"bars"' in body and decode(body, _probe).bars is not msgspec.UNSET:
        return _read_many(limits, decode(body, _many).bars)
    one = decode(body, _one)
    return Asked([one.bar()], one.timeframe, many=False)


def _read_many(limits: Limits, bodies: list[BarBody]) -> Asked:
    if not 1 <= len(bodies) <= limits.bars:
        raise BadRequest(f"{len(bodies)} bars: 1 to {limits.bars} are accepted in one request")
    timeframes = {body.timeframe for body in bodies}
    if len(timeframes) > 1:
        raise BadRequest("bars of several timeframes: send one request per timeframe")
    return Asked([body.bar() for body in bodies], timeframes.pop(), many=True)


async def _later(plane: Plane, asked: Asked) -> Response:
    return answer(asked.shape(await plane.bars(asked.bars, asked.timeframe)))
