"""The Open Inference Protocol over gRPC: an optional extra, imported when it is asked for."""

from typing import TYPE_CHECKING

from core.errors import UsageError

if TYPE_CHECKING:
    from serving.grpc.server import GrpcServer


def load() -> "type[GrpcServer]":
    """The server's class; UsageError when the extra is not installed, or too old for the generated code."""
    try:
        from serving.grpc.server import GrpcServer
    except (ImportError, RuntimeError) as error:
        raise UsageError(
            f"gRPC is asked for and its packages cannot be used ({error}): run pip install "
            "'bellwether[grpc]', or leave --grpc-port and BELLWETHER_GRPC_PORT out"
        ) from error
    return GrpcServer
