import pytest

from cli.replay import next_command
from core.errors import UsageError
from core.settings import load_settings
from pipelines import replay as verb
from pipelines.replay import replay


@pytest.mark.parametrize(
    ("start", "until", "days"),
    [
        (None, None, ""),
        ("2007-07-02", None, " --from 2007-07-02"),
        ("2007-07-02", "2009-03-09", " --from 2007-07-02 --until 2009-03-09"),
    ],
)
def test_the_next_command_judges_the_days_replayed(start: str | None, until: str | None, days: str) -> None:
    assert next_command("sp500-1d", start, until) == f"bellwether drift --model sp500-1d{days}"


def test_days_the_wrong_way_round_are_a_usage_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "open_registry", lambda _: None)
    monkeypatch.setattr(verb, "resolve_model", lambda *_: "sp500-1d")
    with pytest.raises(UsageError, match="from 2009-03-09 until 2007-07-02"):
        replay(load_settings(), start="2009-03-09", until="2007-07-02")
