"""Lists of JSON numbers into float32 by the machine code of `features.numerals`: no number is an object."""

import ctypes
import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from features import layout, native

# two results of the machine code that nobody reads
_scrap = np.zeros(2)
_FIRST, _SECOND = _scrap.ctypes.data, _scrap.ctypes.data + 8


def prepare() -> None:
    """Compile or load the machine code, before a request needs it."""
    _reader()


def numbers_at(text: bytes, start: int) -> tuple[NDArray[np.float32], int] | None:
    """The numbers of the list that begins at `start`, nested up to three deep, and the place after it.

    Shaped as they are nested; null is NaN. Each is float32(float64(number)), bit for bit. None for what is
    not JSON, not even, or rare: the general way tells.
    """
    values = np.empty((len(text) - start) // 2 + 1, dtype=np.float32)
    context = np.zeros(layout.NUMERALS, dtype=np.int64)
    context[layout.VALUES_AT], context[layout.CAPACITY] = values.ctypes.data, len(values)
    context[layout.LENGTH], context[layout.START] = len(text), start
    _reader()(_FIRST, _SECOND, text, context.ctypes.data)
    count, end, depth, *sizes = context[layout.COUNT :].tolist()
    return None if count < 0 else (values[:count].reshape(sizes[:depth]), end)


@functools.cache
def _reader() -> Callable[[int, int, bytes, int], int]:
    address = ctypes.c_void_p
    signature = ctypes.PYFUNCTYPE(ctypes.c_int32, address, address, ctypes.c_char_p, address)
    return signature(native.addresses(("numerals",))[0])
