"""Numbers on the wire into float32 arrays: strict JSON, or the bytes of the binary tensor extension."""

import functools
import struct
from math import prod
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.errors import BadRequest
from serving.http import decode

MAX_WINDOWS = 4096
# values above this are not worth a tuple of arguments
_PACKED = 1 << 17
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
    if len(values) <= _PACKED:
        try:
            # a third of what numpy takes to look at every item; refuses lists and None
            return np.frombuffer(_packer(len(values)).pack(*values), dtype=np.float64)
        except struct.error:
            pass
    return np.array(values, dtype=np.float64)


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
