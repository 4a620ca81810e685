"""The gRPC form of the Open Inference Protocol: answers, refusals and guard are those of REST."""

import ast
import asyncio
import itertools
import random
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pandas as pd
import psutil
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from core.errors import ServiceError, UsageError
from serving.app import App
from serving.grpc import load
from serving.grpc import open_inference_pb2 as pb
from serving.grpc.generate import GENERATED, ROOT, generate
from serving.grpc.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serving.grpc.server import GrpcServer
from serving.guard import Guard
from serving.http import Limits
from serving.plane import Plane
from serving.resolver import DirectoryResolver
from serving.runtime import OUTPUTS
from serving.slot import Slot
from tests.serving.kit import Service, eventually, make_bundle

NAME, SHAPE = "sp500-1d", [1, 4, 89]
SERVICE = "/inference.GRPCInferenceService"
W = np.zeros(SHAPE, np.float32)
Code = grpc.StatusCode
NewPlane = Callable[[Path], Plane]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("service"), bundle=bundle, BELLWETHER_GRPC_PORT="0")
    yield service
    service.stop()


@pytest.fixture(scope="module")
def grpc_address(live: Service) -> str:
    return _grpc_address(live)


@pytest.fixture(scope="module")
def channel(grpc_address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(grpc_address, [("grpc.max_send_message_length", -1)]) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> GRPCInferenceServiceStub:
    return GRPCInferenceServiceStub(channel)


@pytest.fixture
def app(new_plane: NewPlane, bundle: Path) -> App:
    return App(new_plane(bundle))


def _grpc_address(service: Service) -> str:
    assert service.process.stdout is not None
    return service.process.stdout.readline().strip()


def _windows(count: int = 3) -> np.ndarray:
    windows = np.random.default_rng(count).normal(size=(count, 4, 89)).astype(np.float32)
    windows[0, 0, :5] = np.nan
    return windows


def _asked(windows: np.ndarray = W, *, raw: bool = True, **changes: Any) -> pb.ModelInferRequest:
    """A request; `changes` are of the input, or of the request where it has such a field."""
    tensor = {"name": "features", "datatype": "FP32", "shape": windows.shape}
    fields: dict[str, Any] = {"model_name": NAME}
    if raw:
        fields["raw_input_contents"] = [windows.tobytes()]
    else:
        tensor["contents"] = {"fp32_contents": windows.ravel()}
    for name, value in changes.items():
        (fields if name in pb.ModelInferRequest.DESCRIPTOR.fields_by_name else tensor)[name] = value
    return pb.ModelInferRequest(**{"inputs": [tensor], **fields})


def _found(answer: pb.ModelInferResponse) -> dict[str, np.ndarray]:
    assert all(output.datatype == "FP64" for output in answer.outputs)
    values = [np.frombuffer(raw, "<f8") for raw in answer.raw_output_contents] or [
        np.array(output.contents.fp64_contents) for output in answer.outputs
    ]
    return {o.name: value.reshape(list(o.shape)) for o, value in zip(answer.outputs, values, strict=True)}


def _by_rest(live: Service, windows: np.ndarray) -> dict[str, np.ndarray]:
    data = [None if np.isnan(value) else value for value in windows.ravel().tolist()]
    tensor = {"name": "features", "datatype": "FP32", "shape": list(windows.shape), "data": data}
    answer = httpx.post(f"{live.url}/v2/models/{NAME}/infer", json={"inputs": [tensor]}).json()
    return {output["name"]: np.reshape(output["data"], output["shape"]) for output in answer["outputs"]}


def _error(call: Callable[[], Any]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def _in_process(
    app: App, call: Callable[[grpc.aio.Channel, GrpcServer], Awaitable[Any]], *options: tuple[str, Any]
) -> Any:
    async def inside() -> Any:
        server = GrpcServer(app, "127.0.0.1", 0)
        await server.start()
        try:
            async with grpc.aio.insecure_channel(server.address, options=options) as channel:
                return await call(channel, server)
        finally:
            await server.stop()

    return asyncio.run(inside())


# the interface


def test_the_stubs_are_those_of_the_interface(tmp_path: Path) -> None:
    generate(tmp_path)
    for path in GENERATED:
        assert (tmp_path / path).read_bytes() == (ROOT / path).read_bytes(), path


def test_the_interface_is_what_tritons_client_was_built_from() -> None:
    """Their descriptor is read out of their generated code, which cannot be imported beside ours."""
    spec = find_spec("tritonclient")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    source = Path(spec.submodule_search_locations[0]) / "grpc" / "service_pb2.py"
    literals = [n.value for n in ast.walk(ast.parse(source.read_text())) if isinstance(n, ast.Constant)]
    theirs = descriptor_pb2.FileDescriptorProto.FromString(
        max((value for value in literals if isinstance(value, bytes)), key=len)
    )
    ours = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(ours)
    their_fields, our_fields = dict(_fields(theirs.message_type)), dict(_fields(ours.message_type))
    # of the specification and not of Triton
    for name in [n for n in our_fields if n.startswith("ModelMetadataResponse.") and "ropert" in n]:
        del our_fields[name]
    assert our_fields
    assert our_fields == {name: their_fields[name] for name in our_fields}
    calls = {(m.name, m.input_type, m.output_type) for m in ours.service[0].method}
    assert calls <= {(m.name, m.input_type, m.output_type) for m in theirs.service[0].method}
    assert (ours.package, ours.service[0].name) == (theirs.package, theirs.service[0].name)


def _fields(messages: Any, within: str = "") -> Iterator[tuple[str, tuple[Any, ...]]]:
    for message in messages:
        for field in message.field:
            kind = (field.number, field.type, field.label, field.type_name)
            yield f"{within}{message.name}.{field.name}", kind
        yield from _fields(message.nested_type, f"{within}{message.name}.")


# the same as REST


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("count", [1, 3, 60])
def test_the_answers_are_those_of_rest(
    live: Service, stub: GRPCInferenceServiceStub, count: int, raw: bool
) -> None:
    windows = _windows(count)
    answer = stub.ModelInfer(_asked(windows, raw=raw, id="7"))
    assert (answer.model_name, answer.model_version, answer.id) == (NAME, "1", "7")
    assert bool(answer.raw_output_contents) is raw
    found, expected = _found(answer), _by_rest(live, windows)
    assert list(found) == list(OUTPUTS) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("raw", [True, False])
def test_outputs_come_as_asked(stub: GRPCInferenceServiceStub, raw: bool) -> None:
    wanted = [{"name": "confidence"}, {"name": "probability"}]
    answer = stub.ModelInfer(_asked(raw=raw, outputs=wanted, model_version="1"))
    assert list(_found(answer)) == ["confidence", "probability"]


@pytest.mark.parametrize("packed", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_message_may_be_compressed(stub: GRPCInferenceServiceStub, packed: Any) -> None:
    assert stub.ModelInfer(_asked(), compression=packed) == stub.ModelInfer(_asked())


def test_what_is_said_of_the_server_and_its_models_is_that_of_rest(
    live: Service, stub: GRPCInferenceServiceStub
) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    server = MessageToDict(stub.ServerMetadata(pb.ServerMetadataRequest()))
    assert server == httpx.get(f"{live.url}/v2").json()
    model = MessageToDict(stub.ModelMetadata(pb.ModelMetadataRequest(name=NAME, version="1")))
    for tensor in model["inputs"] + model["outputs"]:
        tensor["shape"] = [int(size) for size in tensor["shape"]]  # int64 is text in JSON
    assert model == httpx.get(f"{live.url}/v2/models/{NAME}").json()
    index = MessageToDict(
        stub.RepositoryIndex(pb.RepositoryIndexRequest()), always_print_fields_with_no_presence=True
    )
    assert index["models"] == httpx.post(f"{live.url}/v2/repository/index").json()


@pytest.mark.parametrize(
    ("name", "version", "ready"), [(NAME, "", True), (NAME, "1", True), (NAME, "9", False), ("x", "", False)]
)
def test_a_model_is_ready_or_not(
    stub: GRPCInferenceServiceStub, name: str, version: str, ready: bool
) -> None:
    assert stub.ModelReady(pb.ModelReadyRequest(name=name, version=version)).ready is ready


SHARED: dict[str, Any] = {"shared_memory_region": {"string_param": "r"}}
BAD: dict[str, tuple[pb.ModelInferRequest, dict[str, Any]]] = {
    "another input": (_asked(name="x"), {"name": "x"}),
    "datatype": (_asked(datatype="FP64"), {"datatype": "FP64"}),
    "two sizes": (_asked(shape=[4, 89]), {"shape": [4, 89]}),
    "below zero": (_asked(shape=[-1, 4, 89]), {"shape": [-1, 4, 89]}),
    "many sizes": (_asked(shape=[1] * 5000), {"shape": [1] * 5000}),
    "fewer values": (_asked(raw=False, shape=[2, 4, 89]), {"shape": [2, 4, 89]}),
    "another window": (_asked(np.zeros([1, 3, 89], np.float32)), {"shape": [1, 3, 89], "data": [0.0] * 267}),
    "beyond FP32": (_asked(np.full_like(W, np.inf)), {"data": [1e300] * 356}),
    "beyond FP32, as numbers": (_asked(np.full_like(W, -np.inf), raw=False), {"data": [1e300] * 356}),
    "no data": (_asked(raw_input_contents=[]), {"data": ...}),
    "no input": (_asked(inputs=[], raw_input_contents=[]), {"inputs": []}),
    "shared memory": (_asked(parameters=SHARED), {"parameters": {"shared_memory_region": "r"}}),
    "another output": (_asked(outputs=[{"name": "x"}]), {"outputs": [{"name": "x"}]}),
    "an output twice": (
        _asked(outputs=[{"name": "confidence"}] * 2),
        {"outputs": [{"name": "confidence"}] * 2},
    ),
    "classification": (
        _asked(outputs=[{"name": "confidence", "parameters": {"classification": {"int64_param": 2}}}]),
        {"outputs": [{"name": "confidence", "parameters": {"classification": 2}}]},
    ),
}
# the input's own, not the request's
BAD["shared memory"][0].inputs[0].parameters["shared_memory_region"].string_param = "r"


@pytest.mark.parametrize(("message", "changes"), BAD.values(), ids=BAD)
def test_a_bad_request_is_refused_in_the_words_of_rest(
    live: Service, stub: GRPCInferenceServiceStub, message: pb.ModelInferRequest, changes: dict[str, Any]
) -> None:
    tensor = {"name": "features", "datatype": "FP32", "shape": SHAPE, "data": [0.0] * 356}
    body = {"inputs": [tensor]}
    for name, value in changes.items():
        (body if name in ("inputs", "outputs") else tensor)[name] = value
    if tensor["data"] is ...:
        del tensor["data"]
    answer = httpx.post(f"{live.url}/v2/models/{NAME}/infer", json=body)
    error = _error(lambda: stub.ModelInfer(message))
    assert answer.status_code == 400
    assert (error.code(), error.details()) == (Code.INVALID_ARGUMENT, answer.json()["error"])


@pytest.mark.parametrize(("model", "version"), [("other", ""), (NAME, "9")])
def test_what_is_not_served_is_not_found(
    live: Service, stub: GRPCInferenceServiceStub, model: str, version: str
) -> None:
    path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "")
    expected = (Code.NOT_FOUND, httpx.get(f"{live.url}{path}").json()["error"])
    for call in (
        lambda: stub.ModelMetadata(pb.ModelMetadataRequest(name=model, version=version)),
        lambda: stub.ModelInfer(_asked(model_name=model, model_version=version)),
    ):
        error = _error(call)
        assert (error.code(), error.details()) == expected


def test_tritons_own_client_is_served_unmodified(live: Service, grpc_address: str) -> None:
    script = [sys.executable, "-m", "tests.serving.triton_grpc", live.url, grpc_address]
    found = subprocess.run(script, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


# what only this form can get wrong


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (_asked(contents={"fp32_contents": [0.0] * 356}), "both contents and raw_input_contents"),
        (_asked(raw_input_contents=[b"", b""]), "2 items for 1 inputs"),
        (_asked(W[:, :3]), r"\[1, 3, 89\]"),
        (_asked(raw_input_contents=[b"1234"]), "has 4 bytes"),
        (_asked(raw=False, contents={"fp64_contents": [0.0] * 356}), "fp32_contents is expected"),
        (_asked(raw=False, contents={"fp32_contents": [0.0], "int_contents": [1]}), "fp32_contents is"),
        (_asked(inputs=[{"name": "a"}] * 100), "more than 64 fields"),
        (_asked(parameters={str(i): {"bool_param": True} for i in range(100)}), "more than 64 fields"),
        (
            _asked(inputs=[{"parameters": {str(i): {"bool_param": True} for i in range(100)}}]),
            "100 parameters",
        ),
        (
            _asked(outputs=[{"name": "confidence", "parameters": {"classification": {"string_param": "x"}}}]),
            "a parameter is not what is expected",
        ),
    ],
)
def test_a_message_that_rest_cannot_have_is_refused(
    stub: GRPCInferenceServiceStub, message: pb.ModelInferRequest, words: str
) -> None:
    error = _error(lambda: stub.ModelInfer(message))
    assert error.code() == Code.INVALID_ARGUMENT
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(error.details())


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", Code.NOT_FOUND),
        (b"\x0a\x02\xff\xff", Code.INVALID_ARGUMENT),  # a string that is not UTF-8
        (b"\x0a\x05a", Code.INVALID_ARGUMENT),  # ends early
        (b"\x80" * 30, Code.INVALID_ARGUMENT),  # a number without an end
        (b"\x0b\x0c", Code.INVALID_ARGUMENT),  # a group
        (b"\x0b" * 100_000, Code.INVALID_ARGUMENT),  # groups in groups
        (b"\x2a\x00" * 4_000_000, Code.INVALID_ARGUMENT),  # four million inputs
        (b"\x3a\x00" * 4_000_000, Code.INVALID_ARGUMENT),
        (bytes(8 * 1024 * 1024 + 1), Code.RESOURCE_EXHAUSTED),
    ],
)
def test_bytes_that_are_no_request(channel: grpc.Channel, message: bytes, code: Code) -> None:
    started = time.perf_counter()
    assert _error(lambda: channel.unary_unary(f"{SERVICE}/ModelInfer")(message)).code() == code
    assert time.perf_counter() - started < 2


def test_a_message_that_unpacks_to_more_than_the_limit(live: Service, channel: grpc.Channel) -> None:
    process = psutil.Process(live.process.pid)
    before = process.memory_info().rss
    call = channel.unary_unary(f"{SERVICE}/ModelInfer")
    error = _error(lambda: call(bytes(100 * 1024 * 1024), compression=grpc.Compression.Gzip))
    assert error.code() in (Code.RESOURCE_EXHAUSTED, Code.INVALID_ARGUMENT)
    assert process.memory_info().rss - before < 50 * 2**20


def test_long_words_fit_into_a_status(stub: GRPCInferenceServiceStub) -> None:
    error = _error(lambda: stub.ModelInfer(_asked(model_name="\n\u20ac" * 100_000)))
    assert error.code() == Code.NOT_FOUND
    assert len(error.details() or "") == 1000


def test_what_is_not_of_the_specification_is_not_implemented(channel: grpc.Channel) -> None:
    for name in ("ModelConfig", "RepositoryModelLoad", "ModelStreamInfer", ""):
        assert _error(lambda name=name: channel.unary_unary(f"{SERVICE}/{name}")(b"")).code() == (
            Code.UNIMPLEMENTED
        )


def test_mutated_messages_are_never_a_fault_of_ours(live: Service, channel: grpc.Channel) -> None:
    rng, seeds = random.Random(7), [_asked(), _asked(raw=False), *(message for message, _ in BAD.values())]
    process = psutil.Process(live.process.pid)
    before, codes = process.memory_info().rss, set()
    calls = [channel.unary_unary(f"{SERVICE}/{m.name}") for m in _methods()]
    infer = channel.unary_unary(f"{SERVICE}/ModelInfer")
    for number in range(2000):
        message = _mutated(bytearray(rng.choice(seeds).SerializeToString()), rng)
        call = infer if number % 4 else rng.choice(calls)
        try:
            call(message)
            codes.add(Code.OK)
        except grpc.RpcError as error:
            codes.add(error.code())
    assert codes <= {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND}
    assert {Code.OK, Code.INVALID_ARGUMENT} <= codes
    assert process.memory_info().rss - before < 50 * 2**20
    assert "request_failed" not in live.stderr.read_text()


def _methods() -> Any:
    return pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods


def _mutated(message: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at = rng.randrange(min(len(message), 60) or 1)
        kind = rng.randrange(4)
        if kind == 0:
            message[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del message[at : at + rng.randrange(1, 9)]
        elif kind == 2:
            message[at:at] = rng.randbytes(rng.randrange(1, 9))
        else:
            del message[rng.randrange(len(message) + 1) :]
    return bytes(message)


# guard, log and metrics


def test_calls_are_counted_and_logged_like_requests(live: Service, stub: GRPCInferenceServiceStub) -> None:
    _, call = stub.ModelInfer.with_call(_asked(), metadata=[("x-request-id", "mine")])
    assert ("x-request-id", "mine") in [(m.key, m.value) for m in call.trailing_metadata()]
    error = _error(lambda: stub.ModelInfer(_asked(model_name="x"), metadata=[("x-request-id", "other")]))
    assert ("x-request-id", "other") in [(m.key, m.value) for m in error.trailing_metadata()]
    metrics = httpx.get(f"{live.url}/metrics").text
    assert f'bellwether_requests_total{{route="{SERVICE}/ModelInfer",status="404"}}' in metrics
    log = live.home / "var" / "logs" / "access.jsonl"
    assert eventually(lambda: '"request_id":"other"' in log.read_text())
    line = next(line for line in log.read_text().splitlines() if '"request_id":"mine"' in line)
    assert f'"client":"127.0.0.1","method":"POST","path":"{SERVICE}/ModelInfer","status":200' in line


def test_a_token_is_asked_for_and_probes_are_open(app: App) -> None:
    app.guard = Guard(Limits(), token="s3cret")

    async def calls(channel: grpc.aio.Channel, _: GrpcServer) -> list[Any]:
        stub = GRPCInferenceServiceStub(channel)
        await stub.ServerLive(pb.ServerLiveRequest())
        await stub.ServerReady(pb.ServerReadyRequest())
        await stub.ModelInfer(_asked(), metadata=[("authorization", "Bearer s3cret")])
        given = [None, [("authorization", "Bearer s3cre")], [("authorization", "s3cret")]]
        refused = [await _refusal(stub.ModelInfer(_asked(), metadata=metadata)) for metadata in given]
        return [*refused, await _refusal(stub.ServerMetadata(pb.ServerMetadataRequest()))]

    for error in _in_process(app, calls):
        assert error.code() == Code.UNAUTHENTICATED
        assert "Bearer <BELLWETHER_TOKEN>" in error.details()


async def _refusal(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


@pytest.mark.parametrize(("service", "ready"), [("", True), ("inference.GRPCInferenceService", False)])
def test_the_health_that_kubernetes_asks_for_needs_no_token(
    app: App, monkeypatch: pytest.MonkeyPatch, service: str, ready: bool
) -> None:
    app.guard = Guard(Limits(), token="s3cret")
    monkeypatch.setattr(Plane, "ready", ready)
    state = health_pb2.HealthCheckResponse

    async def calls(channel: grpc.aio.Channel, _: GrpcServer) -> tuple[int, grpc.aio.AioRpcError]:
        stub, asked = HealthStub(channel), health_pb2.HealthCheckRequest(service=service)
        return (await stub.Check(asked)).status, await _refusal(stub.Watch(asked).read())

    status, unknown = _in_process(app, calls)
    assert status == (state.SERVING if ready else state.NOT_SERVING)
    assert unknown.code() == Code.UNIMPLEMENTED


def test_a_client_that_asks_too_often_is_told_when_to_come_back(app: App) -> None:
    app.guard = Guard(Limits(), rate=0.5, burst=2)

    async def calls(channel: grpc.aio.Channel, _: GrpcServer) -> grpc.aio.AioRpcError:
        stub = GRPCInferenceServiceStub(channel)
        for _ in range(2):
            await stub.ModelInfer(_asked())
        error = await _refusal(stub.ModelInfer(_asked()))
        await stub.ServerLive(pb.ServerLiveRequest())
        return error

    error = _in_process(app, calls)
    assert error.code() == Code.RESOURCE_EXHAUSTED
    assert ("grpc-retry-pushback-ms", "2000") in tuple(error.trailing_metadata())


def test_calls_whose_message_does_not_come_are_ended_and_hold_up_nobody(
    new_plane: NewPlane, bundle: Path
) -> None:
    limits = Limits(body_seconds=0.4, body_bytes=1000_000, buffered_bytes=2_000_000, concurrency=4)
    app = App(new_plane(bundle), limits=limits)

    async def calls(channel: grpc.aio.Channel, _: GrpcServer) -> tuple[list[Any], float]:
        stub = GRPCInferenceServiceStub(channel)
        stalled = [channel.stream_unary(f"{SERVICE}/ModelInfer")() for _ in range(5)]
        refused = [asyncio.create_task(_refusal(call)) for call in stalled]
        await asyncio.sleep(0.1)
        started = time.perf_counter()
        assert (await stub.ServerReady(pb.ServerReadyRequest())).ready
        took = time.perf_counter() - started
        codes = [(await error).code() for error in refused]
        await stub.ModelInfer(_asked())
        return codes, took

    codes, took = _in_process(app, calls)
    # two were awaited, two waited for their turn, one was too many
    assert sorted(code.name for code in codes) == ["DEADLINE_EXCEEDED"] * 2 + ["UNAVAILABLE"] * 3
    assert took < 0.1


def test_a_call_without_a_message_is_refused(app: App) -> None:
    async def calls(channel: grpc.aio.Channel, _: GrpcServer) -> grpc.aio.AioRpcError:
        call = channel.stream_unary(f"{SERVICE}/ModelInfer")()
        await call.done_writing()
        return await _refusal(call)

    assert _in_process(app, calls).code() == Code.INVALID_ARGUMENT


def test_a_fault_of_ours_names_the_request_and_nothing_else(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Plane, "infer", lambda *_: 1 / 0)

    async def calls(channel: grpc.aio.Channel, _: GrpcServer) -> grpc.aio.AioRpcError:
        stub = GRPCInferenceServiceStub(channel)
        return await _refusal(stub.ModelInfer(_asked(), metadata=[("x-request-id", "mine")]))

    error = _in_process(app, calls)
    assert (error.code(), error.details()) == (
        Code.INTERNAL,
        "internal error: see mine in the service's log",
    )


# models change, the server ends


def test_each_answer_during_swaps_is_of_one_version(app: App, tmp_path: Path, bars: pd.DataFrame) -> None:
    slot = app.plane.slots[0]
    other = Slot(
        DirectoryResolver(make_bundle(tmp_path / "two", bars, bias=0.5, version="2")),
        log_root=tmp_path / "log",
        metrics=app.plane.metrics,
    )
    other.start()
    loaded = [slot.require(), other.require()]
    windows = _windows(12)  # scored in a thread
    expected = {one.model.version: one.model.score(windows).probability for one in loaded}

    async def calls(channel: grpc.aio.Channel, _: GrpcServer) -> list[pb.ModelInferResponse]:
        stub = GRPCInferenceServiceStub(channel)

        async def ask() -> list[pb.ModelInferResponse]:
            return [await stub.ModelInfer(_asked(windows)) for _ in range(40)]

        asking = asyncio.gather(*(ask() for _ in range(4)))
        for number in itertools.count(1):
            await app.plane.swap(slot, loaded[number % 2])
            await asyncio.sleep(0.001)
            if asking.done():
                break
        return [answer for answers in await asking for answer in answers]

    answers = _in_process(app, calls)
    other.close()
    assert len(answers) == 160
    assert {answer.model_version for answer in answers} == {"1", "2"}
    for answer in answers:
        np.testing.assert_array_equal(_found(answer)["probability"], expected[answer.model_version])


def test_a_path_that_ends_grpcio_is_survived(app: App) -> None:
    """A path that is not UTF-8 ends the server of grpcio 1.85; ours is back on its port at once."""

    async def calls(channel: grpc.aio.Channel, server: GrpcServer) -> float:
        host, port = server.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(PREFACE + _call_frame(b"/\xff\xfe"))
        with suppress(OSError):
            await asyncio.wait_for(reader.read(), 1)
        writer.close()
        started, stub = time.perf_counter(), GRPCInferenceServiceStub(channel)
        await stub.ServerLive(pb.ServerLiveRequest(), wait_for_ready=True, timeout=5)
        return time.perf_counter() - started

    options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100)]
    assert _in_process(app, calls, *options) < 3


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b"")


def _call_frame(path: bytes) -> bytes:
    """HTTP/2 HEADERS of a call, in HPACK without a table."""
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x")]
    fields += [(b"te", b"trailers"), (b"content-type", b"application/grpc")]
    packed = b"".join(b"\0" + bytes([len(n)]) + n + bytes([len(v)]) + v for n, v in fields)
    return _frame(1, 4, 1, packed)


def test_a_busy_port_is_one_clear_message(app: App) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=f"127.0.0.1:{port}.*--grpc-port"):
            asyncio.run(GrpcServer(app, "127.0.0.1", port).start())


def test_what_is_being_answered_is_finished(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    infer = Plane.infer

    async def slow(*given: Any) -> Any:
        await asyncio.sleep(0.3)
        return await infer(*given)

    monkeypatch.setattr(Plane, "infer", slow)

    async def calls(channel: grpc.aio.Channel, server: GrpcServer) -> pb.ModelInferResponse:
        answer = GRPCInferenceServiceStub(channel).ModelInfer(_asked())
        await asyncio.sleep(0.1)
        await server.stop()
        return await answer

    assert _in_process(app, calls).model_version == "1"


@pytest.mark.e2e
def test_the_service_ends_in_time_whatever_is_open(new_service: Callable[..., Service], bundle: Path) -> None:
    service = new_service(bundle=bundle, BELLWETHER_GRPC_PORT="0")
    host, port = _grpc_address(service).split(":")
    with socket.create_connection((host, int(port))) as stalled:
        stalled.sendall(PREFACE + _call_frame(f"{SERVICE}/ModelInfer".encode()))
        assert stalled.recv(1)
        started = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - started < 10


# the extra


def test_nothing_of_grpc_is_imported_unasked() -> None:
    code = "import cli.serve, serving.server, sys; print({'grpc', 'google.protobuf'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("serving.grpc.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(UsageError, match=r"pip install 'bellwether\[grpc\]'"):
        load()
