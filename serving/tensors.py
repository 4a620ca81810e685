"""Numbers on the wire into float32 arrays: strict JSON, or the bytes of the binary tensor extension."""

import functools
import itertools
import secrets
import struct
from math import prod
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.errors import BadRequest
from serving.http import Request, decode
from serving.numerals import numbers_at

T = TypeVar("T")
MAX_WINDOWS = 4096
# values above this are not worth a tuple of arguments
_PACKED = 1 << 17
MARK = b'[["numbers %b"]]' % secrets.token_hex(16).encode()
"""Stands for a list whose numbers were lifted out of a JSON text: a list too, so that it fits no better, and
none of texts, so that nobody takes it for one that could be shown."""
_by_depth: "list[msgspec.json.Decoder[Any]]" = [
    msgspec.json.Decoder(list[float | None]),
    msgspec.json.Decoder(list[list[float | None]]),
    msgspec.json.Decoder(list[list[list[float | None]]]),
]


class Lifted(NamedTuple):
    """A JSON text in which `MARK` stands for one list, and that list's numbers, shaped as it was nested."""

    text: bytes
    values: NDArray[np.float32]


def lift(text: bytes, start: int, key: bytes) -> Lifted | None:
    """The list of numbers that is the first one after `key`, or `start`, in a JSON text from `start` on.

    None when there is no plain one. No number becomes an object: that takes a quarter of the time. The mark
    cannot be known to a client, so whatever has it for a value had the list; text around it may be anything,
    and is judged by who reads it.
    """
    at = text.find(b"[", max(text.find(key, start), start))
    found = numbers_at(text, at) if at > start else None
    if found is None:
        return None
    values, end = found
    return Lifted(b"%b%b%b" % (text[start:at], MARK, text[end:]), values)


def read_lifted(request: Request, decoder: "msgspec.json.Decoder[T]", key: bytes) -> tuple[T, Lifted | None]:
    """The body, and the numbers lifted out of it, if any; BadRequest as if none had been."""
    lifted = lift(request.text, request.start, key)
    if lifted is not None:
        try:
            return decoder.decode(lifted.text), lifted
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # said of the body as it came
            pass
    return request.decode(decoder), None


def read_json(data: msgspec.Raw | bytes, name: str, lifted: Lifted | None = None) -> NDArray[np.float32]:
    """Numbers nested one to three deep as they are nested; null is NaN. BadRequest for anything else."""
    raw = bytes(data)
    if lifted is not None and raw == MARK:
        return lifted.values
    found = numbers_at(raw, 0)
    if found is not None:
        return found[0]
    values: list[Any] = decode(raw, _by_depth[_depth(raw[:64], name) - 1])
    return from_numbers(values, name)


def from_numbers(values: list[Any], name: str) -> NDArray[np.float32]:
    """Numbers and None, flat or nested evenly; BadRequest when rows differ or a value is beyond FP32."""
    try:
        with np.errstate(over="ignore"):
            array = _flat(values).astype(np.float32)
    except ValueError as error:
        raise BadRequest(
            f"input {name} has rows of different lengths: send flat data, or equal rows"
        ) from error
    return check_range(array, name)


def _flat(values: list[Any]) -> NDArray[np.float64]:
    """As nested as `values`, when they are nested evenly."""
    shape, flat = [len(values)], values
    while flat and isinstance(flat[0], list):
        shape.append(len(flat[0]))
        if any(len(part) != shape[-1] for part in flat):
            raise ValueError("rows of different lengths")
        flat = list(itertools.chain.from_iterable(flat))
    if len(flat) <= _PACKED:
        try:
            # a third of what numpy takes to look at every item; refuses None
            packed = _packer(len(flat)).pack(*flat)
            return np.frombuffer(packed, dtype=np.float64).reshape(shape)
        except struct.error:
            pass
    return np.array(flat, dtype=np.float64).reshape(shape)


@functools.lru_cache(maxsize=64)
def _packer(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}d")


def read_binary(data: bytes, shape: list[int], name: str) -> NDArray[np.float32]:
    """Little-endian FP32, row-major; NaN is a missing feature. BadRequest when it is not `shape`."""
    wanted = 4 * prod(shape)
    if len(data) != wanted:
        raise BadRequest(f"input {name} has {len(data)} bytes, its shape {shape} of FP32 takes {wanted}")
    return check_range(np.frombuffer(data, dtype="<f4"), name).reshape(shape)


def check_range(array: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """The array itself; BadRequest when a value is infinite."""
    if np.isinf(array).any():
        raise BadRequest(f"input {name} has a value beyond the range of FP32")
    return array


def check_shape(shape: list[int], name: str) -> None:
    """BadRequest unless `shape` is [N, T, F] of a sensible size."""
    if len(shape) != 3 or not all(0 < size < 1 << 24 for size in shape) or shape[0] > MAX_WINDOWS:
        raise BadRequest(
            f"input {name} has shape {shape[:8]}: [N, T, F] with 1 <= N <= {MAX_WINDOWS} is expected"
        )


def _depth(start: bytes, name: str) -> int:
    depth = 0
    for byte in start:
        if byte == 0x5B:  # [
            depth += 1
        elif byte not in b" \t\r\n":
            break
    if not 1 <= depth <= 3:
        raise BadRequest(f"input {name} needs a list of numbers, flat or nested up to three deep")
    return depth
