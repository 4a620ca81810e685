"""POST /v1/bars: raw bars in, signals out."""

from typing import Annotated

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

    async def post(request: Request) -> Response:
        return answer(await signals(plane, limits, request.body))

    router.add("POST", "/v1/bars", post)


async def signals(plane: Plane, limits: Limits, body: bytes) -> Signal | SignalsBody:
    """What the plane says of a JSON bar, or of {"bars": […]}; BadRequest or BarRefused says why not."""
    if b'"bars"' in body and decode(body, _probe).bars is not msgspec.UNSET:
        return await _signals_of_many(plane, limits, decode(body, _many).bars)
    one = decode(body, _one)
    return (await plane.bars([one.bar()], one.timeframe))[0]


async def _signals_of_many(plane: Plane, limits: Limits, bodies: list[BarBody]) -> SignalsBody:
    if not 1 <= len(bodies) <= limits.bars:
        raise BadRequest(f"{len(bodies)} bars: 1 to {limits.bars} are accepted in one request")
    timeframes = {body.timeframe for body in bodies}
    if len(timeframes) > 1:
        raise BadRequest("bars of several timeframes: send one request per timeframe")
    bars = [body.bar() for body in bodies]
    return SignalsBody(await plane.bars(bars, timeframes.pop()))
