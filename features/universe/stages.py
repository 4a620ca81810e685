"""Definitions cut into stages: each symbol on its own, a comparison at each time, each on its own again."""

import functools
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from features import native
from features.catalogue import definitions as catalogue
from features.expression import Call, Constant, Expression, subexpressions
from features.layout import COLUMNS
from features.operators import CROSS_SECTIONS
from features.parser import parse_all
from features.program import Program, compile_program


@dataclass(frozen=True)
class Stage:
    """What is compared at one depth of nesting.

    `arguments` makes rows of values of one symbol from `Plan.columns`; `comparison` reads those rows of all
    symbols, one time after another and an infinity after each, and makes the rows `results` of the columns.
    """

    arguments: Program
    comparison: Program
    results: slice


@dataclass(frozen=True)
class Plan:
    """`features` of a symbol from its `columns`: those of its bars, then the results of every stage.

    `definitions` has the canonical text of every feature.
    """

    definitions: dict[str, str]
    columns: tuple[str, ...]
    stages: tuple[Stage, ...]
    features: Program

    @property
    def programs(self) -> tuple[Program, ...]:
        """What runs on each symbol, in order."""
        return (*(stage.arguments for stage in self.stages), self.features)

    def compile(self) -> None:
        """Have the machine code of all programs in the cache, so that no two processes compile it."""
        for program in (*self.programs, *(stage.comparison for stage in self.stages)):
            native.addresses((*program.operators, "run"))

    @functools.cached_property
    def digest(self) -> bytes:
        """SHA-256 [32] of all programs."""
        return hashlib.sha256(b"".join(program.digest for program in self.programs)).digest()


def cut(definitions: Mapping[str, str] | None = None) -> Plan:
    """The plan of `definitions` (None: all of catalogue `full`); ConfigurationError lists every fault."""
    return _cut(tuple((catalogue() if definitions is None else definitions).items()))


@functools.lru_cache(maxsize=16)
def _cut(definitions: tuple[tuple[str, str], ...]) -> Plan:
    roots = parse_all(dict(definitions))
    levels = _levels(dict.fromkeys(call for root in roots.values() for call in _comparisons(root)))
    columns = (*COLUMNS, *(call.text for level in levels for call in level))
    stages, done = [], len(COLUMNS)
    for level in levels:
        inputs = {call.text: _operation(call.inputs[0]) for call in level}
        rows = {root.text: root for root in inputs.values()}
        comparisons = {call.text: Call(call.operator, (inputs[call.text],)) for call in level}
        stages.append(
            Stage(
                compile_program(rows, columns),
                compile_program(comparisons, tuple(rows), across=True),
                slice(done, done + len(level)),
            )
        )
        done += len(level)
    features = {name: _operation(root) for name, root in roots.items()}
    texts = {name: root.text for name, root in roots.items()}
    return Plan(texts, columns, tuple(stages), compile_program(features, columns))


def _comparisons(root: Expression) -> Iterator[Call]:
    calls = (node for node in subexpressions(root) if isinstance(node, Call))
    return (call for call in calls if call.operator in CROSS_SECTIONS)


def _levels(comparisons: Mapping[Call, None]) -> list[list[Call]]:
    """Comparisons by how deep others are nested in them, those without any first."""
    levels: list[list[Call]] = []
    for call in comparisons:
        depth = _depth(call)
        levels += [[] for _ in range(depth - len(levels))]
        levels[depth - 1].append(call)
    return levels


def _depth(expression: Expression) -> int:
    if not isinstance(expression, Call):
        return 0
    return max(map(_depth, expression.inputs)) + (expression.operator in CROSS_SECTIONS)


def _operation(root: Expression) -> Expression:
    """`root`, or what has its bits and is an operation where a program is only given it: times 1."""
    given = not isinstance(root, Call) or root.operator in CROSS_SECTIONS
    return Call("mul", (root, Constant(1.0))) if given else root
