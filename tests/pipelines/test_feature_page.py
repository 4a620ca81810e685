"""The page of a feature, on values that plots do not like."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.settings import Settings
from pipelines.feature_page import render
from pipelines.feature_tools import Tools, statistics
from pipelines.params import check, read_tree

ROOT = Path(__file__).resolve().parents[2]
ROWS = 5000


@pytest.fixture(scope="module")
def close() -> pd.Series:
    index = pd.date_range("2020-01-01", periods=ROWS, freq="h", tz="UTC", name="timestamp")
    return pd.Series(np.linspace(1e-9, 2e-9, ROWS), index=index)


def facts(values: pd.Series) -> dict[str, Any]:
    return {
        "name": "own",
        "formula": "close < open",
        "expanded": "open > close",
        "group": "user",
        "range": "",
        "source": "params.yaml",
        "warmup": 3,
        "operators": {"a > b": "1 where a > b, else 0."},
        "bars": "X & Y <1h>",
        "statistics": statistics(values, 3),
    }


VALUES = {
    "constant": np.ones(ROWS),
    "missing throughout": np.full(ROWS, np.nan),
    "missing in stretches": np.where(np.arange(ROWS) % 1000 < 500, np.nan, np.arange(ROWS)),
    "a spike": np.where(np.arange(ROWS) == 2500, 1e30, 0.0),
}


@pytest.mark.parametrize("kind", VALUES)
def test_any_values_give_a_page(kind: str, close: pd.Series) -> None:
    values = pd.Series(VALUES[kind], index=close.index)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = render(facts(values), values, close)
    assert page == render(facts(values), values, close)
    assert "<svg" in page
    assert "close &lt; open" in page
    assert "X &amp; Y &lt;1h&gt;" in page


def test_few_bars_are_enough(close: pd.Series) -> None:
    values = close.iloc[:2]
    assert "<svg" in render(facts(values), values, values)


def test_a_long_series_is_thinned_and_its_spike_stays(close: pd.Series) -> None:
    plain, spiked = (pd.Series(VALUES[kind], index=close.index) for kind in ("constant", "a spike"))
    long = render(facts(plain), plain, close)
    assert len(long) < 400_000
    assert "1e30" in render(facts(spiked), spiked, close)


def test_statistics_leave_out_the_warmup_and_count_what_is_missing() -> None:
    found = statistics(pd.Series([np.nan, 99.0, 1.0, np.nan, 3.0, np.nan]), 2)
    assert (found["rows"], found["missing"], found["mean"], found["last"]) == (6, 2, 2.0, None)
    assert statistics(pd.Series([np.nan]), 0) == {"rows": 1, "missing": 1}


def test_before_a_first_run_the_source_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = Tools(Settings(home=tmp_path), check(read_tree(ROOT / "params.yaml")), {})
    asked: list[Path | None] = []
    monkeypatch.setattr(Tools, "bars", lambda self, file: asked.append(file))
    assert tools.stored_bars() is None
    assert asked == [None]
