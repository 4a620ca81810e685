import re
from pathlib import Path

import pandas as pd
import pytest

from core.errors import DataError
from monitoring.drift import _agree, detect, evidently_numbers
from monitoring.verdict import assess

_FETCHED = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*(?:src|href)\s*=\s*[\"']?(?:https?:)?//", re.I
)


def test_report_and_verdict_are_the_same_numbers_on_the_crash(
    feature_rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import monitoring.drift as drift

    seen: dict[str, float] = {}

    def spy(content: dict) -> dict[str, float]:
        seen.update(evidently_numbers(content))
        return dict(seen)

    monkeypatch.setattr(drift, "evidently_numbers", spy)
    now, past = feature_rows["2007-07-02":"2009-03-09"], feature_rows[:"2007-06-29"]
    features, page = list(feature_rows.columns[:-1]), tmp_path / "drift.html"
    verdict = detect(now, past, columns=features, report=page, subject="sp500-1d", version="1")

    ours = {c.name: c.distance for c in (*verdict.columns, verdict.prediction) if c}
    assert seen == pytest.approx({"": verdict.share, **ours}, rel=1e-12)
    assert verdict == assess(now, past, columns=features, subject="sp500-1d", version="1")

    text = page.read_text()
    assert "sp500-1d 1 drift: " in text
    assert verdict.severity.name in text
    assert "Dataset Drift is detected" in text
    assert not _FETCHED.search(text), "the page must open offline"
    assert [p.name for p in tmp_path.glob("*.html")] == ["drift.html"]


def test_a_disagreement_with_evidently_is_an_error(noise: pd.DataFrame) -> None:
    verdict = assess(noise.iloc[800:], noise.iloc[:800], columns=["x0"], prediction=None)
    with pytest.raises(DataError, match="x0"):
        _agree({"": verdict.share, "x0": verdict.columns[0].distance + 1e-6}, verdict)
    with pytest.raises(DataError, match="None for the share"):
        _agree({"x0": verdict.columns[0].distance}, verdict)


def test_without_a_report_evidently_is_not_imported(noise: pd.DataFrame, tmp_path: Path) -> None:
    verdict = detect(noise.iloc[800:], noise.iloc[:800], columns=["x0"], report=None)
    assert verdict.rows == 200
    assert not list(tmp_path.iterdir())
