"""A model as of a day meets the bars that came after it: the crash is flagged, a quiet year is not."""

import socket
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e
FirstRun = tuple[Any, dict[str, Any]]


def judge(
    checkout: Any, as_of: str, first: str, last: str
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Train as of a day, replay what followed, judge it: the three documents."""
    run = checkout.json("run", "--set", f"data.until={as_of}")
    # other tests may have registered others in the same checkout
    days = ["--model", "sp500-1d", "--from", first, "--until", last]
    return run, checkout.json("replay", *days), checkout.json("drift", *days)


def test_the_crash_of_2008_is_flagged(first_run: FirstRun, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout, _ = first_run
    # of a service that runs beside the replay's own
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("BELLWETHER_GRPC_PORT", str(taken.getsockname()[1]))
        run, replayed, verdict = judge(checkout, "2007-06-29", "2007-07-02", "2009-03-09")
    assert run["data"]["last"][:10] == "2007-06-29"
    assert run["alias"] == "challenger"
    assert replayed["version"] == run["version"]
    assert replayed["summary"]["bars"] == 425
    assert replayed["summary"]["warming"] == 0
    assert verdict["drifted"]
    assert verdict["severity"] in ("HIGH", "CRITICAL")
    assert verdict["retrain"]
    assert verdict["as_of"] == "2009-03-09"
    page = Path(verdict["html"]).read_text()
    assert "2008-03" in page
    assert checkout.changed() == ["dvc.lock"]


def test_a_quiet_year_is_not(first_run: FirstRun) -> None:
    checkout, _ = first_run
    run, replayed, verdict = judge(checkout, "2012-12-31", "2013-01-02", "2013-12-31")
    assert replayed["version"] == run["version"]
    assert not verdict["drifted"]
    assert verdict["severity"] in ("NONE", "LOW")
    assert not verdict["retrain"]
