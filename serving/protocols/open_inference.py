"""Open Inference Protocol v2 over REST, JSON tensors and the binary tensor extension.

Sources: the Open Inference Protocol specification, inference_rest; Triton's binary tensor data
extension. One extension of our own: null in `data` is a missing feature (NaN), which JSON cannot say.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving import numerals
from serving.errors import BadRequest
from serving.http import Request, Response, Router, answer, decode, encode
from serving.model import Model
from serving.plane import Plane
from serving.protocols.windows import scored
from serving.runtime import INPUT, OUTPUTS, Outputs
from serving.tensors import Lifted, check_shape, read_binary, read_json, read_lifted

SERVER = {"name": "bellwether", "version": "2", "extensions": ["model_repository", "binary_tensor_data"]}
HEADER_LENGTH = b"inference-header-content-length"
Flag = bool | None


class InputParameters(msgspec.Struct, frozen=True):
    """Of an input; `binary_data_size` says how many bytes after the JSON header are its data."""

    binary_data_size: int | None = None
    shared_memory_region: str | None = None


class OutputParameters(msgspec.Struct, frozen=True):
    """Of a requested output."""

    binary_data: Flag = None
    classification: int | None = None
    shared_memory_region: str | None = None


class RequestParameters(msgspec.Struct, frozen=True):
    """Of a request; `binary_data_output` holds for outputs that do not say themselves."""

    binary_data_output: Flag = None


_NO_INPUT, _NO_OUTPUT, _NO_REQUEST = InputParameters(), OutputParameters(), RequestParameters()


class Tensor(msgspec.Struct, frozen=True):
    """An input tensor; `data` is flat or nested, row-major, and absent when the data are binary.

    JSON has it as text; gRPC as an array, which has been checked.
    """

    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    parameters: InputParameters = _NO_INPUT


class RequestedOutput(msgspec.Struct, frozen=True):
    """An output the caller wants."""

    name: str
    parameters: OutputParameters = _NO_OUTPUT


class InferBody(msgspec.Struct, frozen=True):
    """An inference request."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: RequestParameters = _NO_REQUEST
    outputs: list[RequestedOutput] | None = None


_infer = msgspec.json.Decoder(InferBody)


def routes(router: Router, plane: Plane) -> None:
    """Mount the protocol."""
    numerals.prepare()

    def live(request: Request) -> Response:
        return answer({"live": True})

    def ready(request: Request) -> Response:
        complaints = [text for slot in plane.slots for text in slot.status.complaints]
        return answer({"ready": plane.ready, "degraded": complaints}, 200 if plane.ready else 503)

    def server(request: Request) -> Response:
        return answer(SERVER)

    def metadata(request: Request) -> Response:
        model = plane.model(*request.parameters)
        return answer(describe(model, [known.version for known in plane.versions(model.name)]))

    def model_ready(request: Request) -> Response:
        model = plane.model(*request.parameters)
        return answer({"name": model.name, "ready": True})

    def index(request: Request) -> Response:
        return answer(
            [{"name": m.name, "version": m.version, "state": "READY", "reason": ""} for m in plane.versions()]
        )

    infer = scored(plane, partial(_read, plane))
    router.add("GET", "/v2", server)
    router.add("GET", "/v2/health/live", live)
    router.add("GET", "/v2/health/ready", ready)
    router.add("POST", "/v2/repository/index", index)
    for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        router.add("GET", base, metadata)
        router.add("GET", f"{base}/ready", model_ready)
        router.add("POST", f"{base}/infer", infer)


def describe(model: Model, versions: list[str]) -> dict[str, Any]:
    """Of `model`, whose shapes may differ between its versions."""
    runtime = model.runtime
    shapes = {name: [-1 if n is None else n for n in shape] for name, shape in runtime.output_shapes.items()}
    shape = [-1, runtime.window, runtime.features]
    return {
        "name": model.name,
        "versions": versions,
        "platform": "onnx_onnxv1",
        "inputs": [{"name": INPUT, "datatype": "FP32", "shape": shape}],
        "outputs": [{"name": name, "datatype": "FP64", "shape": shape} for name, shape in shapes.items()],
    }


class _Asked(NamedTuple):
    model: Model
    windows: NDArray[np.float32]
    wanted: list[tuple[str, bool]]
    id: str | None

    def reply(self, outputs: Outputs) -> Response:
        start: dict[str, Any] = {"model_name": self.model.name, "model_version": self.model.version}
        if self.id is not None:
            start["id"] = self.id
        return _reply(start, outputs, self.wanted)


def _read(plane: Plane, request: Request) -> _Asked:
    body, rest = _parse(request)
    model = plane.model(*request.parameters)
    wanted, windows = wanted_outputs(body), read_windows(body.inputs, rest)
    return _Asked(model, windows, wanted, body.id)


def _parse(request: Request) -> tuple[InferBody, bytes | Lifted | None]:
    """The JSON part, and the bytes after it where the request uses the binary extension, or its numbers."""
    length = request.headers.get(HEADER_LENGTH)
    if length is None:
        return read_lifted(request, _infer, b'"data"')
    size = int(length) if length.isdigit() and len(length) < 12 else -1
    if not 0 < size <= len(request.body):
        shown = length[:20].decode("ascii", "replace")
        raise BadRequest(
            f"Inference-Header-Content-Length {shown!r}: the bytes of the JSON header are expected, "
            f"1 to {len(request.body)}, the length of the body"
        )
    return decode(request.body[:size], _infer), request.body[size:]


def wanted_outputs(body: InferBody) -> list[tuple[str, bool]]:
    """Names of the outputs to answer, and whether each is binary; BadRequest when one does not exist."""
    default = bool(body.parameters.binary_data_output)
    if not body.outputs:
        return [(name, default) for name in OUTPUTS]
    wanted = []
    for output in body.outputs:
        if output.name not in OUTPUTS:
            raise BadRequest(f"output {output.name!r} does not exist: choose from {', '.join(OUTPUTS)}")
        parameters = output.parameters
        if parameters.classification is not None or parameters.shared_memory_region is not None:
            raise BadRequest(f"output {output.name}: classification and shared memory are not supported")
        wanted.append((output.name, default if parameters.binary_data is None else parameters.binary_data))
    if len({name for name, _ in wanted}) < len(wanted):
        raise BadRequest("an output is requested twice: request each once")
    return wanted


def _reply(reply: dict[str, Any], outputs: Outputs, wanted: list[tuple[str, bool]]) -> Response:
    blobs: list[bytes] = []
    described = reply["outputs"] = []
    for name, binary in wanted:
        values: NDArray[np.float64] = getattr(outputs, name)
        shown: dict[str, Any] = {"name": name, "datatype": "FP64", "shape": list(values.shape)}
        if binary:
            blobs.append(values.astype("<f8", copy=False).tobytes())
            shown["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            shown["data"] = values.ravel().tolist()
        described.append(shown)
    if not blobs:
        return answer(reply)
    head = encode(reply)
    length = (b"inference-header-content-length", b"%d" % len(head))
    return Response(200, b"".join([head, *blobs]), b"application/octet-stream", [length])


def read_windows(inputs: Sequence[Tensor], rest: bytes | Lifted | None) -> NDArray[np.float32]:
    """The one input, float32 [N, T, F]; `rest` has the bytes of a binary one, or numbers lifted out of the
    JSON. BadRequest otherwise."""
    if len(inputs) != 1 or inputs[0].name != INPUT:
        found = [tensor.name for tensor in inputs][:5]
        raise BadRequest(f"inputs {found}: exactly one input named {INPUT!r} is expected")
    tensor = inputs[0]
    if tensor.datatype != "FP32":
        raise BadRequest(f"input {INPUT} has datatype {tensor.datatype[:20]!r}: FP32 is expected")
    check_shape(tensor.shape, INPUT)
    if tensor.parameters.shared_memory_region is not None:
        raise BadRequest(f"input {INPUT}: shared memory is not supported; send the data")
    size = tensor.parameters.binary_data_size
    tail = rest if isinstance(rest, bytes) else None
    if size is not None:
        return _binary(tensor, size, tail)
    if tail:
        raise BadRequest(f"{len(tail)} bytes follow the JSON, no input has a binary_data_size")
    return _shaped(tensor, rest if isinstance(rest, Lifted) else None)


def _binary(tensor: Tensor, size: int, tail: bytes | None) -> NDArray[np.float32]:
    if tail is None:
        raise BadRequest(
            f"input {INPUT} has a binary_data_size: send the header Inference-Header-Content-Length"
        )
    if size != len(tail):
        raise BadRequest(f"input {INPUT} has binary_data_size {size}, {len(tail)} bytes follow the JSON")
    if tensor.data is not msgspec.UNSET:
        raise BadRequest(f"input {INPUT} has both data and a binary_data_size: send one of them")
    return read_binary(tail, tensor.shape, INPUT)


def _shaped(tensor: Tensor, lifted: Lifted | None) -> NDArray[np.float32]:
    data = tensor.data
    if isinstance(data, msgspec.UnsetType):
        raise BadRequest(f"input {INPUT} has no data")
    values = read_json(data, INPUT, lifted) if isinstance(data, msgspec.Raw) else data
    n, t, f = tensor.shape
    if values.size != n * t * f:
        raise BadRequest(f"input {INPUT} has {values.size} values, its shape {tensor.shape} says otherwise")
    return values.reshape(tensor.shape)
