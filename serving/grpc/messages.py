"""Messages of the Open Inference Protocol into the structs of its REST form, and outputs into messages.

Both forms share one set of checks and their words.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from serving.errors import BadRequest
from serving.grpc import open_inference_pb2 as pb
from serving.protocols.open_inference import (
    InferBody,
    InputParameters,
    OutputParameters,
    RequestedOutput,
    Tensor,
)
from serving.runtime import Outputs
from serving.tensors import check_range

# A request has about ten fields. Millions of them, of two bytes each, take forty times as much when parsed.
MAX_FIELDS = 64
# of parameters, those that ask for something that is not done here
_READ = ("classification", "shared_memory_region")
# a shape is refused for its length by what is shown of it
_SHOWN = 9
_VARINT_BYTES = 10
M = TypeVar("M", bound=Message)


def parse(read: Callable[[bytes], M], data: bytes) -> M:
    """What `read` makes of `data`; BadRequest when it is no message, or has too many fields for one."""
    for number, _ in enumerate(_fields(data), 1):
        if number > MAX_FIELDS:
            raise BadRequest(f"the message has more than {MAX_FIELDS} fields: one input is expected")
    try:
        return read(data)
    except DecodeError as error:
        raise BadRequest(f"the message is not what is expected: {error}") from None


def body_of(request: pb.ModelInferRequest) -> tuple[InferBody, bytes | None]:
    """The request as its REST form has it, and the bytes of a binary input."""
    count, raw = len(request.inputs), list(request.raw_input_contents)
    if raw and len(raw) != count:
        raise BadRequest(f"raw_input_contents has {len(raw)} items for {count} inputs: send one for each")
    tensors = zip(request.inputs, raw or [None] * count, strict=True)
    outputs = [RequestedOutput(o.name, _read(o.parameters, OutputParameters)) for o in request.outputs]
    inputs = [_tensor(tensor, data) for tensor, data in tensors]
    return InferBody(inputs=inputs, id=request.id, outputs=outputs), raw[0] if raw else None


def reply(outputs: Outputs, names: Sequence[str], *, raw: bool) -> pb.ModelInferResponse:
    """The outputs of these names: little-endian bytes when `raw`, otherwise numbers."""
    answer = pb.ModelInferResponse()
    for name in names:
        values: NDArray[np.float64] = getattr(outputs, name)
        tensor = answer.outputs.add(name=name, datatype="FP64", shape=values.shape)
        if raw:
            answer.raw_output_contents.append(values.astype("<f8", copy=False).tobytes())
        else:
            tensor.contents.fp64_contents.extend(values.ravel().tolist())
    return answer


def _tensor(tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> Tensor:
    name, given = tensor.name[:60], [field.name for field, _ in tensor.contents.ListFields()]
    if given and raw is not None:
        raise BadRequest(f"input {name} has both contents and raw_input_contents: send one of them")
    if set(given) - {"fp32_contents"}:
        raise BadRequest(f"input {name} has {', '.join(given)}: fp32_contents is expected")
    parameters = _read(tensor.parameters, InputParameters)
    if raw is not None:
        parameters = msgspec.structs.replace(parameters, binary_data_size=len(raw))
    data: Any = msgspec.UNSET
    if given:
        data = check_range(np.array(tensor.contents.fp32_contents, np.float32), name)
    return Tensor(tensor.name, tensor.shape[:_SHOWN], tensor.datatype, data, parameters)


def _read(given: Mapping[str, pb.InferParameter], kind: type[msgspec.Struct]) -> Any:
    if len(given) > MAX_FIELDS:
        raise BadRequest(f"{len(given)} parameters of one tensor: {MAX_FIELDS} are the limit")
    known = {name: _value(given[name]) for name in _READ if name in given}
    try:
        return msgspec.convert(known, kind)
    except msgspec.ValidationError as error:
        raise BadRequest(f"a parameter is not what is expected: {error}") from None


def _value(parameter: pb.InferParameter) -> Any:
    choice = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, choice) if choice else None


def _fields(data: bytes) -> Iterator[int]:
    """Numbers of the fields of a message, as far as it is one; groups, which nothing sends, are refused."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag & 7 == 2:
            size, at = _varint(data, at)
            at += size
        elif tag & 7 == 0:
            _, at = _varint(data, at)
        elif tag & 7 in (1, 5):
            at += 8 if tag & 7 == 1 else 4
        else:
            raise BadRequest(f"the message is not what is expected: wire type {tag & 7} in field {tag >> 3}")
        yield tag >> 3


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i, byte in enumerate(data[at : at + _VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, at + i + 1
    raise BadRequest("the message is not what is expected: it ends within a number")
