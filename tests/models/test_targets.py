"""Targets: class names, and the one number of a signal."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DataError
from models.targets import CLASSES, DIRECTION, PRIMARY_SIDE, Target


def two(p: list[float]) -> np.ndarray:
    return np.column_stack([1.0 - np.array(p), np.array(p)])


def test_direction_signals_the_probability_of_up() -> None:
    assert DIRECTION.classes == ("down", "up")
    assert DIRECTION.signal(two([0.2, 0.7])).tolist() == [0.2, 0.7]


def test_a_barrier_signals_up_and_half_of_flat() -> None:
    target = Target.of("barrier", ["a"])
    assert target.classes == ("down", "flat", "up")
    classes = np.array([[0.3, 0.4, 0.3], [0.1, 0.2, 0.7], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert target.signal(classes) == pytest.approx([0.5, 0.8, 0.5, 0.0])


def test_the_signal_of_a_barrier_is_half_the_mean_class_number() -> None:
    classes = np.random.default_rng(1).dirichlet(np.ones(3), 50)
    assert Target("barrier").signal(classes) == pytest.approx(classes @ np.arange(3) / 2.0)


def test_a_meta_signal_sizes_the_side_and_never_turns_it() -> None:
    target = Target.of("meta", ["a", PRIMARY_SIDE])
    assert (target.classes, target.column) == (("wrong", "right"), 1)
    side = np.array([1.0, -3.0, 1.0, -1.0, 0.0, np.nan])
    signal = target.signal(two([0.7, 0.7, 0.4, 0.1, 0.9, 0.9]), side)
    assert signal == pytest.approx([0.7, 0.3, 0.5, 0.5, 0.5, 0.5])


@given(st.floats(0.0, 1.0), st.sampled_from([-1.0, 0.0, 1.0]))
def test_the_probability_of_a_bet_can_be_read_from_its_signal(p: float, side: float) -> None:
    signal = float(Target("meta", 0).signal(two([p]), np.array([side]))[0])
    assert side * (signal - 0.5) >= 0.0
    if side and p > 0.5:
        assert 0.5 + abs(signal - 0.5) == pytest.approx(p, abs=1e-15)
    else:
        assert signal == 0.5


def test_a_meta_target_without_its_primary_is_refused() -> None:
    with pytest.raises(DataError, match=r"needs the feature primary_side: set labels\.primary"):
        Target.of("meta", ["a"])
    with pytest.raises(DataError, match="needs the side"):
        Target("meta", 0).signal(two([0.6]))


def test_every_kind_has_its_classes() -> None:
    assert {kind: Target(kind, 0).classes for kind in CLASSES} == CLASSES
