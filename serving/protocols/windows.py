"""Requests that bring windows of their own: what their protocols share."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.errors import ServingError
from serving.http import Found, Request, Response, Together
from serving.model import Model
from serving.plane import INLINE_WINDOWS, Plane, check_windows, score_together
from serving.runtime import Outputs


class Asked(Protocol):
    """The windows of one request, [N, T, F], and what it is answered."""

    @property
    def model(self) -> Model:
        """Which is to score them."""

    @property
    def windows(self) -> NDArray[np.float32]:
        """As many as are asked for."""

    def reply(self, outputs: Outputs) -> Response:
        """The answer in words of the protocol."""


def scored(plane: Plane, read: Callable[[Request], Asked]) -> Together:
    """Answers requests by what `read` makes of each, or the ServingError that it raises.

    Few windows are scored at once, those of all requests together; many in a thread, by themselves.
    """

    def answer(requests: list[Request]) -> Sequence[Found]:
        found: dict[int, Found] = {}
        few: dict[int, Asked] = {}
        for number, request in enumerate(requests):
            try:
                asked = read(request)
                check_windows(asked.model, asked.windows)
            except ServingError as error:
                found[number] = error
                continue
            if len(asked.windows) <= INLINE_WINDOWS:
                few[number] = asked
            else:
                found[number] = _reply_later(plane, asked)
        outputs = score_together([(asked.model, asked.windows) for asked in few.values()])
        found |= {number: few[number].reply(each) for number, each in zip(few, outputs, strict=True)}
        return [found[number] for number in range(len(requests))]

    return Together(answer)


async def _reply_later(plane: Plane, asked: Asked) -> Response:
    return asked.reply(await plane.infer(asked.model, asked.windows))
