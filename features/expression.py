"""Expressions: an immutable tree of columns, numbers and causal operators.

Equality and hashing go by the canonical text, which `features.parser.parse` reads back to the same tree.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from core.errors import ConfigurationError
from features.layout import COLUMNS
from features.operators import OPERATORS

INFIX = {"gt": (1, ">"), "ge": (1, ">="), "add": (2, "+"), "sub": (2, "-"), "mul": (3, "*"), "div": (3, "/")}
_NEGATION, _ATOM = 4, 5


@dataclass(frozen=True)
class Expression:
    """Base of the tree; `text` is canonical."""

    text: str

    @property
    def warmup(self) -> int:
        """Bars before the first defined value: the index of the first defined row."""
        return 0

    @property
    def precedence(self) -> int:
        return _ATOM

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Column(Expression):
    """A column of the bar; `time` is its close in epoch seconds, UTC."""

    def __post_init__(self) -> None:
        if self.text not in COLUMNS:
            raise ConfigurationError(f"unknown column {self.text!r}: columns are {', '.join(COLUMNS)}")


@dataclass(frozen=True)
class Constant(Expression):
    """A finite number."""

    text: str = field(init=False)
    value: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ConfigurationError(f"number {self.value}: must be finite")
        object.__setattr__(self, "text", format_number(self.value))

    @property
    def precedence(self) -> int:
        return _ATOM if self.text[0] != "-" else _NEGATION


@dataclass(frozen=True)
class Call(Expression):
    """An operator applied to inputs; refuses what would look ahead (a lag or window below its minimum)."""

    text: str = field(init=False, compare=True)
    operator: str = field(compare=False)
    inputs: tuple[Expression, ...] = field(compare=False)
    params: tuple[float, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        spec = OPERATORS.get(self.operator)
        if spec is None:
            raise ConfigurationError(f"unknown operator {self.operator!r}")
        if len(self.inputs) != spec.inputs or len(self.params) != len(spec.params):
            wanted = [f"input {i + 1}" for i in range(spec.inputs)] + [param.name for param in spec.params]
            given = len(self.inputs) + len(self.params)
            raise ConfigurationError(f"{self.operator} takes ({', '.join(wanted)}), not {given} arguments")
        for param, value in zip(spec.params, self.params, strict=True):
            param.check(self.operator, value)
        object.__setattr__(self, "text", _call_text(self))

    @cached_property
    def warmup(self) -> int:  # type: ignore[override]
        spec = OPERATORS[self.operator]
        own = spec.warmup(*self.params)
        return max(
            argument.warmup + (own if position < spec.remembered else 0)
            for position, argument in enumerate(self.inputs)
        )

    @property
    def precedence(self) -> int:
        if self.operator == "neg":
            return _NEGATION
        return INFIX[self.operator][0] if self.operator in INFIX else _ATOM


def subexpressions(expression: Expression) -> Iterator[Expression]:
    """The expression itself and everything in it; what stands in it twice comes twice."""
    yield expression
    if isinstance(expression, Call):
        for argument in expression.inputs:
            yield from subexpressions(argument)


def operators_of(expression: Expression) -> set[str]:
    """Names of the operators that an expression applies."""
    return {node.operator for node in subexpressions(expression) if isinstance(node, Call)}


def format_number(value: float) -> str:
    """The shortest text that reads back to the same float; whole numbers without a fraction."""
    whole = value == int(value) and abs(value) < 1e15 and not (value == 0 and math.copysign(1, value) < 0)
    return str(int(value)) if whole else repr(value)


def _call_text(call: Call) -> str:
    if call.operator in INFIX:
        strength, sign = INFIX[call.operator]
        left, right = call.inputs
        # comparisons do not chain; the others group from the left
        return f"{_wrap(left, strength + (strength == 1))} {sign} {_wrap(right, strength + 1)}"
    if call.operator == "neg":
        return f"-{_wrap(call.inputs[0], _ATOM)}"
    arguments = [*(argument.text for argument in call.inputs), *map(format_number, call.params)]
    return f"{call.operator}({', '.join(arguments)})"


def _wrap(expression: Expression, strength: int) -> str:
    return expression.text if expression.precedence >= strength else f"({expression.text})"
