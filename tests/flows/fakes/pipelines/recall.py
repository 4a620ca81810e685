"""Stand-in for pipelines.recall."""

from typing import Any


def overrides_of(settings: Any, model: str) -> dict[str, Any]:
    """The stand-in model was trained with the checkout's own parameters."""
    return {}
