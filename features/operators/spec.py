"""What an operator is: its kernel and everything the compiler needs to know about it.

A kernel folds a block of `n` values. It reads rows of `buf` [slots, chunk], writes row `out`, and keeps
what it must remember in `state[at:]`, so a block of one bar and a block of thousands are the same
arithmetic in the same order. Signature: `(buf, n, out, *inputs, *params)` without state, and
`(buf, n, out, *inputs, state, at, work, *params)` with it; `work` is scratch of WORK_ROWS * chunk values.

Nothing is compiled here: kernels stay plain Python until `features.native` makes machine code of those
that a program uses.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from core.errors import ConfigurationError

Floats = Any
Function = TypeVar("Function", bound=Callable[..., Any])
WORK_ROWS = 25
LANES = 4
_PLUMBING = {"buf", "n", "out", "state", "at", "work"}
MAX_WINDOW = 100_000


def njit(function: Function) -> Function:
    """Mark a helper that kernels call, to be compiled with them."""
    function.compiled = True  # type: ignore[attr-defined]
    return function


@dataclass(frozen=True)
class Param:
    """A number that an operator takes besides its inputs."""

    name: str
    minimum: float = -math.inf
    maximum: float = math.inf
    integer: bool = True

    def check(self, owner: str, value: float) -> float:
        """`value` itself, or ConfigurationError saying the rule."""
        if not math.isfinite(value):
            raise ConfigurationError(f"{owner}: {self.name} {value} must be finite")
        if self.integer and value != int(value):
            raise ConfigurationError(f"{owner}: {self.name} {value:g} must be a whole number of bars")
        if value < self.minimum:
            future = "; a negative one would read the future" if value < 0 and self.integer else ""
            raise ConfigurationError(f"{owner}: {self.name} {value:g} must be >= {self.minimum:g}{future}")
        most = min(self.maximum, MAX_WINDOW) if self.integer else self.maximum
        if value > most:
            raise ConfigurationError(f"{owner}: {self.name} {value:g} must be <= {most:g}")
        return value


WINDOW = Param("window", minimum=1)


@dataclass(frozen=True)
class Operator:
    """A registered operator.

    `state(*params)` gives (zeros, unknowns): how many state values start at 0 and how many, after them,
    start as NaN. `warmup(*params)` gives the bars that this operator adds before its first defined value; it
    applies to the first `remembered` inputs, the others are read at the newest bar only. `together` runs
    LANES of the operator at once, each argument of the kernel being a tuple of as many, in the order in which
    one may read another's result. `arguments` and `meaning` are for people.
    """

    name: str
    module: str
    kernel: Callable[..., None]
    inputs: int
    params: tuple[Param, ...]
    state: Callable[..., tuple[int, int]] | None
    warmup: Callable[..., int]
    remembered: int
    together: Callable[..., None] | None
    arguments: tuple[str, ...]
    meaning: str


# all that has machine code, and of these the ones that an expression may call
KERNELS: dict[str, Operator] = {}
OPERATORS: dict[str, Operator] = {}


def no_warmup(*_: float) -> int:
    """Operators defined at every bar."""
    return 0


def full_window(window: float, *_: float) -> int:
    """A window of w bars is complete at its w-th."""
    return int(window) - 1


def operator(
    inputs: int,
    params: tuple[Param, ...] = (),
    state: Callable[..., tuple[int, int]] | None = None,
    warmup: Callable[..., int] = no_warmup,
    remembered: int | None = None,
    described_by: Callable[..., Any] | None = None,
    together: Callable[..., None] | None = None,
    spoken: bool = True,
) -> Callable[[Function], Function]:
    """Register a block kernel under its own name; `spoken`: expressions may call it.

    The docstring and the argument names of `described_by` (None: of the kernel) say what it means.
    """

    def register(function: Function) -> Function:
        name = function.__name__
        if name in KERNELS:
            raise ConfigurationError(f"operator {name!r} is defined twice")
        kept = inputs if remembered is None else remembered
        source = described_by or function
        arguments = tuple(each for each in inspect.signature(source).parameters if each not in _PLUMBING)
        meaning = " ".join((source.__doc__ or "").split())
        KERNELS[name] = Operator(
            name,
            function.__module__,
            function,
            inputs,
            params,
            state,
            warmup,
            kept,
            together,
            arguments,
            meaning,
        )
        if spoken:
            OPERATORS[name] = KERNELS[name]
        return njit(function)

    return register
