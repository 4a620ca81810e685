"""Named expressions compiled to the arrays that the engine runs.

Every distinct sub-expression becomes one operation; `features.schedule` says when it runs and where the
result stands.
"""

import ctypes
import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import ConfigurationError
from features import layout, native
from features.expression import Call, Constant, Expression, subexpressions
from features.operations import Node, Operation, leaves, operations, settled
from features.operators import CROSS_SECTIONS, KERNELS, WORK_ROWS
from features.schedule import alike_in, allocate, by_kernel

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Buffers = tuple[Floats, Floats]
# raised when kernels change what they compute or remember, so that older checkpoints are refused
ENGINE_VERSION = 2
# values remembered by one program: 1 GiB, and places that fit the code
MAX_STATE = 2**27
ALONE = (
    "compares symbols, and here is one alone: build a universe, with "
    "`bellwether features --universe DIR --compute DIR` or features.build_universe"
)
# two results that nobody reads, and the pointer to the engine's one argument
_ABI = (ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
# a long block lets other threads run; for one bar handing over would cost more than the bar
_LOOP, _STEP = ctypes.CFUNCTYPE(*_ABI), ctypes.PYFUNCTYPE(*_ABI)


@dataclass(frozen=True)
class Program:
    """A compiled set of features; holds no running state.

    `operators` are those in use; `columns` the rows of a bar's columns that are read; `code`, `params`:
    see `features.layout`; `waits` the place in the state of each count of bars since a feature's coarser
    timeframe is warm, and how many it needs.
    """

    names: tuple[str, ...]
    definitions: dict[str, str]
    warmups: Integers
    operators: tuple[str, ...]
    columns: Integers
    code: npt.NDArray[np.int32]
    params: Floats
    constants: dict[int, float]
    slots: int
    clocks: int
    waits: tuple[tuple[int, int], ...]
    initial_state: Floats

    @functools.cached_property
    def warmup(self) -> int:
        """Bars before every feature is defined: the index of the first complete row.

        The least possible when a feature uses a coarser timeframe: see `complete`.
        """
        return int(self.warmups.max(initial=0))

    def complete(self, state: Floats) -> int:
        """Bars up to now at which every feature was past its warm-up, the newest included."""
        settled = (int(state[place]) - bars for place, bars in self.waits)
        return max(0, min([int(state[0]) - self.warmup, *settled]))

    @functools.cached_property
    def digest(self) -> bytes:
        """SHA-256 [32] of names, definitions, engine version and where in the state everything stands.

        What a checkpoint belongs to: places read from another layout would lead kernels out of their memory.
        """
        lines = [f"{name}={text}\n" for name, text in self.definitions.items()]
        kernels = [self.operators[place] for place in self.code[:, layout.OP]]
        text = "".join([f"{ENGINE_VERSION}\n", *lines, *(f"{kernel}\n" for kernel in kernels)])
        places = self.code[:, layout.STATE].astype("<i4").tobytes()
        return hashlib.sha256(text.encode() + places + self.params.astype("<f8").tobytes()).digest()

    @functools.cached_property
    def kernels(self) -> Integers:
        """Addresses of the machine code of `operators`; compiles what no cache has."""
        return np.array(native.addresses(self.operators), dtype=np.int64)

    def buffers(self, chunk: int) -> Buffers:
        """(buf [slots, chunk + 1] with the constants in place, work [WORK_ROWS * (chunk + 1)])."""
        buf = np.zeros((self.slots, chunk + 1))
        for slot, value in self.constants.items():
            buf[slot] = value
        return buf, np.empty(WORK_ROWS * (chunk + 1))

    def run(self, columns: Floats, state: Floats, buffers: Buffers, out: Floats) -> None:
        """Advance `state` over `columns` [C, N] and write the features to `out` [F, N], both in place."""
        self.bind(columns, state, buffers, out, _LOOP)()

    def step(self, columns: Floats, state: Floats, buffers: Buffers, out: Floats) -> Callable[[], None]:
        """A call that does what `run` does with the arrays' contents at that time, made for one bar."""
        return self.bind(columns, state, buffers, out, _STEP)

    def bind(
        self, columns: Floats, state: Floats, buffers: Buffers, out: Floats, interface: type
    ) -> Callable[[], None]:
        """The engine's loop over these very arrays; ValueError for arrays that machine code would misread."""
        buf, work = buffers
        bars = columns.shape[1]
        _require(columns, (columns.shape[0], bars), self.columns.max(initial=0) < columns.shape[0])
        _require(out, (len(self.names), bars), out.flags.writeable)
        _require(state, self.initial_state.shape, state.flags.writeable)
        whole = buf.shape[1] > 1 and buf.flags.c_contiguous and buf.flags.writeable
        _require(buf, (self.slots, buf.shape[1]), whole)
        _require(work, (WORK_ROWS * buf.shape[1],), work.flags.writeable)
        context = np.zeros(layout.TICKS + self.clocks, dtype=np.int64)
        arrays: dict[int, npt.NDArray[Any]] = {
            layout.CODE_AT: self.code,
            layout.PARAMS_AT: self.params,
            layout.KERNELS_AT: self.kernels,
            layout.INPUTS_AT: self.columns,
            layout.BUF_AT: buf,
            layout.WORK_AT: work,
            layout.STATE_AT: state,
            layout.COLUMNS_AT: columns,
            layout.OUT_AT: out,
        }
        for place, array in arrays.items():
            context[place] = array.ctypes.data
        context[layout.INPUTS], context[layout.OPERATIONS] = len(self.columns), len(self.code)
        context[layout.WIDTH], context[layout.BARS] = buf.shape[1], bars
        context[layout.COLUMNS_STRIDE] = columns.strides[0] // columns.itemsize
        context[layout.OUT_STRIDE] = out.strides[0] // out.itemsize
        loop, scrap = interface(native.addresses(("run",))[0]), np.zeros(2)
        first, second, third = scrap.ctypes.data, scrap.ctypes.data + 8, context.ctypes.data
        kept = (arrays, context, scrap)

        def advance(kept: object = kept) -> None:
            loop(first, second, third)

        return advance


def _require(array: npt.NDArray[np.generic], shape: tuple[int, ...], holds: bool = True) -> None:
    """Machine code checks nothing: an array of another kind would be written over."""
    in_a_row = array.dtype == np.float64 and (array.strides[-1] == 8 or not array.size)
    if array.shape != shape or not in_a_row or not array.flags.aligned or not holds:
        raise ValueError(
            f"array of {array.dtype} {array.shape}: expected writeable contiguous float64 {shape}"
        )


def compile_program(
    definitions: Mapping[str, Expression], columns: Sequence[str] = layout.COLUMNS, *, across: bool = False
) -> Program:
    """Compile named expressions; two names may not share one definition.

    `columns` are the texts of what is given, in the order of the rows that the program will read. A row is
    one symbol over time; `across`: all symbols, one time after another, and every operator a cross-section.
    """
    names, roots = tuple(definitions), tuple(definitions.values())
    if not names:
        raise ConfigurationError("no features: at least one definition is needed")
    _refuse_twins(definitions)
    # a cross-section has no history of its own to wait for
    emitted = [Node(root if across else settled(root)) for root in roots]
    order = by_kernel(operations((node.expression for node in emitted), columns))
    compared = {node.expression for node in order if order[node].kernel in CROSS_SECTIONS}
    if compared and not across:
        raise ConfigurationError(_comparisons(definitions, compared))
    given = [node for node in leaves(order) if not isinstance(node.expression, Constant)]
    alike = alike_in(order)
    slots, constants, outs, count = allocate(order, given, alike)
    emit = {node: number for number, node in enumerate(emitted)}
    kernels = tuple(dict.fromkeys(operation.kernel for operation in order.values()))
    clocks = {None: 0} | {
        timeframe: number
        for number, timeframe in enumerate(
            (operation.drives for operation in order.values() if operation.drives), start=1
        )
    }
    code = np.zeros((len(order), layout.CODE_WIDTH), dtype=np.int32)
    params = np.zeros((len(order), layout.MAX_PARAMS))
    sizes = [_state_of(operation) for operation in order.values()]
    _refuse_memory(zip(order, sizes, strict=True))
    state = [np.zeros(1)]  # the engine's count of bars
    waits: list[tuple[int, int]] = []
    offset = 1
    for k, (node, operation) in enumerate(order.items()):
        zeros, unknowns = sizes[k]
        inputs = [slots[k][source] for source in operation.inputs]
        code[k, layout.OP], code[k, layout.OUT] = kernels.index(operation.kernel), outs[k]
        code[k, layout.ALIKE] = alike[k]
        code[k, layout.STATE], code[k, layout.EMIT] = offset, emit.get(node, -1)
        code[k, layout.WARMUP] = 0 if across else node.expression.warmup
        code[k, layout.CLOCK] = clocks[operation.timeframe]
        code[k, layout.DRIVES] = clocks[operation.drives]
        code[k, layout.FIRST_INPUT : layout.FIRST_INPUT + len(inputs)] = inputs
        params[k, : len(operation.params)] = operation.params
        if operation.kernel == "settled":
            waits.append((offset + 1, int(operation.params[1])))
        state += [np.zeros(zeros), np.full(unknowns, np.nan)]
        offset += zeros + unknowns
    return Program(
        names=names,
        definitions={name: root.text for name, root in definitions.items()},
        warmups=np.array([root.warmup for root in roots], dtype=np.int64),
        operators=kernels,
        columns=np.array([columns.index(node.expression.text) for node in given], dtype=np.int64),
        code=code,
        params=params,
        constants=constants,
        slots=count,
        clocks=len(clocks),
        waits=tuple(waits),
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


def _state_of(operation: Operation) -> tuple[int, int]:
    """How many values an operation remembers that start at 0, and how many that start as NaN."""
    state = KERNELS[operation.kernel].state
    return state(*operation.params) if state else (0, 0)


def _refuse_memory(sizes: Iterable[tuple[Node, tuple[int, int]]]) -> None:
    values = {node: zeros + unknowns for node, (zeros, unknowns) in sizes}
    if (total := 1 + sum(values.values())) > MAX_STATE:
        most = max(values, key=lambda node: values[node])
        raise ConfigurationError(
            f"the features would remember {total} values of 8 bytes: at most {MAX_STATE}; "
            f"shorten windows, such as that of {most.expression.text}, or leave features out"
        )


def _comparisons(definitions: Mapping[str, Expression], compared: set[Expression]) -> list[str]:
    return [
        f"feature {name!r}: {text} {ALONE}"
        for name, root in definitions.items()
        for text in sorted(node.text for node in compared.intersection(subexpressions(root)))
    ]
