"""docs/models.md names what there is, and nothing else."""

import re
from pathlib import Path
from typing import get_args

import pytest

from evaluation import gates
from models.calibration import KINDS
from models.combination import Method
from models.families import FAMILIES
from models.graph import WIDE
from models.quantise import LEAST_GAIN
from models.targets import CLASSES
from pipelines.params import known_names

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "models.md").read_text()
RULES = set(
    re.findall(r'"((?:[a-z]+_)*[a-z]+)", "(?:integrity|quality|trade)"', Path(gates.__file__).read_text())
)


def rows(first: str) -> list[str]:
    """First cells of the table whose head begins with `first`."""
    lines = PAGE.splitlines()
    at = next(k for k, line in enumerate(lines) if line.startswith(f"| {first} |"))
    found = []
    for line in lines[at + 2 :]:
        if not line.startswith("|"):
            break
        found.append(line.split("|")[1].strip().strip("`"))
    return found


@pytest.mark.parametrize(
    ("table", "known"),
    [
        ("family", list(FAMILIES)),
        ("target", list(CLASSES)),
        ("`ensemble.method`", list(get_args(Method))),
        ("`ensemble.calibration`", list(KINDS)),
    ],
)
def test_tables_list_what_there_is(table: str, known: list[str]) -> None:
    assert sorted(rows(table)) == sorted(known)


@pytest.mark.parametrize("kind", CLASSES)
def test_classes_stand_in_their_order(kind: str) -> None:
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| `{kind}`"))
    found = re.findall(r"[a-z]+", re.sub(r"\(.*?\)", "", line.split("|")[3]))
    assert tuple(found) == CLASSES[kind]  # type: ignore[index]


def test_every_rule_of_the_gate_is_explained() -> None:
    assert {"drawdown", "deflated_sharpe", "calibrated"} <= RULES
    assert [
        rule for rule in sorted(RULES) if rule != "challenger_not_worse" and f"`{rule}`" not in PAGE
    ] == []


def test_every_parameter_on_the_page_exists() -> None:
    known = sorted(known_names())
    named = set(re.findall(r"`([a-z]+\.[a-z0-9_.]+)(?::[^`]*)?`", PAGE))
    blocks = {name.split(".")[0] for name in known}
    unknown = [
        name
        for name in sorted(named)
        if name.split(".")[0] in blocks
        and not any(name.startswith(each) or each.startswith(name) for each in known)
    ]
    assert unknown == []


def test_figures_of_8_bit_weights_are_those_of_the_code() -> None:
    assert f"layers {WIDE} wide or more" in PAGE
    assert f"{LEAST_GAIN:g} times as fast" in PAGE
