"""MLflow's scoring protocol, and GET /v1/features."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from mlflow.version import VERSION

import features
from serving.app import App
from serving.plane import Plane
from serving.protocols.scoring import PROTOCOL_VERSION
from serving.runtime import OUTPUTS
from tests.serving.kit import Service, as_body
from tests.serving.wire import run


@pytest.fixture
def app(new_plane: Callable[[Path], Plane], bundle: Path) -> App:
    return App(new_plane(bundle))


def _call(app: App, method: str, path: str, **options: Any) -> httpx.Response:
    response: httpx.Response = run(app, lambda client: client.request(method, path, **options))
    return response


def _names(app: App) -> list[str]:
    return [f.name for f in app.plane.slots[0].require().model.manifest.features]


def _score(app: App, windows: np.ndarray) -> dict[str, Any]:
    outputs = app.plane.slots[0].require().model.score(windows)
    return {name: getattr(outputs, name).tolist() for name in OUTPUTS}


WINDOWS = np.random.default_rng(3).normal(size=(3, 4, 89)).astype(np.float32)
ROWS = WINDOWS[:, -1]
ROW_WINDOWS = np.full_like(WINDOWS, np.nan)
ROW_WINDOWS[:, -1] = ROWS


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("service"), bundle=bundle)
    yield service
    service.stop()


def _asked_over_v2(live: Service, windows: np.ndarray) -> dict[str, Any]:
    tensor = {
        "name": "features",
        "shape": list(windows.shape),
        "datatype": "FP32",
        "data": [None if value != value else value for value in windows.ravel().tolist()],
    }
    answer = httpx.post(f"{live.url}/v2/models/sp500-1d/infer", json={"inputs": [tensor]}).json()
    return {o["name"]: np.reshape(o["data"], o["shape"]).tolist() for o in answer["outputs"]}


# of MLflow's own code, when it is imported
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")
def test_mlflows_own_client_gets_the_numbers_of_v2(live: Service, app: App) -> None:
    from mlflow.models import convert_input_example_to_serving_input
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient
    from mlflow.utils.proto_json_utils import dump_input_data

    client = ScoringServerClient(*live.address.split(":"))
    client.wait_server_ready(10)
    assert client.get_version() == VERSION
    frame = pd.DataFrame(ROWS, columns=_names(app))
    cells = pd.DataFrame({"features": list(WINDOWS)})
    by_form = {
        "inputs": ([WINDOWS, WINDOWS.tolist()], [ROWS]),
        "named inputs": ([convert_input_example_to_serving_input({"features": WINDOWS})], []),
        "instances": (
            [dump_input_data(WINDOWS, inputs_key="instances")],
            [dump_input_data(frame.to_dict("records"), inputs_key="instances")],
        ),
        "dataframe_split": ([cells], [frame, convert_input_example_to_serving_input(frame)]),
        "dataframe_records": ([], [json.dumps({"dataframe_records": frame.to_dict("records")})]),
    }
    for windows, place in ((WINDOWS, 0), (ROW_WINDOWS, 1)):
        expected = _asked_over_v2(live, windows)
        assert list(expected) == list(OUTPUTS)
        for form, requests in by_form.items():
            for request in requests[place]:
                found = client.invoke(request, params={"ignored": 1}).get_predictions()
                assert found.to_dict(orient="list") == expected, form


@pytest.mark.parametrize("path", ["/ping", "/health"])
def test_ping_says_whether_a_model_is_loaded(app: App, path: str) -> None:
    assert (_call(app, "GET", path).status_code, _call(app, "GET", path).text) == (200, "\n")
    app.plane.slots.clear()
    assert _call(app, "GET", path).status_code == 503


def test_the_version_is_of_the_mlflow_in_use(app: App) -> None:
    assert _call(app, "GET", "/version").text == PROTOCOL_VERSION == VERSION


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": WINDOWS.tolist()},
        {"inputs": {"features": WINDOWS.tolist()}},
        {"instances": WINDOWS.tolist()},
        {"instances": [{"features": window.tolist()} for window in WINDOWS]},
        {"inputs": WINDOWS.tolist(), "params": {"temperature": 1}},
    ],
)
def test_windows_are_scored_as_a_tensor(app: App, body: Any) -> None:
    answer = _call(app, "POST", "/invocations", json=body)
    assert answer.json() == {"predictions": _score(app, WINDOWS)}


def _records(names: list[str]) -> list[dict[str, float]]:
    return [dict(zip(names, row, strict=True)) for row in ROWS.tolist()]


def test_rows_stand_for_windows_that_are_otherwise_missing(app: App) -> None:
    names, expected = _names(app), _score(app, ROW_WINDOWS)
    mixed = pd.DataFrame(ROWS, columns=names).iloc[:, ::-1]
    split = mixed.to_dict(orient="split")
    records = [dict(zip(expected, row, strict=True)) for row in zip(*expected.values(), strict=True)]
    for body, wanted in (
        ({"inputs": ROWS.tolist()}, expected),
        ({"instances": _records(names)}, expected),
        ({"dataframe_split": split}, records),
        ({"dataframe_records": mixed.to_dict(orient="records")}, records),
    ):
        assert _call(app, "POST", "/invocations", json=body).json() == {"predictions": wanted}


def test_a_dataframe_of_windows_and_missing_values(app: App) -> None:
    split = {"columns": ["features"], "data": [[window.tolist()] for window in WINDOWS]}
    found = _call(app, "POST", "/invocations", json={"dataframe_split": split}).json()["predictions"]
    assert [row["probability"] for row in found] == _score(app, WINDOWS)["probability"]
    record = dict.fromkeys(_names(app), None)
    answer = _call(app, "POST", "/invocations", json={"dataframe_records": [record]})
    nothing = np.full((1, 4, 89), np.nan, dtype=np.float32)
    assert answer.json()["predictions"][0]["probability"] == _score(app, nothing)["probability"][0]


BAD: dict[str, Any] = {
    "nothing": {},
    "two forms": {"inputs": [[0.0]], "instances": [[0.0]]},
    "unknown form": {"data": [[0.0]]},
    "scalar": {"inputs": 1},
    "text": {"inputs": "x"},
    "bool": {"inputs": [[True] * 89]},
    "empty": {"inputs": []},
    "empty instances": {"instances": []},
    "no records": {"dataframe_records": []},
    "empty record": {"dataframe_records": [{}]},
    "unknown column": {"dataframe_records": [{"x": 1.0}]},
    "records of lists": {"dataframe_records": [[1.0]]},
    "no columns": {"dataframe_split": {"data": [[1.0]]}},
    "columns twice": {"dataframe_split": {"columns": ["a", "a"], "data": [[1.0, 2.0]]}},
    "split is a list": {"dataframe_split": [[1.0]]},
    "other tensor": {"inputs": {"x": WINDOWS.tolist()}},
    "no tensor": {"inputs": {}},
    "other shape": {"inputs": WINDOWS[:, :2].tolist()},
    "narrow rows": {"inputs": ROWS[:, :5].tolist()},
    "ragged": {"inputs": [[0.0] * 89, [0.0]]},
    "instances of other shapes": {"instances": [{"features": [[0.0]]}, {"features": [[0.0, 1.0]]}]},
    "instances mixed": {"instances": [{"features": [[0.0]]}, {"x": [[0.0]]}]},
    "too many": {"inputs": [[0.0] * 89] * 4097},
    "beyond float32": {"inputs": [[1e39] * 89]},
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_a_bad_invocation_is_refused_with_a_reason(app: App, body: Any) -> None:
    answer = _call(app, "POST", "/invocations", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]


def test_missing_columns_are_named(app: App) -> None:
    rows = _records(_names(app))
    gone = rows[1].popitem()[0]
    assert gone in _call(app, "POST", "/invocations", json={"dataframe_records": rows}).json()["error"]


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_not_json_are_refused_with_the_remedy(app: App, word: str) -> None:
    body = f'{{"inputs": [[{", ".join([word] * 89)}]]}}'
    answer = _call(app, "POST", "/invocations", content=body)
    assert answer.status_code == 400
    assert "a missing feature is null" in answer.json()["error"]


def test_csv_is_refused(app: App) -> None:
    answer = _call(app, "POST", "/invocations", content=b"a,b\n1,2", headers={"content-type": "text/csv"})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"]


def test_several_models_need_a_name(app: App) -> None:
    app.plane.slots.append(app.plane.slots[0])
    answer = _call(app, "POST", "/invocations", json={"inputs": WINDOWS.tolist()})
    app.plane.slots.pop()
    assert (answer.status_code, "/v2/models" in answer.text) == (400, True)


def test_the_features_are_those_of_the_batch(app: App, bars: pd.DataFrame) -> None:
    _call(app, "POST", "/v1/bars", json={"bars": as_body(bars.iloc[601:620])})
    found = _call(app, "GET", "/v1/features/sp500").json()
    batch = features.build(bars, features.definitions("core")).iloc[619].astype(np.float32)
    assert found["features"] == batch.to_dict()
    assert (found["bars"], found["warm"], found["bar_time"]) == (620, True, bars.index[619].isoformat())


def test_features_that_are_not_defined_yet_are_null(app: App, bars: pd.DataFrame) -> None:
    _call(app, "POST", "/v1/bars", json=as_body(bars.iloc[:1], "NEW")[0])
    found = _call(app, "GET", "/v1/features/NEW").json()
    assert (found["bars"], found["warm"]) == (1, False)
    assert None in found["features"].values()
    assert _call(app, "GET", "/v1/features/OTHER").status_code == 404
