"""From signals to an action: severity, confirmation by a second window, cool-down, de-duplication.

`decide` is a pure function of state, observation and time; `DecisionStore` keeps the state in one JSON file.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

from core.clock import Clock
from core.errors import ArtifactError, DataError
from core.files import exclusive_lock, read_json, write_json

Trading = Literal["normal", "halve", "disable"]


class Severity(IntEnum):
    """How bad it is; written by name in JSON."""

    NONE = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


ACTIONS: dict[Severity, str] = {
    Severity.NONE: "nothing",
    Severity.LOW: "log",
    Severity.MEDIUM: "watch",
    Severity.HIGH: "halve size and retrain",
    Severity.CRITICAL: "disable trading and retrain",
}
_TRADING: dict[Severity, Trading] = {Severity.HIGH: "halve", Severity.CRITICAL: "disable"}


def severity(signals: int, degradation: float) -> Severity:
    """Severity of `signals` independent alarms and a relative `degradation` (0 = none, 1 = total)."""
    if signals >= 3:
        return Severity.CRITICAL
    if signals == 2 or degradation > 0.30:
        return Severity.HIGH
    if signals == 1 or degradation > 0.20:
        return Severity.MEDIUM
    return Severity.LOW if degradation > 0 else Severity.NONE


@dataclass(frozen=True)
class DecisionRules:
    """When severity becomes a retrain.

    confirmations: windows in a row at HIGH or more before a retrain; cooldown_hours: between two retrains
    (and two notices of the same severity) of one subject; fresh_share: part of its own span by which a
    window must end later than the last counted one, or it is the same evidence seen again.
    """

    confirmations: int = 2
    cooldown_hours: float = 24.0
    fresh_share: float = 0.1


@dataclass(frozen=True)
class Observation:
    """One judged window of one subject ("sp500-1d"); times UTC."""

    subject: str
    model_version: str
    window_start: datetime
    window_end: datetime
    severity: Severity
    signals: tuple[str, ...] = ()


@dataclass(frozen=True)
class SubjectState:
    """What is remembered of one subject; times UTC."""

    model_version: str = ""
    seen_until: datetime | None = None
    counted_until: datetime | None = None
    streak: int = 0
    retrained_at: datetime | None = None
    notified_at: datetime | None = None
    notified_severity: Severity = Severity.NONE


@dataclass(frozen=True)
class Decision:
    """What to do now; `trading` is a recommendation that holds at once, `retrain` waits for confirmation."""

    subject: str
    severity: Severity
    trading: Trading
    retrain: bool
    notify: bool
    repeated: bool
    streak: int
    decided_at: datetime
    window_end: datetime
    cooldown_until: datetime | None
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: names for severities, ISO 8601 for times."""
        return _plain(self)


def decide(
    state: SubjectState, seen: Observation, now: datetime, rules: DecisionRules
) -> tuple[SubjectState, Decision]:
    """The next state and the decision for one observation; no clock, no file.

    A window that ends no later than one already decided changes nothing. A new model version starts a new
    streak but not a new cool-down.
    """
    if state.model_version != seen.model_version:
        state = replace(
            state, model_version=seen.model_version, seen_until=None, counted_until=None, streak=0
        )
    if state.seen_until is not None and seen.window_end <= state.seen_until:
        reason = f"the window to {seen.window_end.isoformat()} is already decided"
        return state, _decision(state, seen, now, rules, reasons=(reason,), repeated=True)
    state = _count(state, seen, rules)
    retrain, reasons = _retrain(state, seen, now, rules)
    notify = _must_notify(state, seen, now, rules) or retrain
    if retrain:
        state = replace(state, retrained_at=now, streak=0)
    if notify:
        state = replace(state, notified_at=now, notified_severity=seen.severity)
    return state, _decision(state, seen, now, rules, reasons=reasons, retrain=retrain, notify=notify)


def _count(state: SubjectState, seen: Observation, rules: DecisionRules) -> SubjectState:
    state = replace(state, seen_until=seen.window_end)
    if seen.severity < Severity.HIGH:
        return replace(state, streak=0, counted_until=None)
    fresh = rules.fresh_share * (seen.window_end - seen.window_start)
    if state.counted_until is not None and seen.window_end < state.counted_until + fresh:
        return state
    return replace(state, streak=state.streak + 1, counted_until=seen.window_end)


def _retrain(
    state: SubjectState, seen: Observation, now: datetime, rules: DecisionRules
) -> tuple[bool, tuple[str, ...]]:
    if seen.severity < Severity.HIGH:
        return False, (f"severity {seen.severity.name} does not ask for a retrain",)
    if state.streak < rules.confirmations:
        return False, (f"window {state.streak} of the {rules.confirmations} in a row that a retrain needs",)
    until = _cooldown_until(state, rules)
    if until is not None and now < until:
        return False, (
            f"retrained less than {rules.cooldown_hours:g} h ago: quiet until {until.isoformat()}",
        )
    return True, (f"{state.streak} windows in a row at HIGH or more",)


def _must_notify(state: SubjectState, seen: Observation, now: datetime, rules: DecisionRules) -> bool:
    if seen.severity < Severity.MEDIUM:
        return False
    if state.notified_at is None or seen.severity > state.notified_severity:
        return True
    return now >= state.notified_at + timedelta(hours=rules.cooldown_hours)


def _cooldown_until(state: SubjectState, rules: DecisionRules) -> datetime | None:
    if state.retrained_at is None:
        return None
    return state.retrained_at + timedelta(hours=rules.cooldown_hours)


def _decision(
    state: SubjectState,
    seen: Observation,
    now: datetime,
    rules: DecisionRules,
    *,
    reasons: tuple[str, ...],
    retrain: bool = False,
    notify: bool = False,
    repeated: bool = False,
) -> Decision:
    return Decision(
        subject=seen.subject,
        severity=seen.severity,
        trading=_TRADING.get(seen.severity, "normal"),
        retrain=retrain,
        notify=notify,
        repeated=repeated,
        streak=state.streak,
        decided_at=now,
        window_end=seen.window_end,
        cooldown_until=_cooldown_until(state, rules),
        reasons=reasons,
    )


def _plain(value: Decision | SubjectState) -> dict[str, Any]:
    return {name: _plain_field(field) for name, field in asdict(value).items()}


def _plain_field(value: Any) -> Any:
    if isinstance(value, Severity):
        return value.name
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return list(value) if isinstance(value, tuple) else value


class DecisionStore:
    """The states of all subjects in one JSON file; `decide` under a lock between processes.

    A corrupt file is an ArtifactError, never an empty state: forgetting a cool-down would retrain at once.
    """

    def __init__(self, path: Path, clock: Clock, rules: DecisionRules | None = None) -> None:
        self._path, self._clock, self.rules = path, clock, rules or DecisionRules()

    def apply(self, seen: Observation) -> Decision:
        """Decide on `seen`, durable before it returns: a crash after it cannot retrain twice."""
        with exclusive_lock(self._path.with_suffix(".lock")):
            states = self._load()
            state, decision = decide(
                states.get(seen.subject, SubjectState()), seen, self._clock.now(), self.rules
            )
            states[seen.subject] = state
            write_json(self._path, {name: _plain(one) for name, one in states.items()})
        return decision

    def state(self, subject: str) -> SubjectState:
        """What is remembered of `subject`."""
        return self._load().get(subject, SubjectState())

    def _load(self) -> dict[str, SubjectState]:
        if not self._path.exists():
            return {}
        content = read_json(self._path)
        try:
            return {name: _state(fields) for name, fields in content.items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"{self._path} does not hold drift decisions ({error!r}): restore it, or move it away to "
                "forget every cool-down"
            ) from error


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "seen_until": datetime.fromisoformat,
    "counted_until": datetime.fromisoformat,
    "retrained_at": datetime.fromisoformat,
    "notified_at": datetime.fromisoformat,
    "notified_severity": Severity.__getitem__,
    "streak": int,
}


def _state(fields: dict[str, Any]) -> SubjectState:
    parsed: dict[str, Any] = {k: v if v is None else _PARSERS.get(k, str)(v) for k, v in fields.items()}
    return SubjectState(**parsed)


def observation(
    verdict_severity: Severity, *, subject: str, version: str, start: str, end: str, signals: tuple[str, ...]
) -> Observation:
    """An Observation from ISO 8601 times; DataError when a time has no zone."""
    times = [datetime.fromisoformat(text) for text in (start, end)]
    if any(one.tzinfo is None for one in times):
        raise DataError(f"window {start} to {end} has no time zone: give UTC times")
    return Observation(subject, version, times[0], times[1], verdict_severity, signals)
