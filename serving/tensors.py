"""Numbers on the wire into float32 arrays: strict JSON, or the bytes of the binary tensor extension."""

import functools
import itertools
import struct
from math import prod
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

try:
    from simdjson import Parser
except ImportError:
    # no wheel for this Python: numbers are read the general way
    Parser = None  # type: ignore[assignment,misc]

from serving.errors import BadRequest
from serving.http import decode

MAX_WINDOWS = 4096
# values above this are not worth a tuple of arguments
_PACKED = 1 << 17
_DATA = b'"data":'
_by_depth: "list[msgspec.json.Decoder[Any]]" = [
    msgspec.json.Decoder(list[float | None]),
    msgspec.json.Decoder(list[list[float | None]]),
    msgspec.json.Decoder(list[list[list[float | None]]]),
]


def read_json(data: msgspec.Raw | bytes, name: str) -> NDArray[np.float32]:
    """Numbers nested one to three deep as they are nested; null is NaN. BadRequest for anything else."""
    raw = bytes(data)
    values: list[Any] = decode(raw, _by_depth[_depth(raw[:64], name) - 1])
    return from_numbers(values, name)


def split_numbers(body: bytes) -> tuple[bytes, NDArray[np.float64]] | None:
    """A JSON body with its one flat `"data": [numbers]` emptied, and these numbers.

    None when it is not so simple, and is left to the general way: another "data" or an escape anywhere, null
    among the numbers, nesting, anything wrong. This one takes half as long, since no number
    becomes an object.
    """
    if Parser is None:
        return None
    at = body.find(_DATA)
    start, end = at + len(_DATA), body.find(b"]", at) + 1
    if at < 0 or end == 0 or body[start : start + 1] != b"[" or body.find(b'"data"') != at:
        return None
    # an escape can spell the same name in another way
    if body.find(b'"data"', end) >= 0 or b"\\" in body[:at] or b"\\" in body[end:]:
        return None
    try:
        parsed: Any = Parser().parse(body[start:end])
        values = np.frombuffer(parsed.as_buffer(of_type="d"))
    except (ValueError, TypeError, RuntimeError):
        return None
    return body[: start + 1] + body[end - 1 :], values


def from_numbers(values: list[Any] | NDArray[np.float64], name: str) -> NDArray[np.float32]:
    """Numbers and None, flat or nested evenly; BadRequest when rows differ or a value is beyond FP32."""
    try:
        with np.errstate(over="ignore"):
            array = _flat(values).astype(np.float32)
    except ValueError as error:
        raise BadRequest(
            f"input {name} has rows of different lengths: send flat data, or equal rows"
        ) from error
    return check_range(array, name)


def _flat(values: list[Any] | NDArray[np.float64]) -> NDArray[np.float64]:
    """As nested as `values`, when they are nested evenly."""
    if isinstance(values, np.ndarray):
        return values
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
