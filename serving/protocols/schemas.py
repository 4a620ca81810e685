"""The shapes of every request and answer, for the OpenAPI document."""

from typing import Any

import msgspec

from core.signal import Signal
from serving.bar import EARLIEST, LATEST, SYMBOL
from serving.protocols.bars import BarBody, BarsBody, SignalsBody
from serving.protocols.features import FeaturesBody
from serving.protocols.open_inference import InferBody
from serving.protocols.scoring import FORMS, InvocationBody
from serving.protocols.stream import SignalEvent, StreamControl, SubscribedEvent
from serving.runtime import INPUT, OUTPUTS

Json = dict[str, Any]
STREAM_MESSAGES = ("StreamControl", "SubscribedEvent", "SignalEvent")
_STRUCTS = (
    BarBody,
    BarsBody,
    FeaturesBody,
    InferBody,
    InvocationBody,
    Signal,
    SignalEvent,
    SignalsBody,
    StreamControl,
    SubscribedEvent,
)
_TEXT: Json = {"type": "string"}
_NUMBER: Json = {"type": ["number", "null"]}


def reference(name: str) -> Json:
    """A reference to a shape by name."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Json) -> Json:
    """A list of these."""
    return {"type": "array", "items": items}


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _tensor_data() -> Json:
    """Numbers, null for a missing feature, flat or nested as the shape."""
    row = array(_NUMBER)
    return {"anyOf": [row, array(row), array(array(row))]}


def components() -> Json:
    """Every named shape."""
    _, shapes = msgspec.json.schema_components(_STRUCTS, ref_template="#/components/schemas/{name}")
    shapes["InvocationBody"]["properties"] |= _invocation_forms()
    shapes["InvocationBody"]["oneOf"] = [{"required": [form]} for form in FORMS]
    shapes["Split"]["properties"]["data"] = array({"type": "array"})
    _describe_bars(shapes)
    _describe_tensors(shapes)
    return dict(sorted({**shapes, **_answers()}.items()))


def _describe_bars(shapes: Json) -> None:
    """Rules on values that are checked after decoding, for messages that say more."""
    bar = shapes["BarBody"]["properties"]
    bar["symbol"]["pattern"] = f"^{SYMBOL}$"
    seconds = {"type": "number", "minimum": EARLIEST, "maximum": LATEST}
    bar["timestamp"] = {"anyOf": [seconds, {"type": "string", "format": "date-time"}]}
    for price in ("open", "high", "low", "close"):
        bar[price]["exclusiveMinimum"] = 0
    bar["volume"]["minimum"] = 0
    shapes["BarsBody"]["properties"]["bars"]["minItems"] = 1


def _describe_tensors(shapes: Json) -> None:
    sizes = array({"type": "integer", "minimum": 1})
    shapes["Tensor"]["properties"] |= {
        "name": {"enum": [INPUT]},
        "datatype": {"enum": ["FP32"]},
        "shape": {**sizes, "minItems": 3, "maxItems": 3},
        "data": _tensor_data(),
    }
    shapes["InferBody"]["properties"]["inputs"] |= {"minItems": 1, "maxItems": 1}
    shapes["RequestedOutput"]["properties"]["name"] = {"enum": list(OUTPUTS)}


def _invocation_forms() -> Json:
    """Forms that are read in a second step, so the struct does not tell."""
    named = {"type": "object", "additionalProperties": _tensor_data()}
    record = {"type": "object", "additionalProperties": _NUMBER}
    return {
        "inputs": {"anyOf": [_tensor_data(), named]},
        "instances": {"anyOf": [_tensor_data(), array({"anyOf": [named, record]})]},
        "dataframe_records": array(record),
    }


def _answers() -> Json:
    numbers = array({"type": "number"})
    predictions: Json = {name: {} for name in OUTPUTS}
    tensor = _object(name=_TEXT, datatype=_TEXT, shape=array({"type": "integer"}))
    output = {**tensor, "properties": {**tensor["properties"], "data": numbers, "parameters": {}}}
    inferred = _object(model_name=_TEXT, model_version=_TEXT, outputs=array(output))
    inferred["properties"]["id"] = _TEXT
    return {
        "Error": _object(error=_TEXT),
        "ServerLive": _object(live={"type": "boolean"}),
        "ServerReady": _object(ready={"type": "boolean"}, degraded=array(_TEXT)),
        "ServerMetadata": _object(name=_TEXT, version=_TEXT, extensions=array(_TEXT)),
        "RepositoryModel": _object(name=_TEXT, version=_TEXT, state=_TEXT, reason=_TEXT),
        "ModelMetadata": _object(
            name=_TEXT, versions=array(_TEXT), platform=_TEXT, inputs=array(tensor), outputs=array(tensor)
        ),
        "ModelReady": _object(name=_TEXT, ready={"type": "boolean"}),
        "InferResponse": inferred,
        "InvocationResponse": _object(
            predictions={"anyOf": [_object(**predictions), array(_object(**predictions))]}
        ),
    }
