"""What a change of position costs."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Lt

from core.errors import DataError


@dataclass(frozen=True)
class Costs:
    """Basis points (1/100 of a percent) of the notional traded, paid on every change of position.

    commission_bps: the broker's fee. slippage_bps: half the spread and the move against the order.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    commission_bps: Annotated[float, Ge(0), Lt(5000)] = 0.5
    slippage_bps: Annotated[float, Ge(0), Lt(5000)] = 1.0

    @property
    def rate(self) -> float:
        """Cost as a fraction of the notional traded."""
        rate = (self.commission_bps + self.slippage_bps) / 10_000
        if not (self.commission_bps >= 0 and self.slippage_bps >= 0 and rate < 1):
            raise DataError(
                f"commission {self.commission_bps} bps and slippage {self.slippage_bps} bps: "
                "each must be at least 0, and both together less than 10,000"
            )
        return rate
