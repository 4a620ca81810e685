"""docs/features.md says what the code does, and its examples run."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import features
from cli.feature_reference import EXAMPLES, FAULTS, UNIVERSE_EXAMPLES, fault, render
from features.catalogue import CATALOGUES, CORE
from features.operators import OPERATORS
from features.parser import callables
from features.probes import probe
from features.selection import select
from features.universe.probes import probe as probe_universe

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "features.md").read_text()


def test_the_page_is_up_to_date() -> None:
    assert render() == PAGE, "run `python -m cli.reference`"


def test_every_row_says_what_it_means() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(rows) >= sum(map(len, CATALOGUES.values())) - len(CORE) + len(OPERATORS)
    assert [row for row in rows if re.search(r"\|\s+\|", row)] == []


NAMES = {feature.name for catalogue in CATALOGUES.values() for feature in catalogue}


@pytest.mark.parametrize("name", sorted(NAMES.union(callables())))
def test_what_exists_is_documented(name: str) -> None:
    assert re.search(rf"\| `{name}[`(]", PAGE)


def test_the_examples_hold_on_real_bars(sp500: pd.DataFrame) -> None:
    definitions = {f"example_{number}": text for number, text in enumerate(EXAMPLES, 1)}
    assert probe(sp500.iloc[-700:], definitions) == []


def test_the_examples_of_a_universe_hold_on_real_bars(sp500: pd.DataFrame) -> None:
    definitions = {f"example_{number}": text for number, text in enumerate(UNIVERSE_EXAMPLES, 1)}
    early = sp500.iloc[:200]
    market = {"EARLY": early, "LATE": sp500.iloc[-150:].set_axis(early.index[50:]), "DAILY": early.iloc[::2]}
    assert probe_universe(market, definitions) == []


def test_the_parameters_shown_are_accepted() -> None:
    shown = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0])["features"]
    chosen = select(shown["catalog"], shown["user"], shown["exclude"])
    assert set(shown["user"]) <= set(chosen)
    first, second = map(yaml.safe_load, re.findall(r"features\.user=(\{.*?\})'", PAGE))
    assert set(second.values()) <= set(UNIVERSE_EXAMPLES)
    assert list(first) == ["my_gap"]
    assert np.isin(list(first.values()), list(shown["user"].values())).all()


def test_core_and_nothing_else_is_marked() -> None:
    assert re.findall(r"\| `(\w+)` ●", PAGE) == [name for name in features.names() if name in CORE]


@pytest.mark.parametrize("text", FAULTS)
def test_the_faults_shown_are_what_the_parser_says(text: str) -> None:
    assert fault(text) in PAGE


def test_what_is_no_fault_cannot_be_shown_as_one() -> None:
    with pytest.raises(AssertionError, match="is no fault"):
        fault("close / open")
