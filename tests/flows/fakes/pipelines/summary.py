"""A summary that is a dictionary."""

from typing import Any


class RunSummary:
    def __init__(self, facts: dict[str, Any]) -> None:
        self._facts = facts

    def to_json(self) -> dict[str, Any]:
        return self._facts
