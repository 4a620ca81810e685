"""Named expressions compiled to the arrays that the engine runs.

Every distinct sub-expression becomes one operation. Rows of the engine's buffer are reused as soon as their
last reader has run, so the working set stays in the processor's cache.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.errors import ConfigurationError
from features.dispatch import OPCODES
from features.engine import FIRST_INPUT, runner
from features.expression import COLUMNS, Call, Column, Constant, Expression
from features.operators import OPERATORS, WORK_ROWS

Floats = npt.NDArray[np.float64]
MAX_INPUTS = 4
MAX_PARAMS = 2
# raised when kernels change what they compute or remember, so that older checkpoints are refused
ENGINE_VERSION = 1


@dataclass(frozen=True)
class Program:
    """A compiled set of features; holds no running state."""

    names: tuple[str, ...]
    definitions: dict[str, str]
    warmups: npt.NDArray[np.int64]
    code: npt.NDArray[np.int64]
    params: Floats
    constants: dict[int, float]
    slots: int
    initial_state: Floats

    @property
    def warmup(self) -> int:
        """Bars before every feature is defined: the index of the first complete row."""
        return int(self.warmups.max(initial=0))

    @property
    def digest(self) -> bytes:
        """SHA-256 [32] of names, definitions and engine version: what a checkpoint belongs to."""
        lines = [f"{name}={text}\n" for name, text in self.definitions.items()]
        return hashlib.sha256("".join([f"{ENGINE_VERSION}\n", *lines]).encode()).digest()

    def buffers(self, chunk: int) -> tuple[Floats, Floats]:
        """(buf [slots, chunk] with the constants in place, work [WORK_ROWS * chunk])."""
        buf = np.zeros((self.slots, chunk))
        for slot, value in self.constants.items():
            buf[slot] = value
        return buf, np.empty(WORK_ROWS * chunk)

    def run(self, columns: Floats, state: Floats, buffers: tuple[Floats, Floats], out: Floats) -> None:
        """Advance `state` over `columns` [6, N] and write the features to `out` [F, N], both in place."""
        runner()(self.code, self.params, *buffers, state, columns, out)


def compile_program(definitions: Mapping[str, Expression]) -> Program:
    """Compile named expressions; two names may not share one definition."""
    names, roots = tuple(definitions), tuple(definitions.values())
    if not names:
        raise ConfigurationError("no features: at least one definition is needed")
    _refuse_twins(definitions)
    order = _topological(roots)
    slots, constants, outs, count = _allocate(order)
    emit = {root: number for number, root in enumerate(roots)}
    code = np.full((len(order), FIRST_INPUT + MAX_INPUTS), -1, dtype=np.int64)
    params = np.zeros((len(order), MAX_PARAMS))
    state = [np.zeros(1)]  # the engine's count of bars
    offset = 1
    for k, call in enumerate(order):
        spec = OPERATORS[call.operator]
        zeros, unknowns = spec.state(*call.params) if spec.state else (0, 0)
        inputs = [slots[k][argument] for argument in call.inputs]
        code[k, :FIRST_INPUT] = OPCODES.index(call.operator), outs[k], offset, emit.get(call, -1), call.warmup
        code[k, FIRST_INPUT : FIRST_INPUT + len(inputs)] = inputs
        params[k, : len(call.params)] = call.params
        state += [np.zeros(zeros), np.full(unknowns, np.nan)]
        offset += zeros + unknowns
    return Program(
        names=names,
        definitions={name: root.text for name, root in definitions.items()},
        warmups=np.array([root.warmup for root in roots], dtype=np.int64),
        code=code,
        params=params,
        constants=constants,
        slots=count,
        initial_state=np.concatenate(state),
    )


def _refuse_twins(definitions: Mapping[str, Expression]) -> None:
    seen: dict[Expression, str] = {}
    for name, root in definitions.items():
        if not isinstance(root, Call):
            raise ConfigurationError(f"feature {name!r} is {root.text!r}: apply an operator to it")
        if root in seen:
            raise ConfigurationError(f"features {seen[root]!r} and {name!r} are both {root.text!r}: drop one")
        seen[root] = name


def _topological(roots: tuple[Expression, ...]) -> list[Call]:
    """Every distinct call, inputs before users."""
    order: dict[Call, None] = {}

    def visit(node: Expression) -> None:
        if isinstance(node, Call) and node not in order:
            for argument in node.inputs:
                visit(argument)
            order[node] = None

    for root in roots:
        visit(root)
    return list(order)


def _allocate(
    order: list[Call],
) -> tuple[list[dict[Expression, int]], dict[int, float], list[int], int]:
    """Buffer rows: columns and constants keep theirs, results share the rest.

    Returns the row of every input per operation, the constants' rows, the result rows and the row count.
    """
    rows: dict[Expression, int] = {Column(name): slot for slot, name in enumerate(COLUMNS)}
    constants: dict[int, float] = {}
    for node in dict.fromkeys(argument for call in order for argument in call.inputs):
        if isinstance(node, Constant):
            constants[len(rows)] = node.value
            rows[node] = len(rows)
    last_use = {argument: k for k, call in enumerate(order) for argument in call.inputs}
    free: list[int] = []
    count = len(rows)
    inputs: list[dict[Expression, int]] = []
    outs: list[int] = []
    for k, call in enumerate(order):
        # the result's row is taken before the inputs' rows are freed: kernels may not write over an input
        if free:
            slot = free.pop()
        else:
            slot, count = count, count + 1
        inputs.append({argument: rows[argument] for argument in call.inputs})
        rows[call] = slot
        outs.append(slot)
        # a set of texts has no stable order: sort, so that a program is the same in every process
        spent = {
            node for node in (*call.inputs, call) if isinstance(node, Call) and last_use.get(node, k) == k
        }
        free.extend(sorted(rows[node] for node in spent))
    return inputs, constants, outs, count
