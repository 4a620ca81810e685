"""Expressions: an immutable tree of columns, numbers and causal operators.

Equality and hashing go by the canonical text, which `features.parser.parse` reads back to the same tree.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from core.errors import ConfigurationError
from core.timeframe import Timeframe
from features.layout import COLUMNS
from features.operators import CROSS_SECTIONS, OPERATORS

INFIX = {"gt": (1, ">"), "ge": (1, ">="), "add": (2, "+"), "sub": (2, "-"), "mul": (3, "*"), "div": (3, "/")}
_NEGATION, _ATOM = 4, 5
# shorthands within shorthands multiply: this is some fifty times the longest of the catalogues
MAX_TEXT = 100_000
LONGEST = Timeframe(52 * 7 * 86400)


class Wait(NamedTuple):
    """A value comes `bars` bars after `closed` whole bars of a coarser timeframe are closed."""

    timeframe: Timeframe
    closed: int
    bars: int

    def within(self, other: "Wait") -> bool:
        """Whether who waits for `other` has waited for this."""
        return self.timeframe == other.timeframe and self.closed <= other.closed and self.bars <= other.bars


@dataclass(frozen=True)
class Expression:
    """Base of the tree; `text` is canonical."""

    text: str

    @property
    def warmup(self) -> int:
        """Bars before the first defined value: the index of the first defined row.

        With a coarser timeframe inside it is the least that this can be; `waits` says what it depends on.
        """
        return 0

    @property
    def waits(self) -> frozenset[Wait]:
        """What must have come, besides `warmup` bars, before the first defined value."""
        return frozenset()

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
        text = _call_text(self)
        if len(text) > MAX_TEXT:
            raise ConfigurationError(
                f"{len(text)} characters when shorthands are written out: must be at most {MAX_TEXT}; "
                "split the expression, or nest fewer shorthands"
            )
        object.__setattr__(self, "text", text)

    @cached_property
    def warmup(self) -> int:  # type: ignore[override]
        return max(argument.warmup + own for argument, own in self._remembered())

    @cached_property
    def waits(self) -> frozenset[Wait]:  # type: ignore[override]
        waits = {
            wait._replace(bars=wait.bars + own)
            for argument, own in self._remembered()
            for wait in argument.waits
        }
        return frozenset(
            wait for wait in waits if not any(wait != other and wait.within(other) for other in waits)
        )

    def _remembered(self) -> Iterator[tuple[Expression, int]]:
        """Every input, and the bars of it that are needed before the newest."""
        spec = OPERATORS[self.operator]
        own = spec.warmup(*self.params)
        for position, argument in enumerate(self.inputs):
            yield argument, own if position < spec.remembered else 0

    @property
    def precedence(self) -> int:
        if self.operator == "neg":
            return _NEGATION
        return INFIX[self.operator][0] if self.operator in INFIX else _ATOM


@dataclass(frozen=True)
class On(Call):
    """An expression on the bars of a coarser timeframe: its value at the last of them that is closed.

    Coarse bars are those of `data.resample`: (end - length, end], stamped at their end. One closes at the bar
    that closes at its end or, when that bar is missing, at the first later one. The coarse bar in which
    history begins does not count, so the warm-up is that of the inner expression and one bar more.
    """

    def __post_init__(self) -> None:
        (inner,) = self.inputs
        object.__setattr__(self, "text", f"on('{self.timeframe}', {inner.text})")
        if self.timeframe > LONGEST:
            raise ConfigurationError(f"timeframe {self.timeframe} must be at most {LONGEST}")
        if isinstance(inner, Constant):
            raise ConfigurationError(f"{self.text}: a number is the same on every timeframe")
        inside = operators_of(inner)
        if across := inside & CROSS_SECTIONS:
            raise ConfigurationError(
                f"{self.text}: {min(across)} compares symbols at each of their bars; "
                f"take it outside, such as {min(across)}(on('{self.timeframe}', x))"
            )
        if "on" in inside:
            raise ConfigurationError(
                f"{self.text}: one `on` inside another; combine timeframes side by side, "
                "such as on('1h', close) / on('1d', close)"
            )

    @property
    def timeframe(self) -> Timeframe:
        """Length of the coarser bars."""
        return Timeframe(int(self.params[0]))

    @property
    def warmup(self) -> int:  # type: ignore[override]
        return self.inputs[0].warmup + 1

    @property
    def waits(self) -> frozenset[Wait]:  # type: ignore[override]
        return frozenset({Wait(self.timeframe, self.inputs[0].warmup + 1, 0)})

    @property
    def precedence(self) -> int:
        return _ATOM


def on(timeframe: Timeframe, inner: Expression) -> On:
    """`inner` on bars of `timeframe`; ConfigurationError for a number and for another `on` inside."""
    return On("on", (inner,), (float(timeframe.seconds),))


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
