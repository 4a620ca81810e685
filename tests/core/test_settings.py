from pathlib import Path

import pytest

from core.errors import ConfigurationError
from core.settings import child_environment, disable_telemetry, load_settings


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


def test_the_token_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELLWETHER_TOKEN", "hunter2")
    assert "hunter2" not in repr(load_settings())


def test_telemetry_is_off_here_and_in_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DO_NOT_TRACK", "false")
    assert child_environment()["DO_NOT_TRACK"] == "true"
    disable_telemetry()
    assert child_environment(EXTRA="1")["EXTRA"] == "1"
