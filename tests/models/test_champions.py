"""The history of champions survives kills, hands and repeats."""

import json

import pytest
from mlflow.utils.validation import MAX_MODEL_REGISTRY_TAG_VALUE_LENGTH

from models.champions import FOUND, ROLLED_BACK, Entry, entry, read_history, read_trail, write_history


def steps(*versions: str) -> list[Entry]:
    """Promotions, and with `<` in front a rollback."""
    return [
        entry(v.lstrip("<"), "2020-01-01T00:00:00+00:00", "", move=ROLLED_BACK)
        if v.startswith("<")
        else entry(v, "2020-01-01T00:00:00+00:00", "")
        for v in versions
    ]


@pytest.mark.parametrize(
    ("stored", "current", "alive", "expected"),
    [
        (["1", "2", "3"], "3", "123", ["1", "2", "3"]),
        (["1", "2", "3"], "2", "123", ["1", "2"]),  # killed between the history and the alias
        (["1", "2"], "3", "123", ["1", "2", "3"]),  # moved by hand
        (["1", "2", "3"], "3", "13", ["1", "3"]),  # version 2 was deleted
        (["1", "2", "1"], "1", "12", ["1", "2", "1"]),
        (["1", "2", "3", "<2"], "2", "123", ["1", "2"]),
        (["1", "2", "3", "<2"], "3", "123", ["1", "2", "3"]),  # a rollback killed before the alias
        (["1", "2", "3", "<2", "<1"], "1", "123", ["1"]),
        (["1", "2", "3", "<2", "4"], "4", "1234", ["1", "2", "4"]),
    ],
)
def test_the_alias_is_the_truth(stored: list[str], current: str, alive: str, expected: list[str]) -> None:
    now = entry(current, "2020-01-02T00:00:00+00:00", "", move=FOUND)
    history = read_history(json.dumps(steps(*stored)), now)
    assert [e["version"] for e in read_trail(history, set(alive))] == expected


def test_the_history_keeps_what_was_undone() -> None:
    found = entry("1", "2020-01-02T00:00:00+00:00", "moved by hand", move=FOUND)
    history = read_history(json.dumps(steps("1", "2", "<1", "3")), found)
    assert [(e["version"], e["move"]) for e in history] == [
        ("1", "promoted"), ("2", "promoted"), ("1", "rolled back"), ("3", "promoted"), ("1", "found"),
    ]  # fmt: skip


def test_entries_without_a_move_are_promotions() -> None:
    old = json.dumps([{"version": "1", "at": "2020", "reason": "first"}])
    assert read_history(old, None) == [
        {"version": "1", "at": "2020", "reason": "first", "by": "", "move": "promoted"}
    ]


def test_the_same_champion_twice_is_one_step_and_the_history_is_bounded() -> None:
    kept = json.loads(write_history(steps("1", "1", "2", "2", "1")))
    assert [e["version"] for e in kept] == ["1", "2", "1"]
    many = json.loads(write_history(steps(*(str(k) for k in range(150)))))
    assert [e["version"] for e in many] == [str(k) for k in range(50, 150)]


def test_reasons_are_cut_so_that_a_full_history_fits_a_tag() -> None:
    longest = [entry(str(k), "2020-01-01T00:00:00+00:00", "\u2212" * 999, by="b" * 999) for k in range(150)]
    assert (len(longest[0]["reason"]), len(longest[0]["by"])) == (500, 100)
    assert len(write_history(longest)) <= MAX_MODEL_REGISTRY_TAG_VALUE_LENGTH
