"""The trail of champions survives kills, hands and repeats."""

import json

import pytest

from models.champions import entry, read_trail, write_trail


def steps(*versions: str) -> list[dict[str, str]]:
    return [entry(v, "2020-01-01T00:00:00+00:00", "") for v in versions]


@pytest.mark.parametrize(
    ("stored", "current", "alive", "expected"),
    [
        (["1", "2", "3"], "3", "123", ["1", "2", "3"]),
        (["1", "2", "3"], "2", "123", ["1", "2"]),  # killed between the trail and the alias
        (["1", "2"], "3", "123", ["1", "2", "3"]),  # moved by hand
        (["1", "2", "3"], "3", "13", ["1", "3"]),  # version 2 was deleted
        (["1", "2", "1"], "1", "12", ["1", "2", "1"]),
        (["1", "2"], None, "12", []),
    ],
)
def test_the_alias_is_the_truth(
    stored: list[str], current: str | None, alive: str, expected: list[str]
) -> None:
    now = steps(current)[0] if current else None
    trail = read_trail(json.dumps(steps(*stored)), now, set(alive))
    assert [e["version"] for e in trail] == expected


def test_the_same_champion_twice_is_one_step_and_the_trail_is_bounded() -> None:
    assert [e["version"] for e in json.loads(write_trail(steps("1", "1", "2", "2", "1")))] == ["1", "2", "1"]
    many = json.loads(write_trail(steps(*(str(k) for k in range(50)))))
    assert [e["version"] for e in many] == [str(k) for k in range(30, 50)]


def test_reasons_are_cut() -> None:
    assert len(entry("1", "now", "x" * 999)["reason"]) == 200
