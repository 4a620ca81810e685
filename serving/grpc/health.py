"""grpc.health.v1, which Kubernetes and load balancers ask of any gRPC server: of the whole one, by Check.

The question's name of a service is not read, as nothing of a probe is, which needs no token: the server is
ready or it is not. Watch is not implemented, which clients take for a server that is well.
"""

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2 as pb

from serving.plane import Plane

SERVICE = "grpc.health.v1.Health"


def handler(plane: Plane) -> grpc.GenericRpcHandler:
    """What the server mounts."""

    async def check(_request: Message, _context: object) -> Message:
        state = pb.HealthCheckResponse
        return state(status=state.SERVING if plane.ready else state.NOT_SERVING)

    method = grpc.unary_unary_rpc_method_handler(check, pb.HealthCheckRequest.FromString)
    return grpc.method_handlers_generic_handler(SERVICE, {"Check": method})
