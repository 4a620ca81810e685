"""The page opens offline and says what the report says."""

import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from data.quality import QualityReport
from data.quality_page import render
from data.rules import RULES

Make = Callable[..., pd.DataFrame]
Check = Callable[..., QualityReport]


def bad_report(make_bars: Make, check: Check) -> QualityReport:
    bars = make_bars()
    bars.iloc[4, 3] = np.nan
    return check(bars)


def test_nothing_is_fetched(make_bars: Make, check: Check) -> None:
    page = render(bad_report(make_bars, check), symbol="x", max_quarantined=0)
    assert not re.search(r"https?:|//|<script|<link|@import|url\(|src=", page)


def test_it_shows_verdict_rules_rows_and_span(make_bars: Make, check: Check) -> None:
    report = bad_report(make_bars, check)
    page = render(report, symbol="A<B", max_quarantined=0, description="from a file", data_hash="ab" * 32)
    assert "Refused: 1 row in quarantine, at most 0 allowed" in page
    assert all(rule.title in page for rule in RULES.values())
    assert "prices: close nan must be finite and above zero" in page
    assert "2024-01-01 01:00" in page
    assert "2024-01-03 00:00" in page
    assert "A&lt;B" in page
    assert "A<B" not in page
    assert page == render(
        report, symbol="A<B", max_quarantined=0, description="from a file", data_hash="ab" * 32
    )


def test_other_verdicts(make_bars: Make, check: Check) -> None:
    assert "Accepted: all 15 rules hold" in render(check(make_bars()), symbol="x", max_quarantined=0)
    accepted = render(bad_report(make_bars, check), symbol="x", max_quarantined=5)
    assert "Accepted with 1 row in quarantine and 1 warning" in accepted
    short = render(check(make_bars(0), min_rows=10), symbol="x", max_quarantined=0)
    assert "Refused: 0 bars remain, at least 10 are needed" in short
    assert "no time" not in short
