"""`python -m serving.grpc.generate` writes the stubs beside the interface; a test compares them."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INTERFACE = "serving/grpc/open_inference.proto"
GENERATED = tuple(INTERFACE.replace(".proto", end) for end in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py"))


def generate(root: Path) -> None:
    """Write GENERATED under `root`; needs grpcio-tools, which the dev extra has."""
    from grpc_tools import protoc

    outputs = [f"--{kind}_out={root}" for kind in ("python", "pyi", "grpc_python")]
    code = protoc.main(["protoc", f"-I{ROOT}", *outputs, INTERFACE])
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    generate(ROOT)
