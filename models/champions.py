"""The history of champions, as plain data: who served when and why, and what `rollback` walks back along."""

import json
from collections.abc import Collection, Mapping, Sequence

Entry = dict[str, str]
PROMOTED, ROLLED_BACK, FOUND = "promoted", "rolled back", "found"
_LENGTH, _REASON_LENGTH, _BY_LENGTH = 100, 500, 100


def entry(version: str, at: str, reason: str, *, by: str = "", move: str = PROMOTED) -> Entry:
    """One move of the alias: to which version, when (ISO UTC), why, by whom, and how."""
    return {
        "version": version,
        "at": at,
        "reason": reason[:_REASON_LENGTH],
        "by": by[:_BY_LENGTH],
        "move": move,
    }


def read_history(stored: str, current: Entry | None) -> list[Entry]:
    """Every move that is known, oldest first, ending with `current`, an entry of what the alias says now.

    The alias is the truth: the stored history may be ahead of it after a kill between the two writes, and
    behind it when the alias was moved by hand. Then `current` is the last entry.
    """
    moves = [{"by": "", "move": PROMOTED, **e} for e in json.loads(stored)]
    if current is None or (moves and moves[-1]["version"] == current["version"]):
        return moves
    return [*moves, current]


def read_trail(history: Sequence[Entry], alive: Collection[str]) -> list[Entry]:
    """The champions that led to the last of `history`, oldest first, without versions not `alive` any more.

    Going back to a champion before undoes what came between.
    """
    trail: list[Entry] = []
    for step in (e for e in history if e["version"] in alive):
        places = [i for i, e in enumerate(trail) if e["version"] == step["version"]]
        if places and step["move"] != PROMOTED:
            trail = trail[: places[-1] + 1]
        elif not trail or trail[-1]["version"] != step["version"]:
            trail.append(step)
    return trail


def write_history(history: Sequence[Mapping[str, str]]) -> str:
    """The last moves as text; promoting the champion again adds nothing."""
    kept: list[Mapping[str, str]] = []
    for step in history:
        if not kept or kept[-1]["version"] != step["version"]:
            kept.append(step)
    return json.dumps(kept[-_LENGTH:], ensure_ascii=False)
