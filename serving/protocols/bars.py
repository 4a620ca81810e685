"""POST /v1/bars: raw bars in, signals out."""

from typing import Annotated

import msgspec

from core.signal import Signal
from serving.bar import Bar, epoch
from serving.errors import BadRequest, ServingError
from serving.http import Found, Limits, Request, Response, Router, Together, answer, decode
from serving.plane import BarsAsked, Plane

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

    def post(requests: list[Request]) -> list[Found]:
        read = [_read(limits, request.body) for request in requests]
        asked = [each for each in read if isinstance(each, Asked)]
        answers = iter(zip(asked, plane.bars_together(asked), strict=True))
        return [each if isinstance(each, ServingError) else _answer(plane, *next(answers)) for each in read]

    router.add("POST", "/v1/bars", Together(post))


class Asked(BarsAsked, frozen=True):
    """What a body asks, and whether it is {"bars": […]} or one bar alone."""

    many: bool

    def shape(self, signals: list[Signal]) -> Signal | SignalsBody:
        """One signal for one bar, {"signals": […]} for {"bars": […]}."""
        return SignalsBody(signals) if self.many else signals[0]


def read(limits: Limits, body: bytes) -> Asked:
    """A JSON bar, or {"bars": […]}; BadRequest or BarRefused says what is wrong."""
    try:
        one = decode(body, _one)
    except BadRequest:
        if body.lstrip().startswith(b"["):
            raise BadRequest('a list: send {"bars": […]}') from None
        if b'"bars"' not in body or decode(body, _probe).bars is msgspec.UNSET:
            raise
        return _read_many(limits, decode(body, _many).bars)
    return Asked([one.bar()], one.timeframe, many=False)


def _read(limits: Limits, body: bytes) -> Asked | ServingError:
    try:
        return read(limits, body)
    except ServingError as error:
        return error


def _read_many(limits: Limits, bodies: list[BarBody]) -> Asked:
    if not 1 <= len(bodies) <= limits.bars:
        raise BadRequest(f"{len(bodies)} bars: 1 to {limits.bars} are accepted in one request")
    timeframes = {body.timeframe for body in bodies}
    if len(timeframes) > 1:
        raise BadRequest("bars of several timeframes: send one request per timeframe")
    return Asked([body.bar() for body in bodies], timeframes.pop(), many=True)


def _answer(plane: Plane, asked: Asked, signals: list[Signal] | ServingError | None) -> Found:
    if signals is None:
        return _later(plane, asked)
    return signals if isinstance(signals, ServingError) else answer(asked.shape(signals))


async def _later(plane: Plane, asked: Asked) -> Response:
    return answer(asked.shape(await plane.bars(asked.bars, asked.timeframe)))
