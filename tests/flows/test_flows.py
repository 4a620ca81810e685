"""The flows on a Prefect server, the pipelines behind them replaced."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from core.errors import ConfigurationError, DataError, GateRefused, StageFailed
from core.settings import Settings
from flows import promote as promote_module
from flows import request as request_module
from flows import retrain as retrain_module
from flows import watch as watch_module
from flows.retrain import STAGES, changes, check_model, retrain
from flows.watch import judge_if_possible, watch

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_as_of_and_text_become_parameters() -> None:
    assert changes({"labels.horizon": "10", "data.symbol": "GOOG", "splits.embargo": 3}, "2008-10-10") == {
        "labels.horizon": 10, "data.symbol": "GOOG", "splits.embargo": 3, "data.until": "2008-10-10",
    }  # fmt: skip


def test_as_of_may_carry_a_time() -> None:
    assert changes(None, "2008-10-10T20:00:00+00:00") == {"data.until": "2008-10-10"}


def test_as_of_that_is_no_day_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'soon' is not a day: give it as YYYY-MM-DD"):
        changes(None, "soon")


@pytest.mark.parametrize("model", [None, "sp500-1d"])
def test_model_that_the_parameters_train_is_accepted(pipelines: Any, model: str | None) -> None:
    check_model(pipelines.workspace, model)


def test_model_of_another_symbol_is_refused(pipelines: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"GOOG-1d was asked for, but data\.symbol is sp500"):
        check_model(pipelines.workspace, "GOOG-1d")


def test_retrain_runs_every_stage_then_pushes_then_registers(pipelines: Any) -> None:
    summary = retrain(as_of="2008-10-10", reason="drift")
    assert pipelines.workspace.calls == [*STAGES, "push"]
    assert pipelines.overrides == [{"data.until": "2008-10-10"}]
    assert pipelines.reasons == ["drift"]
    assert summary["version"] == "3"


def test_stage_that_fails_is_tried_again(pipelines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrain_module.run_stage, "retry_delay_seconds", 0)
    pipelines.workspace.faults["features"] = [StageFailed("killed", exit_code=1)]
    retrain()
    assert pipelines.workspace.calls.count("features") == 2


@pytest.mark.parametrize("fault", [GateRefused("7 rows"), StageFailed("quarantine", exit_code=3)])
def test_refusal_is_not_tried_again_and_nothing_is_registered(pipelines: Any, fault: Exception) -> None:
    pipelines.workspace.faults["validate"] = [fault]
    with pytest.raises(type(fault)):
        retrain()
    assert pipelines.workspace.calls == ["ingest", "validate"]
    assert pipelines.reasons == []


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Retrains that `watch` asks for."""
    found: list[tuple[str, str]] = []

    def ask(model: str, as_of: str, _verdict: dict[str, Any]) -> str:
        found.append((model, as_of))
        return "event"

    monkeypatch.setattr(watch_module, "request_retrain", ask)
    return found


@pytest.mark.parametrize(("retrains", "expected"), [(True, [("sp500-1d", "2008-10-10")]), (False, [])])
def test_watch_asks_for_a_retrain_only_when_decided(
    pipelines: Any, asked: list[tuple[str, str]], retrains: bool, expected: list[tuple[str, str]]
) -> None:
    pipelines.retrain = retrains
    done = watch("sp500-1d")
    assert asked == expected
    assert done == {"sp500-1d": "retrain asked for by event" if retrains else "nothing"}


def test_watch_without_a_champion_has_nothing_to_do(pipelines: Any, asked: list[tuple[str, str]]) -> None:
    assert watch() == {}


def test_log_that_cannot_be_judged_is_no_failure_of_the_schedule(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_log(*_: Any) -> str:
        raise DataError("the log holds 3 rows")

    monkeypatch.setattr(watch_module, "judge", no_log)
    monkeypatch.setattr(watch_module, "get_run_logger", lambda: SimpleNamespace(info=lambda *_: None))
    assert judge_if_possible(settings, "sp500-1d", None) == "not judged: the log holds 3 rows"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Events, deployment runs and direct calls that a request leads to, in order."""
    found: list[tuple[str, Any]] = []

    def record(name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: found.append((name, kwargs or args))

    monkeypatch.setattr(request_module, "emit_event", record("event"))
    monkeypatch.setattr(request_module, "run_deployment", record("deployment"))
    monkeypatch.setattr(request_module, "retrain", record("direct"))
    return found


@pytest.mark.parametrize(
    ("way", "steps"),
    [("event", ["event"]), ("deployment", ["event", "deployment"]), ("direct", ["event", "direct"])],
)
def test_retrain_is_asked_for_once_by_the_best_way_there_is(
    said: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch, way: str, steps: list[str]
) -> None:
    monkeypatch.setattr(request_module, "available_way", lambda: way)
    assert request_module.request_retrain("sp500-1d", "2008-10-10", {"severity": "HIGH", "share": 0.4}) == way
    assert [name for name, _ in said] == steps
    event = said[0][1]
    assert event["resource"]["prefect.resource.id"] == "model.sp500-1d"
    assert event["payload"] == {
        "model": "sp500-1d", "as_of": "2008-10-10", "share": 0.4, "severity": "HIGH",
    }  # fmt: skip
    if way == "deployment":
        assert said[1][1]["idempotency_key"] == "drift:sp500-1d:2008-10-10"


def test_server_without_the_deployment_leaves_the_direct_call() -> None:
    assert request_module.available_way() == "direct"


def test_promotion_that_is_refused_fails_the_run_with_its_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[Any] = []

    def refuse(*_: Any, **__: Any) -> Any:
        raise GateRefused("parity 1e-3; worse than the champion")

    monkeypatch.setattr(promote_module.promotion, "promote", refuse)
    monkeypatch.setattr(promote_module, "publish", lambda *args: published.append(args))
    with pytest.raises(GateRefused):
        promote_module.promote.fn("sp500-1d")
    assert published[0][2] == {"reasons": ["parity 1e-3", "worse than the champion"]}


def test_a_forced_promotion_hands_on_its_reason_and_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def accept(*args: Any, **options: Any) -> Any:
        asked.append((args[1:], options))
        raise GateRefused("enough seen")

    monkeypatch.setattr(promote_module.promotion, "promote", accept)
    monkeypatch.setattr(promote_module, "publish", lambda *_: None)
    with pytest.raises(GateRefused):
        promote_module.promote.fn("sp500-1d", "3", force=True, reason="the market changed")
    (given, options) = asked[0]
    assert given == ("sp500-1d", "3")
    assert options.pop("by").startswith("Prefect run")
    assert options == {"force": True, "reason": "the market changed"}
