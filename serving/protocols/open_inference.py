"""Open Inference Protocol v2 over REST with JSON tensors.

Source: https://github.com/kserve/open-inference-protocol, inference_rest. One extension: null in `data` is a
missing feature (NaN), which JSON cannot say.
"""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.errors import BadRequest
from serving.http import Request, Response, Router, answer, decode
from serving.model import Model
from serving.plane import Plane
from serving.runtime import INPUT, OUTPUTS, Outputs

SERVER = {"name": "bellwether", "version": "2", "extensions": ["model_repository"]}
MAX_WINDOWS = 4096


class Tensor(msgspec.Struct, frozen=True):
    """An input tensor; `data` is flat or nested, row-major."""

    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, Any] = {}


class RequestedOutput(msgspec.Struct, frozen=True):
    """An output the caller wants."""

    name: str
    parameters: dict[str, Any] = {}


class InferBody(msgspec.Struct, frozen=True):
    """An inference request."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[RequestedOutput] | None = None


_infer = msgspec.json.Decoder(InferBody)
_by_depth: "list[msgspec.json.Decoder[Any]]" = [
    msgspec.json.Decoder(list[float | None]),
    msgspec.json.Decoder(list[list[float | None]]),
    msgspec.json.Decoder(list[list[list[float | None]]]),
]


def routes(router: Router, plane: Plane) -> None:
    """Mount the protocol."""

    async def live(request: Request) -> Response:
        return answer({"live": True})

    async def ready(request: Request) -> Response:
        complaints = [text for slot in plane.slots for text in slot.status.complaints]
        return answer({"ready": plane.ready, "degraded": complaints}, 200 if plane.ready else 503)

    async def server(request: Request) -> Response:
        return answer(SERVER)

    async def metadata(request: Request) -> Response:
        return answer(_metadata(plane.model(*request.parameters)))

    async def model_ready(request: Request) -> Response:
        model = plane.model(*request.parameters)
        return answer({"name": model.name, "ready": True})

    async def index(request: Request) -> Response:
        served = [slot.current.model for slot in plane.slots if slot.current]
        return answer(
            [{"name": m.name, "version": m.version, "state": "READY", "reason": ""} for m in served]
        )

    async def infer(request: Request) -> Response:
        return await _answer_infer(plane, request)

    router.add("GET", "/v2", server)
    router.add("GET", "/v2/health/live", live)
    router.add("GET", "/v2/health/ready", ready)
    router.add("POST", "/v2/repository/index", index)
    for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        router.add("GET", base, metadata)
        router.add("GET", f"{base}/ready", model_ready)
        router.add("POST", f"{base}/infer", infer)


def _metadata(model: Model) -> dict[str, Any]:
    shape = [-1, model.runtime.window, model.runtime.features]
    tails: list[list[int]] = [[-1], [-1, model.runtime.base_models], [-1]]
    outputs = [{"name": n, "datatype": "FP64", "shape": s} for n, s in zip(OUTPUTS, tails, strict=True)]
    inputs = [{"name": INPUT, "datatype": "FP32", "shape": shape}]
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": "onnx_onnxv1",
        "inputs": inputs,
        "outputs": outputs,
    }


async def _answer_infer(plane: Plane, request: Request) -> Response:
    if request.header(b"inference-header-content-length") is not None:
        raise BadRequest("binary tensor data is not supported: send the tensors as JSON (binary_data=False)")
    body = request.decode(_infer)
    model = plane.model(*request.parameters)
    names = [output.name for output in body.outputs] if body.outputs else list(OUTPUTS)
    unknown = [name for name in names if name not in OUTPUTS]
    if unknown:
        raise BadRequest(f"output {unknown[0]!r} does not exist: choose from {', '.join(OUTPUTS)}")
    outputs = await plane.infer(model, _windows(body.inputs))
    reply: dict[str, Any] = {"model_name": model.name, "model_version": model.version}
    if body.id is not None:
        reply["id"] = body.id
    reply["outputs"] = [_output(outputs, name) for name in names]
    return answer(reply)


def _output(outputs: Outputs, name: str) -> dict[str, Any]:
    values: NDArray[np.float64] = getattr(outputs, name)
    return {"name": name, "datatype": "FP64", "shape": list(values.shape), "data": values.ravel().tolist()}


def _windows(inputs: list[Tensor]) -> NDArray[np.float32]:
    if len(inputs) != 1 or inputs[0].name != INPUT:
        found = [tensor.name for tensor in inputs][:5]
        raise BadRequest(f"inputs {found}: exactly one input named {INPUT!r} is expected")
    tensor = inputs[0]
    if tensor.datatype != "FP32":
        raise BadRequest(f"input {INPUT} has datatype {tensor.datatype[:20]!r}: FP32 is expected")
    shape = tensor.shape
    if len(shape) != 3 or not all(0 < size < 1 << 24 for size in shape) or shape[0] > MAX_WINDOWS:
        raise BadRequest(
            f"input {INPUT} has shape {shape[:8]}: [N, T, F] with 1 <= N <= {MAX_WINDOWS} is expected"
        )
    return _array(tensor.data, shape)


def _array(data: msgspec.Raw | msgspec.UnsetType, shape: list[int]) -> NDArray[np.float32]:
    if isinstance(data, msgspec.UnsetType):
        raise BadRequest(f"input {INPUT} has no data")
    depth = _depth(bytes(data[:64] if isinstance(data, bytes) else bytes(data)[:64]))
    nested = decode(data, _by_depth[depth - 1])
    try:
        with np.errstate(over="ignore"):
            values = np.array(nested, dtype=np.float64).astype(np.float32)
    except ValueError as error:
        raise BadRequest(
            f"input {INPUT} has rows of different lengths: send flat data, or equal rows"
        ) from error
    if np.isinf(values).any():
        raise BadRequest(f"input {INPUT} has a value beyond the range of FP32")
    if values.size != shape[0] * shape[1] * shape[2]:
        raise BadRequest(f"input {INPUT} has {values.size} values, its shape {shape} says otherwise")
    return values.reshape(shape)


def _depth(start: bytes) -> int:
    depth = 0
    for byte in start:
        if byte == 0x5B:  # [
            depth += 1
        elif byte not in b" \t\r\n":
            break
    if not 1 <= depth <= 3:
        raise BadRequest(f"input {INPUT} needs a list of numbers, flat or nested up to three deep")
    return depth
