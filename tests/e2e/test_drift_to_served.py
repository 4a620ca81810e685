"""Drift on live bars → event → automation → retrain run → a new version that the running service serves."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import urlopen

import pytest

from pipelines.params import PARAMS_FILE, read_tree, with_overrides, write_tree
from tests.support.checkout import Checkout, git
from tests.support.running_stack import RunningStack, settings_in, start_stack, stop_stack

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def trained(make_checkout: Callable[[], Checkout]) -> Checkout:
    """A checkout whose champion knows the bars up to 2007-06-29."""
    checkout = make_checkout()
    path = checkout.root / PARAMS_FILE
    write_tree(path, with_overrides(read_tree(path), {"data.until": "2007-06-29"}))
    git(checkout.root, "commit", "--quiet", "--all", "--message=as of 2007")
    assert checkout.json("run")["alias"] == "champion"
    return checkout


@pytest.fixture(scope="module")
def stack(trained: Checkout) -> Iterator[RunningStack]:
    """`bellwether up` over that checkout."""
    running = start_stack(settings_in(trained.root))
    try:
        running.wait_for(lambda: running.saw("stack", "ready"), 150, "the stack is up")
        yield running
    finally:
        stop_stack(running)


def served(stack: RunningStack) -> dict[str, Any]:
    """What the service says of its model."""
    with urlopen(f"http://127.0.0.1:{stack.settings.port}/v2/models/sp500-1d", timeout=5) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def test_drift_ends_in_a_new_version_being_served(trained: Checkout, stack: RunningStack) -> None:
    stack.wait_for(lambda: stack.saw("service", "ready"), 60, "the service serves the champion")
    assert served(stack)["versions"] == ["1"]
    url = f"http://127.0.0.1:{stack.settings.port}"
    trained.bellwether("replay", "--from", "2007-07-02", "--until", "2009-03-09", "--url", url)
    watch = stack.api("/deployments/name/watch/bellwether")
    stack.api(f"/deployments/{watch['id']}/create_flow_run", {"state": {"type": "SCHEDULED"}})
    ended = ("COMPLETED", "FAILED", "CRASHED")
    watched = stack.wait_for(lambda: stack.runs("watch", *ended), 120, "the watch run ends")
    assert watched[0]["state_type"] == "COMPLETED", watched[0]["state"]
    retrained = stack.wait_for(lambda: stack.runs("retrain", *ended), 180, "drift starts a retrain that ends")
    assert retrained[0]["state_type"] == "COMPLETED", retrained[0]["state"]
    assert retrained[0]["parameters"]["as_of"] == "2009-03-09"
    stack.wait_for(lambda: served(stack)["versions"] == ["2"], 30, "version 2 is served")
    assert {p for p in trained.changed() if not p.startswith("events")} == {"dvc.lock"}
    assert stack.interrupt() == 0
