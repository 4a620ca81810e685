"""GET /v1/features/{symbol}: the newest row that the model sees, to compare with another program's."""

import msgspec

from serving.bar import iso
from serving.gaps import Gap
from serving.http import Request, Response, Router, answer
from serving.plane import Plane


class GapBody(msgspec.Struct, frozen=True):
    """Bars missing between two bars, by the market's hours; `bars_ago` is 0 when the last bar ended it."""

    after: str
    before: str
    missing: int
    bars_ago: int


class FeaturesBody(msgspec.Struct, frozen=True):
    """The last row of a symbol's window.

    `features` are float32, as the graph gets them; null is a feature that is not defined yet. `warm` is true
    when the warm-up and the window have been seen: `warm_bars` bars, but for features of a coarser
    timeframe, which are warm when enough of its bars are closed.
    """

    symbol: str
    timeframe: str
    model: str
    model_version: str
    bar_time: str | None
    bars: int
    warm_bars: int
    warm: bool
    features: dict[str, float | None]
    gaps: int = 0
    missing_bars: int = 0
    last_gap: GapBody | None = None


def routes(router: Router, plane: Plane) -> None:
    """Mount the protocol."""

    def get(request: Request) -> Response:
        return answer(_features(plane, request.parameters[0], request.query("timeframe")))

    router.add("GET", "/v1/features/{symbol}", get)


def _features(plane: Plane, symbol: str, timeframe: str | None) -> FeaturesBody:
    model, state = plane.state(symbol, timeframe)
    names = [feature.name for feature in model.manifest.features]
    row = state.window[-1].tolist()
    return FeaturesBody(
        symbol=symbol,
        timeframe=model.manifest.timeframe,
        model=model.name,
        model_version=model.version,
        bar_time=None if state.last is None else iso(state.last),
        bars=state.bars,
        warm_bars=model.warm_bars,
        warm=state.warm,
        features={name: value if value == value else None for name, value in zip(names, row, strict=True)},
        gaps=state.gaps.count,
        missing_bars=state.gaps.missing,
        last_gap=_gap(state.gaps.last, state.bars),
    )


def _gap(gap: Gap | None, bars: int) -> GapBody | None:
    return GapBody(iso(gap.after), iso(gap.before), gap.missing, bars - gap.bar) if gap else None
