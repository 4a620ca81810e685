import pytest
from pydantic import TypeAdapter, ValidationError

from core.errors import DataError
from trading.costs import Costs


def test_rate_is_a_fraction_of_the_notional():
    assert Costs(commission_bps=2, slippage_bps=3).rate == pytest.approx(0.0005)


@pytest.mark.parametrize("bps", [-1, float("nan"), 1e5])
def test_impossible_costs(bps):
    with pytest.raises(DataError, match="must be at least 0"):
        _ = Costs(commission_bps=bps).rate


def test_parameters_are_validated_by_pydantic():
    adapter = TypeAdapter(Costs)
    assert adapter.validate_python({"commission_bps": 1}) == Costs(1, 1.0)
    with pytest.raises(ValidationError) as faults:
        adapter.validate_python({"commission_bps": -1, "slipage_bps": 2})
    assert len(faults.value.errors()) == 2
