"""The calls of the Open Inference Protocol, over the same data plane as its REST form."""

from typing import Any

from google.protobuf.message import Message

from serving.errors import NotFound
from serving.grpc import open_inference_pb2 as pb
from serving.grpc.messages import body_of, reply
from serving.grpc.open_inference_pb2_grpc import GRPCInferenceServiceServicer
from serving.plane import Plane
from serving.protocols.open_inference import SERVER, describe, read_windows, wanted_outputs

_SERVER: dict[str, Any] = SERVER


class Service(GRPCInferenceServiceServicer):
    """One method for each call; a ServingError is what the server turns into a status."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def ServerLive(self, request: pb.ServerLiveRequest, _: object) -> Message:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, _: object) -> Message:
        return pb.ServerReadyResponse(ready=self._plane.ready)

    async def ModelReady(self, request: pb.ModelReadyRequest, _: object) -> Message:
        """False, not an error, for a model that is not served."""
        try:
            self._plane.model(request.name, request.version or None)
        except NotFound:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, _: object) -> Message:
        return pb.ServerMetadataResponse(**_SERVER)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, _: object) -> Message:
        model = self._plane.model(request.name, request.version or None)
        return pb.ModelMetadataResponse(
            **describe(model, [known.version for known in self._plane.versions(model.name)])
        )

    async def ModelInfer(self, request: pb.ModelInferRequest, _: object) -> Message:
        """Bytes are answered with bytes, numbers with numbers."""
        body, tail = body_of(request)
        model = self._plane.model(request.model_name, request.model_version or None)
        names = [name for name, _ in wanted_outputs(body)]
        outputs = await self._plane.infer(model, read_windows(body.inputs, tail))
        answer = reply(outputs, names, raw=tail is not None)
        answer.model_name, answer.model_version, answer.id = model.name, model.version, request.id
        return answer

    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, _: object) -> Message:
        served = self._plane.versions()
        return pb.RepositoryIndexResponse(
            models=[{"name": m.name, "version": m.version, "state": "READY"} for m in served]
        )
