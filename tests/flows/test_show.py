"""Artifacts as text."""

import pytest

from core.settings import Settings
from flows.show import cell, grid, is_table, key, markdown, version_link


@pytest.mark.parametrize(
    ("parts", "expected"),
    [(("drift", "sp500-1d"), "drift-sp500-1d"), (("Retrain", "BRK.B_1h"), "retrain-brk-b-1h")],
)
def test_keys_hold_only_what_prefect_allows(parts: tuple[str, ...], expected: str) -> None:
    assert key(*parts) == expected


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (True, "yes"),
        (False, "no"),
        (0.123456, "0.1235"),
        ("a|b\nc", "a\\|b c"),
        (12345678, "12345678"),
    ],
)
def test_cells(value: object, shown: str) -> None:
    assert cell(value) == shown


def test_grid_follows_the_first_record() -> None:
    assert grid([{"a": 1, "b": 2}, {"b": 3}]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n| – | 3 |"


def test_markdown_has_facts_links_lists_and_tables_and_skips_what_is_empty() -> None:
    text = markdown(
        "sp500-1d version 3",
        {
            "version": "3",
            "data": {"rows": 10},
            "models": [{"name": "lstm"}],
            "next_steps": ["serve"],
            "none": [],
        },
        {"MLflow": "http://127.0.0.1:5000/"},
    )
    assert text.startswith("# sp500-1d version 3\n\n- [MLflow](http://127.0.0.1:5000/)\n\n| what | value |")
    assert "## data\n\n| what | value |\n| --- | --- |\n| rows | 10 |" in text
    assert "## models\n\n| name |" in text
    assert "## next steps\n\n- serve" in text
    assert "## none" not in text


def test_only_lists_of_records_are_tables() -> None:
    assert is_table([{"a": 1}])
    assert not is_table([])
    assert not is_table(["a"])
    assert not is_table({"a": 1})


def test_version_link_points_into_our_mlflow(settings: Settings) -> None:
    link = version_link(settings, "sp500-1d", "3")
    assert link == f"http://127.0.0.1:{settings.mlflow_port}/#/models/sp500-1d/versions/3"
