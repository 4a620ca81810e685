"""Requests made from the service's own OpenAPI document: valid ones, broken ones, and those that fit.

What the document cannot say (which models and symbols are there, sizes that agree, bars in order) makes most
generated requests a refusal. So a valid one is sent once more with that put right and its numbers kept: it
reaches the features and the graph.
"""

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import requests
import schemathesis
from schemathesis import GenerationMode, checks
from schemathesis.core.failures import FailureGroup
from schemathesis.transport.serialization import Binary

from tests.serving.kit import WINDOW, Service

# a stream answers the handshake of a WebSocket only
LEFT_OUT = {"/v1/stream"}
CONFORMANCE = [
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.status_code_conformance,
]
FORMS = {
    "inputs": lambda names, row: [row],
    "instances": lambda names, row: [dict(zip(names, row, strict=True))],
    "dataframe_split": lambda names, row: {"columns": names, "data": [row]},
    "dataframe_records": lambda names, row: [dict(zip(names, row, strict=True))],
}


@dataclass
class Fuzz:
    """A service under requests, and what it answered: statuses by operation, and faults in words."""

    service: Service
    session: requests.Session
    statuses: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    faults: list[str] = field(default_factory=list)
    clock: Iterator[int] = field(default_factory=lambda: itertools.count(1_200_000_000, 86_400))

    def __post_init__(self) -> None:
        known = self.session.get(f"{self.service.url}/v1/features/sp500", timeout=10).json()
        self.names = list(known["features"])

    def send(self, case: schemathesis.Case) -> None:
        """Send a case; a 5xx, a traceback and an answer that is not in the document are faults."""
        response = case.call(base_url=self.service.url, session=self.session)
        self.statuses[case.operation.label][response.status_code] += 1
        if response.status_code >= 500 or "Traceback" in response.text:
            self.faults.append(f"{case.as_curl_command()} -> {response.status_code} {response.text[:300]}")
        try:
            case.validate_response(response, checks=CONFORMANCE)
        except (AssertionError, FailureGroup) as error:
            self.faults.append(f"{case.as_curl_command()} -> {error}")

    def fit(self, case: schemathesis.Case) -> None:
        """Put right what the document cannot say; the numbers stay."""
        served = {"model": "sp500-1d", "version": "1", "symbol": "sp500"}
        case.path_parameters = {name: served[name] for name in case.path_parameters}
        case.query = {name: "1d" for name in case.query if name == "timeframe"}
        case.headers = {name: value for name, value in case.headers.items() if name[:9] != "Inference"}
        if isinstance(case.body, Binary):
            self._binary(case)
        if not isinstance(case.body, dict):
            return
        if case.path == "/v1/bars":
            case.body = self._bars(case.body)
        elif case.path == "/invocations":
            case.body = self._rows(case.body)
        elif case.path.endswith("/infer"):
            case.body = self._tensor(case.body)

    def _binary(self, case: schemathesis.Case) -> None:
        """The bytes as FP32 after a header of JSON."""
        shape = [1, WINDOW, len(self.names)]
        size = 4 * WINDOW * len(self.names)
        tail = (case.body.data * size)[:size] or bytes(size)
        tensor = {"name": "features", "datatype": "FP32", "shape": shape}
        head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": size}}]}).encode()
        case.body = Binary(head + tail)
        case.headers["Inference-Header-Content-Length"] = str(len(head))

    def _bars(self, body: dict[str, Any]) -> dict[str, Any]:
        if "bars" in body:
            return {"bars": [self._bar(bar) for bar in body["bars"][:50]]}
        return self._bar(body)

    def _bar(self, bar: dict[str, Any]) -> dict[str, Any]:
        low, first, second, high = sorted(bar[price] for price in ("open", "high", "low", "close"))
        prices = {"open": first, "high": high, "low": low, "close": second, "volume": bar["volume"]}
        return {"symbol": "sp500", "timestamp": next(self.clock), **prices}

    def _rows(self, body: dict[str, Any]) -> dict[str, Any]:
        row = _numbers(body, len(self.names))
        return {form: FORMS[form](self.names, row) if form in FORMS else body[form] for form in body}

    def _tensor(self, body: dict[str, Any]) -> dict[str, Any]:
        shape = [1, WINDOW, len(self.names)]
        data = _numbers(body["inputs"][0].get("data"), WINDOW * len(self.names))
        outputs = [{"name": output["name"]} for output in body.get("outputs") or []]
        tensor = {"name": "features", "datatype": "FP32", "shape": shape, "data": data}
        return {
            "id": body.get("id"),
            "inputs": [tensor],
            "outputs": list({o["name"]: o for o in outputs}.values()),
        }


def fuzz_document(service: Service, per_operation: int) -> tuple[Counter[int], list[str]]:
    """Statuses seen, and what went wrong; `per_operation` cases of each kind.

    Wrong are a 5xx, a traceback, an answer unlike the document, and an operation that was never answered 200.
    """
    schema = schemathesis.openapi.from_dict(requests.get(f"{service.url}/openapi.json", timeout=10).json())
    with requests.Session() as session:
        fuzz = Fuzz(service, session)
        for found in schema.get_all_operations():
            operation = found.ok()
            if operation.path in LEFT_OUT:
                continue
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                cases = operation.as_strategy(generation_mode=mode)
                _run(fuzz, cases, per_operation, fits=mode is GenerationMode.POSITIVE)
    unreached = [f"{label} was never answered 200" for label, seen in fuzz.statuses.items() if not seen[200]]
    return sum(fuzz.statuses.values(), Counter()), [*fuzz.faults, *unreached]


def _run(
    fuzz: Fuzz, cases: hypothesis.strategies.SearchStrategy[schemathesis.Case], count: int, *, fits: bool
) -> None:
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=cases)
    def send(case: schemathesis.Case) -> None:
        fuzz.send(case)
        if fits:
            fuzz.fit(case)
            fuzz.send(case)

    try:
        send()
    except hypothesis.errors.Unsatisfiable:
        # an operation without parameters cannot be called wrongly
        return


def _numbers(value: Any, count: int) -> list[float | None]:
    """`count` numbers: those of `value`, however nested, again and again; those beyond FP32 are left out."""
    found = [n for n in _flat(value) if n is None or abs(n) < 3e38] or [0.5]
    return list(itertools.islice(itertools.cycle(found), count))


def _flat(value: Any) -> Iterator[float | None]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _flat(inner)
    elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        yield value
