"""What exists is documented, and what is documented exists."""

import re
from pathlib import Path

import pytest

from cli.reference import render
from core.settings import Settings
from pipelines.params import known_names

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
REFERENCE = (ROOT / "docs" / "reference.md").read_text()


def test_the_reference_is_up_to_date() -> None:
    assert render() == REFERENCE, "run `python -m cli.reference`"


def test_every_row_of_the_reference_says_what_it_means() -> None:
    rows = [line for line in REFERENCE.splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert [row for row in rows if re.search(r"\|\s+\|$", row)] == []


@pytest.mark.parametrize("name", sorted(known_names()))
def test_every_parameter_is_in_the_reference(name: str) -> None:
    assert f"`{name}" in REFERENCE


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_in_the_example_file(name: str) -> None:
    assert f"BELLWETHER_{name.upper()}=" in (ROOT / ".env.example").read_text()


def test_every_command_in_the_readme_exists() -> None:
    used = set(re.findall(r"(?:`|^)bellwether ([a-z]+)", README, re.MULTILINE))
    known = set(re.findall(r"`bellwether ([a-z]+)`", REFERENCE))
    assert used - known == set()
    assert known - used == set()


def test_every_path_in_the_readme_exists() -> None:
    named = set(re.findall(r"`((?:[a-z_]+/)+[\w.]*)`", README))
    made = ("data/store/", "var/", "reports/", "mlflow/artifacts")
    missing = [p for p in named if not p.startswith(made) and not (ROOT / p).exists()]
    assert missing == []


def test_no_document_names_this_machine() -> None:
    for page in [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("*.md")]:
        assert not re.search(r"/(work|root|home|tmp)/\w", page.read_text()), page.name
