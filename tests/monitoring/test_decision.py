from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.clock import FakeClock
from core.errors import ArtifactError, DataError
from monitoring.decision import (
    ACTIONS,
    DecisionRules,
    DecisionStore,
    Observation,
    Severity,
    SubjectState,
    decide,
    observation,
    severity,
)

START = datetime(2008, 9, 15, 20, tzinfo=UTC)
DAY = timedelta(days=1)


def window(day: float, level: Severity = Severity.HIGH, version: str = "1", subject: str = "sp500-1d"):
    end = START + day * DAY
    return Observation(subject, version, end - 10 * DAY, end, level)


@pytest.mark.parametrize(
    ("signals", "degradation", "expected"),
    [
        (0, 0.0, "NONE"),
        (0, 0.01, "LOW"),
        (0, 0.21, "MEDIUM"),
        (1, 0.0, "MEDIUM"),
        (1, 0.30, "MEDIUM"),
        (0, 0.31, "HIGH"),
        (2, 0.0, "HIGH"),
        (3, 0.0, "CRITICAL"),
        (5, 1.0, "CRITICAL"),
    ],
)
def test_severity_table(signals: int, degradation: float, expected: str) -> None:
    assert severity(signals, degradation).name == expected
    assert ACTIONS[severity(signals, degradation)]


@given(st.integers(0, 6), st.floats(0, 1), st.integers(0, 3), st.floats(0, 1))
def test_severity_is_monotone(signals: int, degradation: float, more: int, worse: float) -> None:
    assert severity(signals + more, max(degradation, worse)) >= severity(signals, degradation)


def test_retrain_needs_two_windows_in_a_row() -> None:
    rules, state = DecisionRules(), SubjectState()
    decided = []
    levels = [Severity.HIGH, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL]
    for day, level in enumerate(levels):
        state, decision = decide(state, window(day, level), START, rules)
        decided.append(decision.retrain)
    assert decided == [False, False, False, True]
    assert decision.trading == "disable"


def test_the_same_window_and_an_older_one_change_nothing() -> None:
    state, _ = decide(SubjectState(), window(1), START, DecisionRules())
    for day in (1, 0.5):
        after, decision = decide(state, window(day), START, DecisionRules())
        assert after == state
        assert decision.repeated
        assert not decision.retrain
        assert not decision.notify


def test_a_window_that_has_hardly_moved_does_not_confirm() -> None:
    state, _ = decide(SubjectState(), window(0), START, DecisionRules())
    state, near = decide(state, window(0.5), START, DecisionRules())
    state, far = decide(state, window(1.0), START, DecisionRules())
    assert (near.retrain, near.streak) == (False, 1)
    assert far.retrain


def test_one_confirmation_retrains_at_once() -> None:
    _, decision = decide(SubjectState(), window(0), START, DecisionRules(confirmations=1))
    assert decision.retrain
    assert decision.cooldown_until == START + DAY


def test_a_new_version_starts_a_new_streak_but_keeps_the_cooldown() -> None:
    rules = DecisionRules(confirmations=1)
    state, _ = decide(SubjectState(), window(0), START, rules)
    state, decision = decide(state, window(0, version="2"), START + timedelta(hours=1), rules)
    assert not decision.repeated
    assert not decision.retrain
    assert "quiet until" in decision.reasons[0]


def test_notices_come_once_per_cooldown_unless_it_gets_worse() -> None:
    state, told = SubjectState(), []
    times = [
        (0, Severity.MEDIUM),
        (1, Severity.MEDIUM),
        (2, Severity.HIGH),
        (3, Severity.LOW),
        (26, Severity.MEDIUM),
    ]
    for hour, level in times:
        state, decision = decide(state, window(hour, level), START + timedelta(hours=hour), DecisionRules())
        told.append(decision.notify)
    assert told == [True, False, True, False, True]


steps = st.lists(
    st.tuples(
        st.floats(0, 3), st.floats(0, 30), st.sampled_from(list(Severity)), st.sampled_from(["1", "2"])
    ),
    max_size=40,
)


@given(steps, st.integers(1, 4))
def test_never_two_retrains_within_the_cooldown_nor_one_unconfirmed(steps, confirmations: int) -> None:
    rules, state = DecisionRules(confirmations=confirmations), SubjectState()
    now, day, retrained, run = START, 0.0, [], 0
    for forward, hours, level, version in steps:
        now, day = now + timedelta(hours=hours), day + forward
        state, decision = decide(state, window(day, level, version), now, rules)
        if not decision.repeated:
            run = run + 1 if level >= Severity.HIGH else 0
        if decision.retrain:
            assert level >= Severity.HIGH
            assert run >= confirmations
            retrained.append(now)
    gaps = [b - a for a, b in pairwise(retrained)]
    assert all(gap >= timedelta(hours=rules.cooldown_hours) for gap in gaps)


@given(steps)
def test_decide_is_pure(steps) -> None:
    state = SubjectState()
    for forward, _, level, version in steps:
        seen = window(forward, level, version)
        before = replace(state)
        first, second = (decide(state, seen, START, DecisionRules()) for _ in range(2))
        assert first == second
        assert state == before
        state = first[0]


def test_cooldown_survives_a_restart(tmp_path: Path) -> None:
    clock, path = FakeClock(START), tmp_path / "decisions.json"
    assert not DecisionStore(path, clock).apply(window(0)).retrain
    assert DecisionStore(path, clock).apply(window(1)).retrain
    for day in (2, 3, 4):
        clock.advance(7 * 3600)
        decision = DecisionStore(path, clock).apply(window(day))
        assert not decision.retrain
        assert decision.trading == "halve"
    clock.advance(3 * 3600)
    assert DecisionStore(path, clock).apply(window(5)).retrain


def test_subjects_do_not_share_a_cooldown(tmp_path: Path) -> None:
    store = DecisionStore(tmp_path / "d.json", FakeClock(START), DecisionRules(confirmations=1))
    assert store.apply(window(0)).retrain
    assert store.apply(window(0, subject="eurusd-1h")).retrain
    assert store.state("eurusd-1h").retrained_at == START


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": {"streak": "many"}}', '{"a": {"colour": 1}}'])
def test_a_corrupt_store_is_an_error_and_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "decisions.json"
    path.write_text(content)
    with pytest.raises(ArtifactError, match=r"decisions\.json"):
        DecisionStore(path, FakeClock(START)).apply(window(0))
    assert path.read_text() == content


def test_decision_is_json(tmp_path: Path) -> None:
    import json

    decision = DecisionStore(tmp_path / "d.json", FakeClock(START)).apply(window(0))
    content = json.loads(json.dumps(decision.to_dict()))
    assert content["severity"] == "HIGH"
    assert content["decided_at"] == START.isoformat()


def test_observation_needs_a_time_zone() -> None:
    with pytest.raises(DataError, match="UTC"):
        observation(Severity.LOW, subject="s", version="1", start="2008-01-01", end="2008-02-01", signals=())
