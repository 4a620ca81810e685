"""Compiled programs kept beside the kernels, so that a start reads arrays instead of hundreds of expressions.

A file's name is a digest of the definitions and of the sources that shape a program; a damaged or missing one
is made again.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable

import numpy as np

from core.files import read_sealed, write_sealed
from core.settings import kernel_cache
from features import native
from features.program import Program

_ARRAYS = {"warmups": "<i8", "columns": "<i8", "code": "<i4", "params": "<f8", "initial_state": "<f8"}
Definitions = tuple[tuple[str, str], ...]
# fewer features are compiled in less time than it is worth a file
_WORTH = 32


def program(definitions: Definitions, compile: Callable[[], Program]) -> Program:
    """The program of `definitions`, from the cache or from `compile`, whose errors pass."""
    if len(definitions) < _WORTH:
        return compile()
    place = kernel_cache() / f"{_digest(definitions)}.program"
    found = read_sealed(place)
    if found is not None:
        return _read(found)
    made = compile()
    with contextlib.suppress(OSError):  # a read-only home costs a tenth of a second at every start
        write_sealed(place, _written(made))
    return made


def _digest(definitions: Definitions) -> str:
    return hashlib.sha256(json.dumps(definitions).encode() + native.sources()).hexdigest()


def _written(program: Program) -> bytes:
    arrays = {name: np.ascontiguousarray(getattr(program, name), kind) for name, kind in _ARRAYS.items()}
    header = {
        "names": program.names,
        "definitions": program.definitions,
        "operators": program.operators,
        "constants": list(program.constants.items()),
        "slots": program.slots,
        "clocks": program.clocks,
        "waits": program.waits,
        "shapes": {name: array.shape for name, array in arrays.items()},
    }
    return b"\n".join([json.dumps(header).encode(), b"".join(array.tobytes() for array in arrays.values())])


def _read(data: bytes) -> Program:
    head, _, body = data.partition(b"\n")
    header, start, arrays = json.loads(head), 0, {}
    for name, kind in _ARRAYS.items():
        shape = header["shapes"][name]
        array = np.frombuffer(body, kind, int(np.prod(shape)), start).reshape(shape)
        arrays[name], start = array.astype(array.dtype.newbyteorder("=")), start + array.nbytes
    return Program(
        names=tuple(header["names"]),
        definitions=header["definitions"],
        operators=tuple(header["operators"]),
        constants={int(slot): float(value) for slot, value in header["constants"]},
        slots=header["slots"],
        clocks=header["clocks"],
        waits=tuple((place, bars) for place, bars in header["waits"]),
        **arrays,
    )
