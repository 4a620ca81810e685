"""MLflow's scoring protocol: GET /ping, /health, /version and POST /invocations.

Source: mlflow.pyfunc.scoring_server. A row of features alone is scored as the newest row of a window whose
earlier rows are missing; send windows [N, T, F] to score what a sequence model would see live.
"""

from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.errors import BadRequest, NotReady, UnsupportedMedia
from serving.http import Request, Response, Router, answer, decode
from serving.model import Model
from serving.plane import Plane
from serving.protocols.windows import scored
from serving.runtime import INPUT, OUTPUTS, Outputs
from serving.tensors import MAX_WINDOWS, Lifted, from_numbers, read_json, read_lifted

# the release of MLflow whose protocol is spoken; clients read it to choose their own
PROTOCOL_VERSION = "3.17.2"
# MLflow calls these bodies JSON, which they are not; its clients do not look
_TEXT = b"text/plain; charset=utf-8"
Number = float | None
Row = dict[str, Number]


class Split(msgspec.Struct, frozen=True):
    """A DataFrame as pandas' orient="split"; the index is ignored."""

    columns: list[str]
    data: msgspec.Raw
    index: list[Any] | None = None


class InvocationBody(msgspec.Struct, frozen=True):
    """Exactly one of the four forms of input; `params` are accepted and ignored, as MLflow does."""

    inputs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    instances: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    dataframe_split: Split | msgspec.UnsetType = msgspec.UNSET
    dataframe_records: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    params: dict[str, Any] | None = None


# numbers of a DataFrame come after it; other forms have none before theirs
_KEYED = b'"data"'
_body = msgspec.json.Decoder(InvocationBody)
_named = msgspec.json.Decoder(dict[str, msgspec.Raw])
_named_each = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_records = msgspec.json.Decoder(list[Row])
_windows_in_cells = msgspec.json.Decoder(list[tuple[list[list[Number]]]])


def routes(router: Router, plane: Plane) -> None:
    """Mount the protocol."""

    def ping(request: Request) -> Response:
        return Response(200 if plane.ready else 503, b"\n", _TEXT)

    def version(request: Request) -> Response:
        return Response(200, PROTOCOL_VERSION.encode(), _TEXT)

    router.add("GET", "/ping", ping)
    router.add("GET", "/health", ping)
    router.add("GET", "/version", version)
    router.add("POST", "/invocations", scored(plane, partial(_read, plane)))


class _Asked(NamedTuple):
    model: Model
    windows: NDArray[np.float32]
    by_row: bool

    def reply(self, outputs: Outputs) -> Response:
        return answer({"predictions": _as_records(outputs) if self.by_row else _as_columns(outputs)})


def _read(plane: Plane, request: Request) -> _Asked:
    kind = request.headers.get(b"content-type", b"application/json").split(b";")[0].strip().lower()
    if kind != b"application/json":
        raise UnsupportedMedia(
            f"content-type {kind[:60].decode('ascii', 'replace')!r}: application/json is expected"
        )
    model = _only_model(plane)
    body, lifted = read_lifted(request, _body, _KEYED)
    given = [form for form in FORMS if getattr(body, form) is not msgspec.UNSET]
    if len(given) != 1:
        raise BadRequest(f"{given or 'no input'}: exactly one of {', '.join(FORMS)} is expected")
    windows = FORMS[given[0]](getattr(body, given[0]), model, lifted)
    if len(windows) > MAX_WINDOWS:
        raise BadRequest(f"{len(windows)} rows: 1 to {MAX_WINDOWS} are accepted in one request")
    return _Asked(model, windows, by_row=given[0].startswith("dataframe"))


def _only_model(plane: Plane) -> Model:
    served = [slot.current.model for slot in plane.slots if slot.current is not None]
    if not served:
        raise NotReady("no model is loaded yet: wait for the registry, or run `bellwether run`")
    if len(served) > 1:
        names = ", ".join(model.name for model in served)
        raise BadRequest(
            f"{len(served)} models are served ({names}): name one, POST /v2/models/{{model}}/infer"
        )
    return served[0]


def _from_inputs(raw: msgspec.Raw, model: Model, lifted: Lifted | None) -> NDArray[np.float32]:
    """Columnar: a tensor, or {"features": tensor}."""
    if bytes(raw).lstrip()[:1] == b"{":
        raw = _only_feature_tensor(decode(raw, _named))
    return _as_windows(read_json(raw, INPUT, lifted), model)


def _from_instances(raw: msgspec.Raw, model: Model, lifted: Lifted | None) -> NDArray[np.float32]:
    """By row: windows, rows, {"features": window} each, or {feature name: value} each."""
    if not _holds_objects(raw):
        return _as_windows(read_json(raw, INPUT, lifted), model)
    rows = decode(raw, _named_each)
    if INPUT not in rows[0]:
        return _from_records(raw, model, lifted)
    parts = [read_json(_only_feature_tensor(row), INPUT, lifted) for row in rows]
    if len({part.shape for part in parts}) > 1:
        raise BadRequest("the instances have different shapes: send windows of one shape")
    return _as_windows(np.stack(parts), model)


def _from_split(split: Split, model: Model, lifted: Lifted | None) -> NDArray[np.float32]:
    if split.columns == [INPUT]:
        return _as_windows(from_numbers([w for (w,) in decode(split.data, _windows_in_cells)], INPUT), model)
    _check_names(split.columns, model)
    rows = read_json(split.data, INPUT, lifted)
    if rows.ndim != 2 or rows.shape[1] != len(split.columns):
        raise BadRequest(f"dataframe_split has {len(split.columns)} columns, its data say otherwise")
    place = {name: i for i, name in enumerate(split.columns)}
    return _as_windows(rows[:, [place[feature.name] for feature in model.manifest.features]], model)


def _from_records(raw: msgspec.Raw, model: Model, _lifted: Lifted | None) -> NDArray[np.float32]:
    rows = decode(raw, _records)
    names = [feature.name for feature in model.manifest.features]
    for row in rows:
        if len(row) != len(names) or any(name not in row for name in names):
            _check_names(list(row), model)
    return _as_windows(from_numbers([[row[name] for name in names] for row in rows], INPUT), model)


FORMS: dict[str, Any] = {
    "inputs": _from_inputs,
    "instances": _from_instances,
    "dataframe_split": _from_split,
    "dataframe_records": _from_records,
}


def _only_feature_tensor(named: dict[str, msgspec.Raw]) -> msgspec.Raw:
    if list(named) != [INPUT]:
        raise BadRequest(f"inputs {list(named)[:5]}: exactly one named {INPUT!r} is expected")
    return named[INPUT]


def _holds_objects(raw: msgspec.Raw) -> bool:
    start = bytes(raw)[:64].split()
    return b"".join(start)[:2] == b"[{"


def _check_names(columns: list[str], model: Model) -> None:
    """BadRequest unless `columns` are the model's features, in any order."""
    names = {feature.name for feature in model.manifest.features}
    missing, unknown = sorted(names - set(columns)), sorted(set(columns) - names)
    if missing or unknown or len(columns) != len(names):
        raise BadRequest(
            f"{len(missing)} features are missing {missing[:3]}, {len(unknown)} columns are unknown "
            f"{[name[:40] for name in unknown[:3]]}, {len(columns)} are given: send each of the {len(names)} "
            "features once, null where it is not known (GET /v1/features/{symbol} names them)"
        )


def _as_windows(values: NDArray[np.float32], model: Model) -> NDArray[np.float32]:
    """Windows [N, T, F] as they are; rows [N, F] as the newest of windows that are otherwise missing."""
    if values.ndim != 2:
        return values
    shape = (len(values), model.runtime.window, model.runtime.features)
    if not 1 <= len(values) <= MAX_WINDOWS or values.shape[1] != shape[2]:
        raise BadRequest(
            f"rows of shape {list(values.shape)}: [N, {shape[2]}] or windows [N, {shape[1]}, {shape[2]}], "
            f"1 <= N <= {MAX_WINDOWS} are expected"
        )
    windows = np.full(shape, np.nan, dtype=np.float32)  # [N, T, F]
    windows[:, -1] = values
    return windows


def _as_columns(outputs: Outputs) -> dict[str, Any]:
    return {name: getattr(outputs, name).tolist() for name in OUTPUTS}


def _as_records(outputs: Outputs) -> list[dict[str, Any]]:
    columns = [getattr(outputs, name).tolist() for name in OUTPUTS]
    return [dict(zip(OUTPUTS, row, strict=True)) for row in zip(*columns, strict=True)]
