"""An average whose weight is itself an input."""

from typing import Any

from features.operators.recursive import one_value
from features.operators.spec import Floats, Param, operator

MEMORY = Param("memory", minimum=1)


@operator(2, (MEMORY,), one_value, int)
def adaptive(
    buf: Any, n: int, out: int, x: int, weight: int, state: Floats, at: int, work: Floats, memory: int
) -> None:
    """Exponential average with the input `weight` on the newest value.

    `memory` is its nominal warm-up: how soon history is forgotten depends on the weights that come.
    """
    value = state[at]
    for i in range(n):
        fresh, alpha = buf[x, i], buf[weight, i]
        if fresh == fresh and alpha == alpha:
            value = value + alpha * (fresh - value) if value == value else fresh
            buf[out, i] = value
        else:
            buf[out, i] = fresh + alpha
    state[at] = value
