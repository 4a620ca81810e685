"""Causal operators: one kernel each, with its arity, parameters, state and warm-up beside it."""

from features.operators import (
    adaptive,
    circular,
    clock,
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
)

__all__ = ["KERNELS", "MODULES", "OPERATORS", "WORK_ROWS", "Operator"]
