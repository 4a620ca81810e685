"""The trail of champions, as plain data: what `rollback` walks back along."""

import json
from collections.abc import Collection, Mapping, Sequence

Entry = dict[str, str]
_LENGTH, _REASON_LENGTH = 20, 200


def entry(version: str, at: str, reason: str) -> Entry:
    """One promotion: the version, when (ISO UTC), and why."""
    return {"version": version, "at": at, "reason": reason[:_REASON_LENGTH]}


def read_trail(stored: str, current: Entry | None, alive: Collection[str]) -> list[Entry]:
    """The champions that led to `current`, oldest first; empty when there is none.

    The alias is the truth: the stored trail may be ahead of it after a kill between the two writes, and
    behind it when the alias was moved by hand. Versions that are not `alive` any more are left out.
    """
    if current is None:
        return []
    trail = [e for e in json.loads(stored) if e["version"] in alive]
    places = [i for i, e in enumerate(trail) if e["version"] == current["version"]]
    return trail[: places[-1] + 1] if places else [*trail, current]


def write_trail(trail: Sequence[Mapping[str, str]]) -> str:
    """The last entries as text; promoting the champion again adds nothing."""
    kept: list[Mapping[str, str]] = []
    for step in trail:
        if not kept or kept[-1]["version"] != step["version"]:
            kept.append(step)
    return json.dumps(kept[-_LENGTH:])
