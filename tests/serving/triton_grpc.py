"""Triton's gRPC client, unmodified, against a service: `triton_grpc.py HTTP_URL GRPC_ADDRESS`.

A process of its own: its generated code and ours define the same messages.
"""

import asyncio
import itertools
import sys
import threading
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

NAME = "sp500-1d"
NAMES = ("probability", "base_probabilities", "confidence", "class_probabilities")


def main(url: str, address: str) -> None:
    """Fails when anything is not as over REST."""
    windows = np.random.default_rng(1).normal(size=(60, 4, 89)).astype(np.float32)
    expected = _by_rest(url, windows)
    with triton.InferenceServerClient(address) as client:
        _asks(client)
        _infers(client, windows, expected)
        _is_refused(client, windows)
    asyncio.run(_infers_at_once(address, windows, expected))


def _by_rest(url: str, windows: np.ndarray) -> dict[str, np.ndarray]:
    tensor = {
        "name": "features",
        "datatype": "FP32",
        "shape": windows.shape,
        "data": windows.ravel().tolist(),
    }
    answer = httpx.post(f"{url}/v2/models/{NAME}/infer", json={"inputs": [tensor]}).json()
    return {output["name"]: np.reshape(output["data"], output["shape"]) for output in answer["outputs"]}


def _given(windows: np.ndarray, datatype: str = "FP32") -> list[Any]:
    given = triton.InferInput("features", list(windows.shape), datatype)
    given.set_data_from_numpy(windows)
    return [given]


def _asks(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(NAME)
    assert client.is_model_ready(NAME, "1")
    assert not client.is_model_ready(NAME, "9")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata().name == "bellwether"
    assert list(client.get_model_metadata(NAME).inputs[0].shape) == [-1, 4, 89]
    assert client.get_model_repository_index().models[0].state == "READY"


def _infers(client: Any, windows: np.ndarray, expected: dict[str, np.ndarray]) -> None:
    wanted = (None, ("confidence",), NAMES, NAMES[::-1])
    for names, version, packed in itertools.product(wanted, ("", "1"), (None, "gzip", "deflate")):
        result = client.infer(
            NAME,
            _given(windows),
            model_version=version,
            outputs=names and [triton.InferRequestedOutput(name) for name in names],
            request_id="7",
            priority=1,
            timeout=1_000_000,
            client_timeout=10,
            headers={"x-request-id": "mine"},
            compression_algorithm=packed,
            parameters={"a": 1, "b": "text", "c": True},
        )
        answer = result.get_response()
        assert (answer.id, answer.model_version) == ("7", "1")
        assert [output.name for output in answer.outputs] == list(names or NAMES)
        for name in names or NAMES:
            np.testing.assert_array_equal(result.as_numpy(name), expected[name])
    done, found = threading.Event(), []

    def take(result: Any, error: Any) -> None:
        found.append((result, error))
        done.set()

    client.async_infer(NAME, _given(windows), callback=take)
    assert done.wait(10)
    np.testing.assert_array_equal(found[0][0].as_numpy("probability"), expected["probability"])


def _is_refused(client: Any, windows: np.ndarray) -> None:
    shared = triton.InferInput("features", list(windows.shape), "FP32")
    shared.set_shared_memory("region", windows.nbytes)
    classes = [triton.InferRequestedOutput("confidence", class_count=2)]
    calls = {
        "NOT_FOUND": [
            lambda: client.infer("other", _given(windows)),
            lambda: client.infer(NAME, _given(windows), model_version="9"),
            lambda: client.get_model_metadata("other"),
        ],
        "INVALID_ARGUMENT": [
            lambda: client.infer(NAME, _given(windows[:, :3])),
            lambda: client.infer(NAME, _given(np.full_like(windows, np.inf))),
            lambda: client.infer(NAME, _given(windows.astype(np.float64), "FP64")),
            lambda: client.infer(NAME, _given(windows), outputs=[triton.InferRequestedOutput("x")]),
            lambda: client.infer(NAME, _given(windows), outputs=classes),
            lambda: client.infer(NAME, [shared]),
        ],
        "RESOURCE_EXHAUSTED": [lambda: client.infer(NAME, _given(np.zeros((9000, 4, 89), np.float32)))],
        "UNIMPLEMENTED": [
            lambda: client.get_model_config(NAME),
            lambda: client.get_inference_statistics(NAME),
            lambda: client.load_model(NAME),
            lambda: client.get_system_shared_memory_status(),
        ],
    }
    for code, refused in calls.items():
        for number, call in enumerate(refused):
            with pytest.raises(InferenceServerException) as caught:
                call()
            found = caught.value.status(), bool(caught.value.message())
            assert found == (f"StatusCode.{code}", True), (code, number, caught.value)


async def _infers_at_once(address: str, windows: np.ndarray, expected: dict[str, np.ndarray]) -> None:
    async with triton_aio.InferenceServerClient(address) as client:
        results = await asyncio.gather(*(client.infer(NAME, _given(windows)) for _ in range(50)))
    for result in results:
        np.testing.assert_array_equal(result.as_numpy("probability"), expected["probability"])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
