import pytest

from core.errors import RegistryError, ServiceError, UsageError
from core.settings import load_settings
from serving.client import connect, post, replay
from serving.fleet import Fleet
from serving.metrics import Metrics
from serving.server import serve
from tests.serving.kit import FakeRegistry


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_an_open_address_needs_a_token(host: str) -> None:
    with pytest.raises(UsageError, match="BELLWETHER_TOKEN"):
        serve(load_settings(), host=host, port=0)


def test_an_address_that_is_not_ours_is_one_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELLWETHER_TOKEN", "correct-horse-battery")
    with pytest.raises(ServiceError, match="cannot be used"):
        serve(load_settings(), host="203.0.113.7", port=0)


def test_an_empty_registry_is_refused_or_waited_for() -> None:
    settings = load_settings()
    with pytest.raises(RegistryError, match="run `bellwether run`"):
        Fleet(settings, Metrics()).start()
    FakeRegistry(settings.mlflow_dir / "mlflow.db")
    with pytest.raises(RegistryError, match="no model with a champion"):
        Fleet(settings, Metrics()).start()
    assert Fleet(settings, Metrics()).start(wait=True) == []
    slots = Fleet(settings, Metrics(), model="sp500-1d").start(wait=True)
    assert slots[0].current is None
    with pytest.raises(RegistryError, match="no champion"):
        Fleet(settings, Metrics(), model="sp500-1d").start()


def test_replay_says_when_no_service_answers() -> None:
    with pytest.raises(ServiceError, match="bellwether serve"):
        replay("http://127.0.0.1:9", [(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)], "sp500")


@pytest.mark.parametrize("url", ["", "localhost:8080", "https://x", "http://"])
def test_replay_refuses_a_strange_address(url: str) -> None:
    with pytest.raises(ServiceError, match=r"http://127\.0\.0\.1:8080"):
        post(connect(url), "/v1/bars", {})
