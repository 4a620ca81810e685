"""Causal operators: one kernel each, with its arity, parameters, state and warm-up beside it."""

from features.operators import (
    adaptive,
    clock,
    elementwise,
    information,
    logic,
    moments,
    order,
    recursive,
    session,
    swing,
    window,
)
from features.operators.spec import OPERATORS, WORK_ROWS, Operator

MODULES = (
    elementwise,
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

__all__ = ["MODULES", "OPERATORS", "WORK_ROWS", "Operator"]
