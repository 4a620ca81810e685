"""Ports, environment and the guard against two stacks: nothing is started here."""

import socket

import pytest

from core.errors import ServiceError
from core.files import exclusive_lock
from core.settings import Settings
from flows.spawn import marked
from flows.stack import check_ports, environment, plan, port_is_free, up


def test_busy_ports_are_all_named_with_setting_and_remedy(settings: Settings) -> None:
    with (
        socket.create_server(("127.0.0.1", settings.prefect_port)),
        socket.create_server(("127.0.0.1", settings.port)),
        pytest.raises(ServiceError) as caught,
    ):
        up(settings, lambda _: None)
    message = str(caught.value)
    assert f"port {settings.prefect_port} (prefect) is in use" in message
    assert "BELLWETHER_PREFECT_PORT" in message
    assert f"port {settings.port} (service) is in use" in message
    assert "set BELLWETHER_PORT to a free port" in message
    assert str(settings.mlflow_port) not in message
    assert marked(str(settings.home.resolve())) == []


def test_one_port_for_two_servers_is_refused(settings: Settings) -> None:
    with pytest.raises(ServiceError, match="set for both prefect and mlflow"):
        check_ports(settings.model_copy(update={"mlflow_port": settings.prefect_port}))


def test_port_is_free_again_after_a_server(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", settings.port)):
        assert not port_is_free(settings.port)
    assert port_is_free(settings.port)


def test_second_stack_in_the_same_home_is_refused(settings: Settings) -> None:
    with (
        exclusive_lock(settings.var_dir / "up.lock"),
        pytest.raises(ServiceError, match="already runs"),
    ):
        up(settings, lambda _: None)


def test_children_see_no_prefect_setting_of_the_user(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_KEY", "secret")
    monkeypatch.setenv("PREFECT_PROFILE", "cloud")
    env = environment(settings)
    assert "PREFECT_API_KEY" not in env
    assert "PREFECT_PROFILE" not in env
    assert env["PREFECT_HOME"] == str(settings.var_dir / "prefect")
    assert env["PREFECT_API_URL"] == f"http://127.0.0.1:{settings.prefect_port}/api"
    assert env["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert env["DO_NOT_TRACK"] == "true"


def test_every_service_binds_to_loopback_even_when_the_host_setting_says_otherwise(
    settings: Settings,
) -> None:
    services = plan(settings.model_copy(update={"host": "0.0.0.0"}))
    for service in (*services.first, *services.second):
        assert service.environment["BELLWETHER_HOST"] == "127.0.0.1"
        assert "0.0.0.0" not in " ".join(service.command)
        assert service.url == "" or service.url.startswith("http://127.0.0.1:")
