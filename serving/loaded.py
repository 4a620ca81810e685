"""A model with its states, ready to be installed."""

from dataclasses import dataclass

from serving.artefact import Artefact
from serving.model import Model
from serving.resolver import Pointer
from serving.state import States


@dataclass(frozen=True)
class Loaded:
    """A proven model and the states of its bundle; `pointer` is None when it came from the last good copy."""

    model: Model
    states: States
    pointer: Pointer | None
    artefact: Artefact
