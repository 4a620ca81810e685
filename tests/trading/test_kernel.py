"""The compiled account against the plain one, and the laws of accounting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading import kernel, reference

MOVES = st.floats(-0.03, 0.03)
PROFILE = settings(deadline=None, max_examples=150)


@st.composite
def markets(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Opens, closes, targets, cost rate; moves too small to ruin a short."""
    n = draw(st.integers(2, 25))
    moves = np.array(draw(st.lists(MOVES, min_size=2 * n, max_size=2 * n)))
    prices = 100 * np.cumprod(1 + moves)
    targets = np.array(draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=n, max_size=n)), dtype=np.int8)
    rate = draw(st.sampled_from([0.0, 0.0001, 0.002, 0.05]))
    return prices[::2].copy(), prices[1::2].copy(), targets, rate


@PROFILE
@given(markets())
def test_kernel_equals_reference(market):
    opens, closes, targets, rate = market
    net, gross, position, trades = kernel.simulate(opens, closes, targets, rate)
    expected = reference.simulate(opens.tolist(), closes.tolist(), targets.tolist(), rate)
    np.testing.assert_allclose(net, expected[0], atol=1e-12)
    np.testing.assert_allclose(gross, expected[1], atol=1e-12)
    assert position.tolist() == expected[2]
    np.testing.assert_allclose(trades, np.array(expected[3]).reshape(-1, 7), atol=1e-11)


@PROFILE
@given(markets())
def test_costs_only_lower_every_return(market):
    opens, closes, targets, rate = market
    net, gross, _, _ = kernel.simulate(opens, closes, targets, rate)
    free, _, _, _ = kernel.simulate(opens, closes, targets, 0.0)
    np.testing.assert_allclose(gross, free, atol=1e-12)
    assert (net <= gross + 1e-15).all()


@PROFILE
@given(markets())
def test_profits_of_trades_add_up_to_the_total(market):
    net, _, _, trades = kernel.simulate(*market)
    assert trades[:, kernel.PROFIT].sum() == pytest.approx(np.prod(1 + net) - 1, abs=1e-12)


@PROFILE
@given(markets(), st.data())
def test_future_bars_change_nothing_before_them(market, data):
    opens, closes, targets, rate = market
    cut = data.draw(st.integers(1, len(opens) - 1))
    later_opens, later_closes, later_targets = opens.copy(), closes.copy(), targets.copy()
    later_opens[cut:] *= 1.5
    later_closes[cut:] *= 0.7
    later_targets[cut:] = 0
    net, _, position, _ = kernel.simulate(opens, closes, targets, rate)
    other, _, other_position, _ = kernel.simulate(later_opens, later_closes, later_targets, rate)
    # bar `cut` itself moves; what was earned on bars before it does not
    np.testing.assert_array_equal(net[: cut - 1], other[: cut - 1])
    np.testing.assert_array_equal(position[: cut - 1], other_position[: cut - 1])


def test_decision_at_close_is_filled_at_the_next_open():
    opens, closes = np.array([10.0, 11.0, 12.0, 15.0]), np.array([10.5, 11.5, 14.0, 16.0])
    net, _, position, trades = kernel.simulate(opens, closes, np.array([1, 0, 0, 0], dtype=np.int8), 0.0)
    np.testing.assert_allclose(net, [11.5 / 11 - 1, 12 / 11.5 - 1, 0.0])
    assert position.tolist() == [1, 0, 0]
    assert trades[0, [kernel.ENTRY, kernel.EXIT]].tolist() == [1, 2]
    assert trades[0, kernel.PROFIT] == pytest.approx(12 / 11 - 1)


def test_reversal_pays_for_both_trades():
    prices = np.full(4, 100.0)
    net, gross, _, trades = kernel.simulate(prices, prices, np.array([1, -1, 0, 0], dtype=np.int8), 0.01)
    assert (gross == 0).all()
    factor = (1 - 0.01) / (1 + 0.01)
    np.testing.assert_allclose(np.prod(1 + net), factor**2)
    assert len(trades) == 2
    assert trades[:, kernel.COST].sum() == pytest.approx(1 - factor**2)


def test_short_against_a_doubling_price_loses_everything_and_no_more():
    opens, closes = np.array([10.0, 10.0, 25.0, 5.0, 5.0]), np.array([10.0, 10.0, 25.0, 5.0, 5.0])
    targets = np.full(5, -1, dtype=np.int8)
    net, gross, position, trades = kernel.simulate(opens, closes, targets, 0.001)
    np.testing.assert_allclose(net[1:], [-1, 0, 0])
    assert gross[1] == -1
    assert position.tolist() == [-1, 0, 0, 0]
    assert trades[:, kernel.PROFIT].tolist() == [-1.0]
    closes[1] = 25.0
    net, _, position, trades = kernel.simulate(opens, closes, targets, 0.001)
    np.testing.assert_allclose(net, [-1, 0, 0, 0])
    assert position.tolist() == [-1, 0, 0, 0]
    assert trades[:, kernel.PROFIT].tolist() == [-1.0]
