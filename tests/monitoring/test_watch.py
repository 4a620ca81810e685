from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from core.clock import FakeClock
from monitoring.decision import DecisionStore, Severity
from monitoring.watch import Watch, watch


def look(rows: pd.DataFrame, as_of: str, start: str, end: str, path: Path) -> Watch:
    return watch(
        rows[start:end],
        rows[:as_of],
        columns=list(rows.columns[:-1]),
        store=DecisionStore(path, FakeClock(datetime(2009, 3, 9, 21, tzinfo=UTC))),
        subject="sp500-1d",
        version="1",
        report=None,
    )


def test_a_replayed_crash_is_confirmed_in_one_watch_and_only_once(
    feature_rows: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "decisions.json"
    first = look(feature_rows, "2007-06-29", "2007-07-02", "2009-03-09", path)
    assert first.retrain
    assert first.verdict.severity >= Severity.HIGH
    assert first.decision.trading != "normal"
    again = look(feature_rows, "2007-06-29", "2007-07-02", "2009-03-09", path)
    assert again.decision.repeated
    assert not again.retrain


def test_a_quiet_year_leaves_trading_alone(feature_rows: pd.DataFrame, tmp_path: Path) -> None:
    quiet = look(feature_rows, "2004-12-31", "2005-01-03", "2006-06-30", tmp_path / "decisions.json")
    assert not quiet.retrain
    assert quiet.decision.trading == "normal"
