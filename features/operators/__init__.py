"""Causal operators: one kernel each, with its arity, parameters, state and warm-up beside it."""

from features.operators import (
    adaptive,
    circular,
    clock,
    cross,
    elementwise,
    information,
    logic,
    moments,
    order,
    recursive,
    session,
    swing,
    timeframe,
    window,
)
from features.operators.spec import KERNELS, OPERATORS, WORK_ROWS, Operator

MODULES = (
    elementwise,
    circular,
    logic,
    clock,
    window,
    order,
    moments,
    recursive,
    information,
    session,
    adaptive,
    swing,
    timeframe,
)

# those that compare symbols, for programs over a universe
CROSS_SECTIONS = frozenset(name for name, each in OPERATORS.items() if each.module == cross.__name__)

__all__ = ["CROSS_SECTIONS", "KERNELS", "MODULES", "OPERATORS", "WORK_ROWS", "Operator"]
