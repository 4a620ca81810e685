from pathlib import Path

import pytest

from core.errors import ConfigurationError
from core.settings import child_environment, disable_telemetry, kernel_cache, load_settings


def test_all_faults_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELLWETHER_PORT", "eighty")
    monkeypatch.setenv("BELLWETHER_LOG_LEVEL", "LOUD")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    text = str(caught.value)
    assert "BELLWETHER_PORT='eighty'" in text
    assert "BELLWETHER_LOG_LEVEL='LOUD'" in text


def test_places_follow_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BELLWETHER_HOME", str(tmp_path))
    settings = load_settings()
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    assert settings.prediction_log_dir == tmp_path / "var" / "predictions"


def test_kernels_have_a_place_whoever_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert kernel_cache() == tmp_path / ".cache" / "bellwether" / "kernels"
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # a user without a home
    with pytest.raises(OSError, match="Not a directory"):
        kernel_cache().mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert kernel_cache() == tmp_path / "x" / "bellwether" / "kernels"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "n"))
    assert kernel_cache() == tmp_path / "n"


def test_the_token_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELLWETHER_TOKEN", "correct-horse-battery")
    assert "horse" not in repr(load_settings())


@pytest.mark.parametrize(
    "token", ["", "a", "fifteen-letters", "has a space in the middle", "ümläuts-are-not-sent"]
)
def test_a_token_that_can_be_guessed_or_not_sent_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("BELLWETHER_TOKEN", token)
    with pytest.raises(
        ConfigurationError, match=f"of {len(token)} characters.*openssl rand -hex 32"
    ) as caught:
        load_settings()
    assert repr(token) not in str(caught.value)


def test_the_shortest_token_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELLWETHER_TOKEN", "sixteen-letters!")
    token = load_settings().token
    assert token is not None
    assert token.get_secret_value() == "sixteen-letters!"


def test_an_empty_certificate_or_grpc_port_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELLWETHER_GRPC_PORT", "")
    monkeypatch.setenv("BELLWETHER_TLS_CERT", "")
    monkeypatch.setenv("BELLWETHER_TLS_KEY", "key.pem")
    settings = load_settings()
    assert (settings.grpc_port, settings.tls_cert, settings.tls_key) == (None, None, Path("key.pem"))
    monkeypatch.setenv("BELLWETHER_GRPC_PORT", "0")
    assert load_settings().grpc_port == 0


def test_telemetry_is_off_here_and_in_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DO_NOT_TRACK", "false")
    assert child_environment()["DO_NOT_TRACK"] == "true"
    disable_telemetry()
    assert child_environment(EXTRA="1")["EXTRA"] == "1"
