"""Requests made from the service's own OpenAPI document, valid ones and broken ones."""

from collections import Counter

import hypothesis
import requests
import schemathesis
from schemathesis import GenerationMode

from tests.serving.kit import Service

# a stream answers the handshake of a WebSocket only
LEFT_OUT = {"/v1/stream"}


def fuzz_document(service: Service, per_operation: int) -> tuple[Counter[int], list[str]]:
    """Statuses seen, and what was answered 5xx or with a traceback; `per_operation` cases of each kind."""
    schema = schemathesis.openapi.from_dict(requests.get(f"{service.url}/openapi.json", timeout=10).json())
    statuses: Counter[int] = Counter()
    faults: list[str] = []
    with requests.Session() as session:
        for found in schema.get_all_operations():
            operation = found.ok()
            if operation.path in LEFT_OUT:
                continue
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                cases = operation.as_strategy(generation_mode=mode)
                _run(service.url, cases, per_operation, session, statuses, faults)
    return statuses, faults


def _run(
    url: str,
    cases: hypothesis.strategies.SearchStrategy[schemathesis.Case],
    count: int,
    session: requests.Session,
    statuses: Counter[int],
    faults: list[str],
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
        response = case.call(base_url=url, session=session)
        statuses[response.status_code] += 1
        if response.status_code >= 500 or "Traceback" in response.text:
            faults.append(f"{case.as_curl_command()} -> {response.status_code} {response.text[:300]}")

    try:
        send()
    except hypothesis.errors.Unsatisfiable:
        # an operation without parameters cannot be called wrongly
        return
