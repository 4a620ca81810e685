"""What the service says about one bar."""

from typing import Literal

import msgspec

Side = Literal["strong_buy", "buy", "hold", "sell", "strong_sell"]


class Thresholds(msgspec.Struct, frozen=True):
    """Probability of "up" at which a signal changes side; strong_sell < sell < buy < strong_buy."""

    strong_buy: float
    buy: float
    sell: float
    strong_sell: float


def side(probability: float, thresholds: Thresholds) -> Side:
    """The side of a probability of "up"; a bound belongs to the stronger side."""
    if probability >= thresholds.strong_buy:
        return "strong_buy"
    if probability >= thresholds.buy:
        return "buy"
    if probability <= thresholds.strong_sell:
        return "strong_sell"
    if probability <= thresholds.sell:
        return "sell"
    return "hold"


class Signal(msgspec.Struct, frozen=True):
    """A prediction for one bar with its pedigree; times are bar closes in UTC, ISO 8601.

    `probability` is of "up", whatever the classes; it is None while the features warm up, when there are no
    others either. `class_probabilities` are those of the model's target, such as down, flat and up, or wrong
    and right. `side` is "hold" whenever `tradable` is false, and `reasons` says why.
    """

    symbol: str
    timeframe: str
    bar_time: str
    probability: float | None
    class_probabilities: dict[str, float]
    base_probabilities: dict[str, float]
    confidence: float | None
    side: Side
    tradable: bool
    reasons: list[str]
    model: str
    model_version: str
    data_hash: str
    latency_ms: float
