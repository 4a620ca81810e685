"""Whether bars are enough for features, and of the right timeframe; when the features are warm."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from core.errors import ConfigurationError, DataError
from core.timeframe import Timeframe
from features.expression import Expression, On, subexpressions
from features.parser import parse

Floats = npt.NDArray[np.float64]


def warm_rows(times: Floats, definitions: Mapping[str, str]) -> dict[str, int]:
    """The row of each feature's first value over bars that close at `times` [N]; N or more when none has.

    `times` are epoch seconds UTC. The row is the expression's warm-up, except where a coarser timeframe is
    used: that takes as long as its bars take to close.
    """
    return {name: _warm_row(parse(text), times) for name, text in definitions.items()}


def _warm_row(root: Expression, times: Floats) -> int:
    row = root.warmup
    for wait in root.waits:
        # the coarse bar in which history begins does not count
        ends = np.append(np.unique(wait.timeframe.ends(times))[1:], np.full(wait.closed, np.inf))
        row = max(row, int(np.searchsorted(times, ends[wait.closed - 1])) + wait.bars)
    return row


def require_history(chosen: Mapping[str, str], times: Floats) -> None:
    """DataError names every feature whose first value would come after the last of the bars at `times`."""
    slow = [
        f"{name} after {_needed(parse(chosen[name]))}"
        for name, row in warm_rows(times, chosen).items()
        if row >= len(times)
    ]
    if slow:
        raise DataError(
            f"{len(times)} bars, and the first value of these features comes later: {', '.join(slow)}; "
            "add history, shorten the window, or leave the feature out"
        )


def _needed(root: Expression) -> str:
    waits = (f" and {wait.closed} whole bars of {wait.timeframe}" for wait in sorted(root.waits))
    return f"{root.warmup}{''.join(waits)}"


def require_coarser(chosen: Mapping[str, str], timeframe: Timeframe) -> None:
    """ConfigurationError names every `on` whose bars cannot be made of bars of `timeframe`."""
    faults = [
        f"{name}: {node.text} on bars of {timeframe}: its timeframe must be 2, 3, ... times as long, "
        f"such as {Timeframe(2 * timeframe.seconds)}"
        for name, text in chosen.items()
        for node in dict.fromkeys(subexpressions(parse(text)))
        if isinstance(node, On)
        if node.timeframe <= timeframe or node.timeframe.seconds % timeframe.seconds
    ]
    if faults:
        raise ConfigurationError(faults)
