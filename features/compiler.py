"""Makes object files of kernels with numba: `python -m features.compiler DIRECTORY OPERATOR ...`.

`features.native` starts it when its cache lacks one.
"""

import ctypes
import dis
import functools
import signal
import sys
import types as python
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from features.layout import CODE_WIDTH, FIRST_INPUT, MAX_PARAMS, OUT, STATE
from features.native import PROGRAMS, keep, symbol_of, target_machine
from features.operators import KERNELS
from features.operators.spec import LANES, Operator, njit

FLOATS = types.CPointer(types.float64)
INTEGERS = types.CPointer(types.int64)
SHORTS = types.CPointer(types.int32)
# buf, state, work, code from a row on, params from a row on, rows that are alike, bars, length of a buf row
ENTRY = types.void(FLOATS, FLOATS, FLOATS, SHORTS, FLOATS, types.int64, types.int64, types.int64)
BYTES, SINGLES = types.CPointer(types.uint8), types.CPointer(types.float32)
WHOLE = {"run": types.void(INTEGERS), "numerals": types.void(BYTES, INTEGERS)}
"""The signatures of `features.native.PROGRAMS`."""
_ROWS = types.Array(types.float64, 2, "C")
_UNBOUNDED = 1 << 40
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def object_file(name: str) -> bytes:
    """Compile an operator, or one of the PROGRAMS."""
    if name in PROGRAMS:
        entry, signature = getattr(import_module(PROGRAMS[name]), name), WHOLE[name]
    else:
        entry, signature = _entry(KERNELS[name]), ENTRY
    compiled = _compile(entry)
    # loops over several statistics compare many addresses before they may run in vectors
    llvm.set_option("", "-runtime-memory-check-threshold=128")
    compiled.compile(signature)
    return _emit(compiled, symbol_of(name))


def _compile(function: Callable[..., Any]) -> Any:
    """A numba function without fastmath: reassociation would make results depend on the block size."""
    compile = numba.njit(
        error_model="numpy", forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False
    )
    return compile(_linked(function))


def _linked(function: Any) -> Any:
    """A copy of a kernel in which the helpers that it calls are numba functions too."""
    called = {
        name: _helper(function.__globals__[name])
        for name in _globals_read(function)
        if _is_marked(function.__globals__.get(name))
    }
    cells = [
        python.CellType(_helper(cell.cell_contents)) if _is_marked(cell.cell_contents) else cell
        for cell in function.__closure__ or ()
    ]
    return python.FunctionType(
        function.__code__, {**function.__globals__, **called}, function.__name__, None, tuple(cells)
    )


@functools.cache
def _helper(function: Callable[..., Any]) -> Any:
    return _compile(function)


def _globals_read(function: Any) -> set[str]:
    return {each.argval for each in dis.get_instructions(function) if each.opname == "LOAD_GLOBAL"}


def _is_marked(value: object) -> bool:
    return isinstance(value, python.FunctionType) and hasattr(value, "compiled")


def _emit(compiled: Any, symbol: str) -> bytes:
    (overload,) = compiled.overloads.values()
    module = llvm.parse_assembly(compiled.inspect_llvm(overload.signature.args))
    exported = overload.fndesc.llvm_func_name
    for function in module.functions:
        if function.name == exported:
            function.name = symbol
        elif not function.is_declaration:
            function.linkage = "internal"
    for variable in module.global_variables:
        if not variable.is_declaration:
            variable.linkage = "internal"
    machine = target_machine()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    return bytes(machine.emit_object(module))


def _entry(operator: Operator) -> Callable[..., None]:
    """A kernel behind the signature that all operators share."""
    kernel, count = operator.kernel, operator.inputs
    inputs = njit(_INPUTS[count])
    params = njit(_PARAMS[tuple(param.integer for param in operator.params)])
    kernel = njit(kernel)

    def pure(buf: Any, state: Any, work: Any, code: Any, p: Any, alike: int, n: int, width: int) -> None:
        if n == 1:  # the stream: compiled apart, without loops over bars
            for k in range(alike):
                row = row_of(code, k * CODE_WIDTH)
                kernel(rows(buf, width), 1, row[OUT], *inputs(row), *params(p, k))
        else:
            for k in range(alike):
                row = row_of(code, k * CODE_WIDTH)
                kernel(rows(buf, width), n, row[OUT], *inputs(row), *params(p, k))

    def remembering(
        buf: Any, state: Any, work: Any, code: Any, p: Any, alike: int, n: int, width: int
    ) -> None:
        for k in range(alike):
            row = row_of(code, k * CODE_WIDTH)
            kernel(rows(buf, width), n, row[OUT], *inputs(row), state, row[STATE], work, *params(p, k))

    if operator.together:
        return _abreast(kernel, operator.together)
    return remembering if operator.state else pure


def _abreast(kernel: Callable[..., None], together: Callable[..., None]) -> Callable[..., None]:
    """An operator with one input and one whole parameter, LANES at once where there are as many bars."""
    together = njit(together)

    def abreast(buf: Any, state: Any, work: Any, code: Any, p: Any, alike: int, n: int, width: int) -> None:
        values = rows(buf, width)
        if n == 1 or alike == 1:
            for k in range(alike):
                row = row_of(code, k * CODE_WIDTH)
                window = int(p[MAX_PARAMS * k])
                kernel(values, n, row[OUT], row[FIRST_INPUT], state, row[STATE], work, window)
            return
        for first in range(0, alike, LANES):
            # past the last one it is done again, to the same values
            lanes = lanes_from(first, alike)
            together(
                values,
                n,
                field(code, lanes, OUT),
                field(code, lanes, FIRST_INPUT),
                state,
                field(code, lanes, STATE),
                work,
                windows(p, lanes),
            )

    return abreast


@njit
def lanes_from(first: int, alike: int) -> tuple[int, int, int, int]:
    """The four places from `first` on, none past the last."""
    last = alike - 1
    return first, min(first + 1, last), min(first + 2, last), min(first + 3, last)


@njit
def field(code: Any, lanes: Any, offset: int) -> tuple[int, int, int, int]:
    """One column of the code at four places."""
    return (
        int(code[lanes[0] * CODE_WIDTH + offset]),
        int(code[lanes[1] * CODE_WIDTH + offset]),
        int(code[lanes[2] * CODE_WIDTH + offset]),
        int(code[lanes[3] * CODE_WIDTH + offset]),
    )


@njit
def windows(p: Any, lanes: Any) -> tuple[int, int, int, int]:
    """The first parameter at four places."""
    return (
        int(p[lanes[0] * MAX_PARAMS]),
        int(p[lanes[1] * MAX_PARAMS]),
        int(p[lanes[2] * MAX_PARAMS]),
        int(p[lanes[3] * MAX_PARAMS]),
    )


_INPUTS: dict[int, Callable[[Any], tuple[int, ...]]] = {
    1: lambda row: (row[FIRST_INPUT],),
    2: lambda row: (row[FIRST_INPUT], row[FIRST_INPUT + 1]),
    3: lambda row: (row[FIRST_INPUT], row[FIRST_INPUT + 1], row[FIRST_INPUT + 2]),
    4: lambda row: (row[FIRST_INPUT], row[FIRST_INPUT + 1], row[FIRST_INPUT + 2], row[FIRST_INPUT + 3]),
}
_PARAMS: dict[tuple[bool, ...], Callable[[Any, int], tuple[float, ...]]] = {
    (): lambda p, k: (),
    (True,): lambda p, k: (int(p[MAX_PARAMS * k]),),
    (False,): lambda p, k: (p[MAX_PARAMS * k],),
    (True, True): lambda p, k: (int(p[MAX_PARAMS * k]), int(p[MAX_PARAMS * k + 1])),
    (True, False): lambda p, k: (int(p[MAX_PARAMS * k]), p[MAX_PARAMS * k + 1]),
    (False, True): lambda p, k: (p[MAX_PARAMS * k], int(p[MAX_PARAMS * k + 1])),
    (False, False): lambda p, k: (p[MAX_PARAMS * k], p[MAX_PARAMS * k + 1]),
}


def _view(array: types.Array, data: Any, shape: list[Any], context: Any, builder: Any) -> Any:
    """A numba array over memory that somebody else owns, C-contiguous."""
    size = context.get_constant(types.intp, 8)
    strides = [size]
    for extent in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], extent))
    view = make_array(array)(context, builder)
    populate_array(view, data=data, shape=shape, strides=strides, itemsize=size, meminfo=None)
    return view._getvalue()


@intrinsic
def rows(typing: Any, data: Any, width: Any) -> Any:
    """The float64 rows of `width` values from pointer `data` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        extent = context.get_constant(types.intp, _UNBOUNDED)
        return _view(_ROWS, arguments[0], [extent, arguments[1]], context, builder)

    return _ROWS(data, width), generate


def _pointer(kind: types.CPointer) -> Any:
    """What makes a pointer of an address."""

    @intrinsic
    def at(typing: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(kind))

        return kind(address), generate

    return at


floats_at, integers_at, shorts_at = _pointer(FLOATS), _pointer(INTEGERS), _pointer(SHORTS)
singles_at = _pointer(SINGLES)


@intrinsic
def eight_at(typing: Any, text: Any, place: Any) -> Any:
    """Eight bytes of `text` from `place` on as one number, the first the lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at = builder.bitcast(builder.gep(arguments[0], [arguments[1]]), ir.IntType(64).as_pointer())
        loaded = builder.load(at)
        loaded.align = 1
        return loaded

    return types.uint64(text, place), generate


@intrinsic
def trailing_zeros(typing: Any, value: Any) -> Any:
    """How many of the low bits of an unsigned number are zero; 64 of zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(value), generate


@intrinsic
def bits_of(typing: Any, value: Any) -> Any:
    """The bits of a double."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.uint64(value), generate


@intrinsic
def row_of(typing: Any, code: Any, offset: Any) -> Any:
    """The pointer `code` moved by `offset` values."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.gep(arguments[0], [arguments[1]])

    return SHORTS(code, offset), generate


@intrinsic
def call(
    typing: Any,
    kernel: Any,
    buf: Any,
    state: Any,
    work: Any,
    code: Any,
    p: Any,
    alike: Any,
    n: Any,
    width: Any,
) -> Any:
    """Call the operator whose machine code is at address `kernel`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        nothing = cgutils.alloca_once(builder, cgutils.voidptr_t)
        takes = [nothing.type, nothing.type, *(argument.type for argument in arguments[1:])]
        function = ir.FunctionType(ir.IntType(32), takes)
        builder.call(
            builder.inttoptr(arguments[0], function.as_pointer()), [nothing, nothing, *arguments[1:]]
        )
        return context.get_dummy_value()

    return types.void(kernel, buf, state, work, code, p, alike, n, width), generate


def main(place: Path, names: Sequence[str]) -> None:
    """Compile operators and put them into the cache at `place`."""
    if sys.platform == "linux":  # whoever waits for the kernels may be killed: end with it
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    for name in names:
        keep(place, name, object_file(name))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
