"""Open Inference Protocol v2, by Triton's own client and by hand: every form of tensor in and out."""

import asyncio
import gzip
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as aio

from serving import tensors
from serving.app import App
from serving.http import Limits
from serving.plane import Plane
from tests.serving.kit import Service
from tests.serving.wire import run

INFER = "/v2/models/sp500-1d/infer"
SHAPE = [1, 4, 89]
NAMES = ("probability", "base_probabilities", "confidence", "class_probabilities")
MODEL = "sp500-1d"
# what a client may say to a server that knows what to do with it, and this one may ignore
EXTRAS: dict[str, Any] = {
    "sequence_id": 5,
    "sequence_start": True,
    "sequence_end": True,
    "priority": 3,
    "timeout": 1_000_000,
    "parameters": {"note": "text", "number": 1.5, "flag": True},
}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("service"), bundle=bundle)
    yield service
    service.stop()


@pytest.fixture(scope="module")
def client(live: Service) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(live.address) as client:
        yield client


@pytest.fixture
def app(new_plane: Callable[[Path], Plane], bundle: Path) -> App:
    return App(new_plane(bundle), limits=Limits(body_bytes=100_000))


def _post(app: App, body: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response: httpx.Response = run(app, lambda client: client.post(INFER, content=body, headers=named))
    return response


def _windows(count: int = 3) -> np.ndarray:
    windows = np.random.default_rng(count).normal(size=(count, 4, 89)).astype(np.float32)
    windows[0, 0, :5] = np.nan
    return windows


def _expected(app: App, windows: np.ndarray) -> dict[str, np.ndarray]:
    outputs = app.plane.slots[0].require().model.score(windows)
    return {name: getattr(outputs, name) for name in NAMES}


def _given(windows: np.ndarray, binary: bool) -> triton.InferInput:
    given = triton.InferInput("features", list(windows.shape), "FP32")
    given.set_data_from_numpy(windows, binary_data=binary)
    return given


MODES = list(itertools.product([True, False], [True, False, None], [None, "gzip", "deflate"], ["", "1"]))


@pytest.mark.parametrize(("binary_in", "binary_out", "packed", "version"), MODES)
def test_triton_client_in_every_mode(
    client: triton.InferenceServerClient,
    app: App,
    binary_in: bool,
    binary_out: bool | None,
    packed: str | None,
    version: str,
) -> None:
    windows = _windows(60)
    windows[np.isnan(windows)] = 0.5
    wanted = None if binary_out is None else [triton.InferRequestedOutput(n, binary_out) for n in NAMES]
    result = client.infer(
        MODEL,
        [_given(windows, binary_in)],
        outputs=wanted,
        model_version=version,
        request_id="7",
        request_compression_algorithm=packed,
        response_compression_algorithm=packed,
    )
    for name, values in _expected(app, windows).items():
        np.testing.assert_array_equal(result.as_numpy(name), values)
    described = result.get_response()
    assert (described["id"], described["model_version"]) == ("7", "1")
    assert all(("data" in output) is (binary_out is False) for output in described["outputs"])


def test_triton_client_mixes_outputs_and_infers_in_the_background(
    client: triton.InferenceServerClient, app: App
) -> None:
    windows = _windows()
    wanted = [
        triton.InferRequestedOutput("confidence", True),
        triton.InferRequestedOutput("probability", False),
    ]
    result = client.async_infer(MODEL, [_given(windows, True)], outputs=wanted).get_result()
    assert [output["name"] for output in result.get_response()["outputs"]] == ["confidence", "probability"]
    for name in ("confidence", "probability"):
        np.testing.assert_array_equal(result.as_numpy(name), _expected(app, windows)[name])


def test_triton_client_may_say_more_than_is_asked_for(client: triton.InferenceServerClient, app: App) -> None:
    windows = _windows()
    result = client.infer(MODEL, [_given(windows, True)], headers={"x-request-id": "a"}, **EXTRAS)
    assert [output["name"] for output in result.get_response()["outputs"]] == list(NAMES)
    for name, values in _expected(app, windows).items():
        np.testing.assert_array_equal(result.as_numpy(name), values)


@pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_triton_client_of_asyncio(live: Service, app: App, binary: bool, packed: str | None) -> None:
    windows = np.nan_to_num(_windows(60))

    async def ask() -> tuple[dict[str, Any], list[aio.InferResult]]:
        async with aio.InferenceServerClient(live.address) as client:
            assert await client.is_model_ready(MODEL, "1")
            asked = [
                client.infer(
                    MODEL,
                    [_given(windows, binary)],
                    request_compression_algorithm=packed,
                    response_compression_algorithm=packed,
                    outputs=[triton.InferRequestedOutput(name, binary) for name in NAMES],
                )
                for _ in range(3)
            ]
            return await client.get_model_metadata(MODEL), await asyncio.gather(*asked)

    metadata, results = asyncio.run(ask())
    assert metadata["versions"] == ["1"]
    for result, (name, values) in itertools.product(results, _expected(app, windows).items()):
        np.testing.assert_array_equal(result.as_numpy(name), values)


@pytest.mark.parametrize("binary", [True, False])
def test_a_body_made_by_triton_is_sent_by_another_client(live: Service, app: App, binary: bool) -> None:
    windows = np.nan_to_num(_windows())
    wanted = [triton.InferRequestedOutput(name, binary) for name in NAMES]
    make = triton.InferenceServerClient.generate_request_body
    body, size = make([_given(windows, binary)], outputs=wanted, request_id="x")
    headers = {} if size is None else {"Inference-Header-Content-Length": str(size)}
    answer = httpx.post(f"{live.url}{INFER}", content=body, headers=headers)
    length = answer.headers.get("inference-header-content-length")
    read = triton.InferenceServerClient.parse_response_body
    result = read(answer.content, header_length=None if length is None else int(length))
    for name, values in _expected(app, windows).items():
        np.testing.assert_array_equal(result.as_numpy(name), values)


def test_a_missing_feature_is_null_in_json(client: triton.InferenceServerClient) -> None:
    with pytest.raises(triton.InferenceServerException, match="a missing feature is null"):
        client.infer(MODEL, [_given(_windows(), False)])


def test_triton_client_asks_about_the_server_and_its_models(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL, "1")
    assert client.is_model_ready(MODEL)
    assert not client.is_model_ready("other")
    assert not client.is_model_ready(MODEL, "9")
    assert client.get_server_metadata()["name"] == "bellwether"
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    described = client.get_model_metadata(MODEL)
    assert client.get_model_metadata(MODEL, "1") == described
    assert described["versions"] == ["1"]
    assert [(i["name"], i["datatype"], i["shape"]) for i in described["inputs"]] == [
        ("features", "FP32", [-1, 4, 89])
    ]
    assert {o["name"]: (o["datatype"], o["shape"]) for o in described["outputs"]} == {
        "probability": ("FP64", [-1]),
        "base_probabilities": ("FP64", [-1, 2]),
        "confidence": ("FP64", [-1]),
        "class_probabilities": ("FP64", [-1, 2]),
    }
    assert client.get_model_repository_index() == [
        {"name": MODEL, "version": "1", "state": "READY", "reason": ""}
    ]


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.get_model_config(MODEL),
        lambda c: c.get_inference_statistics(MODEL),
        lambda c: c.load_model(MODEL),
        lambda c: c.unload_model(MODEL),
        lambda c: c.get_trace_settings(),
        lambda c: c.get_system_shared_memory_status(),
        lambda c: c.infer("other", [_given(_windows(), True)]),
        lambda c: c.infer(MODEL, [_given(_windows(), True)], model_version="9"),
        lambda c: c.get_model_metadata(MODEL, "9"),
        lambda c: c.infer(MODEL, [_given(_windows()[:, :3], True)]),
    ],
)
def test_what_is_not_served_is_said_in_words_that_triton_understands(
    client: triton.InferenceServerClient, call: Callable[[triton.InferenceServerClient], Any]
) -> None:
    with pytest.raises(triton.InferenceServerException) as caught:
        call(client)
    assert caught.value.status() in ("400", "404")
    assert caught.value.message()


def _header(windows: np.ndarray, **changes: Any) -> dict[str, Any]:
    tensor = {"name": "features", "shape": list(windows.shape), "datatype": "FP32"}
    return {"inputs": [{**tensor, "parameters": {"binary_data_size": windows.nbytes}, **changes}]}


def _binary(
    head: Any, tail: bytes, app: App, size: int | str | None = None, **headers: str
) -> httpx.Response:
    encoded = head if isinstance(head, bytes) else msgspec.json.encode(head)
    length = str(len(encoded) if size is None else size)
    return _post(app, encoded + tail, inference_header_content_length=length, **headers)


def test_binary_in_json_out_with_missing_features(app: App) -> None:
    windows = _windows()
    answer = _binary(_header(windows), windows.tobytes(), app)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    found = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    for name, values in _expected(app, windows).items():
        assert found[name] == values.ravel().tolist()


@pytest.mark.parametrize("output", [True, False])
def test_the_output_decides_before_the_request(app: App, output: bool) -> None:
    windows = _windows()
    wanted = [{"name": "probability", "parameters": {"binary_data": output}}, {"name": "confidence"}]
    head = {**_header(windows), "outputs": wanted, "parameters": {"binary_data_output": not output}}
    answer = _binary(head, windows.tobytes(), app)
    size = int(answer.headers["inference-header-content-length"])
    described = msgspec.json.decode(answer.content[:size])["outputs"]
    assert ["data" in one for one in described] == [not output, output]
    binary = described[0 if output else 1]
    assert len(answer.content) - size == binary["parameters"]["binary_data_size"] == 24
    expected = _expected(app, windows)[binary["name"]]
    np.testing.assert_array_equal(np.frombuffer(answer.content[size:], "<f8"), expected)


W = np.zeros((1, 4, 89), np.float32)
BAD = {
    "short tail": (_header(W), W.tobytes()[:-1], None),
    "long tail": (_header(W), W.tobytes() + b"x", None),
    "no tail": (_header(W), b"", None),
    "size of another shape": (_header(W, shape=[2, 4, 89]), W.tobytes(), None),
    "negative size": (_header(W, parameters={"binary_data_size": -1}), W.tobytes(), None),
    "bool size": (_header(W, parameters={"binary_data_size": True}), W.tobytes(), None),
    "no size": (_header(W, parameters={}), W.tobytes(), None),
    "data and size": (_header(W, data=[0.0] * 356), W.tobytes(), None),
    "infinite": (_header(W), np.full_like(W, np.inf).tobytes(), None),
    "shared memory": (_header(W, parameters={"shared_memory_region": "r"}), b"", None),
    "header longer than the body": (_header(W), W.tobytes(), 10_000_000),
    "header of zero": (_header(W), W.tobytes(), 0),
    "header below zero": (_header(W), W.tobytes(), "-5"),
    "header is text": (_header(W), W.tobytes(), "five"),
    "header cuts the JSON": (_header(W), W.tobytes(), 20),
    "huge shape": (_header(W, shape=[1, 1 << 23, 1 << 23]), W.tobytes(), None),
    "twice the same output": ({**_header(W), "outputs": [{"name": "confidence"}] * 2}, W.tobytes(), None),
    "binary_data is text": (
        {**_header(W), "outputs": [{"name": "confidence", "parameters": {"binary_data": "yes"}}]},
        W.tobytes(),
        None,
    ),
    "classification": (
        {**_header(W), "outputs": [{"name": "confidence", "parameters": {"classification": 2}}]},
        W.tobytes(),
        None,
    ),
}


@pytest.mark.parametrize(("head", "tail", "size"), BAD.values(), ids=BAD)
def test_a_bad_binary_request_is_refused_with_a_reason(
    app: App, head: Any, tail: bytes, size: int | str | None
) -> None:
    answer = _binary(head, tail, app, size)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]


def test_binary_without_its_header_names_it(app: App) -> None:
    answer = _post(app, msgspec.json.encode(_header(W)))
    assert answer.status_code == 400
    assert "Inference-Header-Content-Length" in answer.json()["error"]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_json_data_flat_or_nested_give_the_same(app: App, depth: int) -> None:
    windows = _windows(2)
    shape = [(-1,), (2, -1), (2, 4, 89)][depth - 1]
    data = msgspec.json.encode(np.where(np.isnan(windows), 0.25, windows).reshape(shape).tolist())
    head = b'{"inputs":[{"name":"features","shape":[2,4,89],"datatype":"FP32","data":'
    answer = _post(app, head + data + b"}]}")
    expected = _expected(app, np.where(np.isnan(windows), np.float32(0.25), windows))
    assert answer.json()["outputs"][0]["data"] == expected["probability"].tolist()


PACKED = msgspec.json.encode(_header(W, parameters={}, data=[0.0] * 356))


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(PACKED), "gzip", 200),
        (zlib.compress(PACKED), "deflate", 200),
        (gzip.compress(PACKED[:100]) + gzip.compress(PACKED[100:]), "gzip", 200),
        (PACKED, "identity", 200),
        (PACKED, "gzip", 400),
        (gzip.compress(PACKED)[:-9], "gzip", 400),
        (gzip.compress(PACKED) + b"rest", "gzip", 400),
        (gzip.compress(b"") * 1000, "gzip", 400),
        (zlib.compress(b" " * 5_000_000), "deflate", 413),
        (gzip.compress(b" " * 100_001), "gzip", 413),
        (PACKED, "br", 415),
        (PACKED, "gzip, gzip", 415),
    ],
)
def test_compressed_bodies(app: App, body: bytes, encoding: str, status: int) -> None:
    answer = _post(app, body, content_encoding=encoding)
    assert answer.status_code == status, answer.text
    assert status == 200 or answer.json()["error"]


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br", "gzip"),
        ("gzip;q=0.1, deflate;q=0.9", "deflate"),
        ("*", "gzip"),
        ("br", None),
        ("gzip;q=0, deflate;q=x", None),
        ("identity", None),
    ],
)
def test_large_answers_are_packed_as_the_client_likes(app: App, accepted: str, chosen: str | None) -> None:
    windows = _windows(60)
    answer = _binary(_header(windows), windows.tobytes(), app, accept_encoding=accepted)
    assert answer.headers.get("content-encoding") == chosen
    assert answer.json()["outputs"][0]["data"] == _expected(app, windows)["probability"].tolist()


def test_small_answers_are_left_as_they_are(app: App) -> None:
    answer = _binary(_header(W), W.tobytes(), app, accept_encoding="gzip")
    assert "content-encoding" not in answer.headers


def _body(data: str, more: str = "") -> bytes:
    head = '{"inputs":[{"name":"features","shape":[1,4,89],"datatype":"FP32","data":'
    return f"{head}{data}}}]{more}}}".encode()


BARE = b'{"name":"features","shape":[1,4,89],"datatype":"FP32"}'
TRICKY = {
    "plain": _body(json.dumps([0.25] * 356)),
    "integers and signs": _body(json.dumps([-0.0, 3, -7, 1e-300] * 89)),
    "spaces": _body(json.dumps([0.25] * 356).replace(",", " ,\n\t")),
    "null": _body(json.dumps([None, 0.5] * 178)),
    "nested": _body(json.dumps([[[0.5] * 89] * 4])),
    "the key in a string": _body(json.dumps([0.25] * 356), ',"id":"\\"data\\":[1]"'),
    "the key twice": _body(json.dumps([9.0] * 356) + ',"data":' + json.dumps([0.25] * 356)),
    "another data": _body(json.dumps([0.25] * 356), ',"data":[1,2]'),
    "data of something else first": b'{"data":[7],' + _body(json.dumps([0.25] * 356))[1:],
    "only data of something else": b'{"data":[7],"inputs":[%s]}' % BARE,
    "data elsewhere": b'{"inputs":[%s],"data":[7]}' % BARE,
    "a bracket in a string": _body('["]"]'),
    "bool": _body(json.dumps([True] * 356)),
    "not a number": _body(json.dumps([float("nan")] * 356)),
    "beyond a double": _body("[" + ",".join(["1e999"] * 356) + "]"),
    "beyond a float": _body("[" + ",".join(["1e300"] * 356) + "]"),
    "a long integer": _body("[" + ",".join(["9" * 200] * 356) + "]"),
    "leading zero": _body("[01" + ",1" * 355 + "]"),
    "comma": _body("[1" + ",1" * 355 + ",]"),
    "no end": _body("[1,2")[:-3],
    "empty": _body("[]"),
    "a list in a string": _body(json.dumps([0.25] * 356)).replace(b'"name"', b'"id":"[1] [2","name"', 1),
    "a list in a string behind a backslash": b'{"data":7,"id":"a\\[1],' + _body(json.dumps([0.25] * 356))[1:],
    "rows of two lengths": _body(json.dumps([[0.5] * 178, [0.5] * 177 + [1, 2]])),
}


@pytest.mark.parametrize("name", TRICKY)
def test_the_short_way_to_read_numbers_says_what_the_general_one_says(
    app: App, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = _post(app, TRICKY[name])
    monkeypatch.setattr(tensors, "numbers_at", lambda text, start: None)
    general = _post(app, TRICKY[name])
    assert (short.status_code, short.json()) == (general.status_code, general.json())
    assert short.status_code in (200, 400)
