"""Causal operators: one kernel each, with its arity, parameters, state and warm-up beside it."""

from features.operators import clock, elementwise, moments, order, recursive, window
from features.operators.spec import OPERATORS, WORK_ROWS, Operator

MODULES = (elementwise, clock, window, order, moments, recursive)

__all__ = ["MODULES", "OPERATORS", "WORK_ROWS", "Operator"]
