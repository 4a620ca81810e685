import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.signal import Thresholds, side

LIMITS = Thresholds(strong_buy=0.6, buy=0.55, sell=0.45, strong_sell=0.4)
ORDER = ["strong_sell", "sell", "hold", "buy", "strong_buy"]


@pytest.mark.parametrize(
    ("probability", "expected"),
    [
        (0.0, "strong_sell"),
        (0.4, "strong_sell"),
        (0.45, "sell"),
        (0.5, "hold"),
        (0.55, "buy"),
        (0.6, "strong_buy"),
    ],
)
def test_bounds_belong_to_the_stronger_side(probability: float, expected: str) -> None:
    assert side(probability, LIMITS) == expected


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_higher_probability_is_never_a_lower_side(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert ORDER.index(side(low, LIMITS)) <= ORDER.index(side(high, LIMITS))
