"""GET /v1/signal/{symbol}: the signal as of the symbol's last bar; `?timeframe=` where several would fit."""

from serving.http import Request, Response, Router, answer
from serving.plane import Plane


def routes(router: Router, plane: Plane) -> None:
    """Mount the protocol."""

    def get(request: Request) -> Response:
        return answer(plane.signal(request.parameters[0], request.query("timeframe")))

    router.add("GET", "/v1/signal/{symbol}", get)
