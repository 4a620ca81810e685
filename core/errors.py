"""Every error that bellwether raises on purpose.

BellwetherError (exit 1)
├── ConfigurationError (2)   params.yaml, --set, environment; collects all faults
├── UsageError (2)           a command used wrongly
├── DataError                a source or a frame that cannot be used
├── ArtifactError            a file that is corrupt, missing or not what its hash says
├── RegistryError            the model registry failed or refused
├── StreamError              a live bar refused; the feature state is unchanged
├── ServiceError             the inference service cannot start or answer
├── StageFailed              a pipeline stage ended with a fault
└── GateRefused (3)          a gate said no
    └── QuarantineExceeded   too many bad rows

Messages state the value, the rule and the remedy.
"""

from collections.abc import Sequence


class BellwetherError(Exception):
    """Base of the tree; `exit_code` is what the command line returns."""

    exit_code = 1


class ConfigurationError(BellwetherError):
    """One or more configuration faults, reported together."""

    exit_code = 2

    def __init__(self, faults: str | Sequence[str]) -> None:
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        super().__init__("\n".join(self.faults))


class UsageError(BellwetherError):
    """A command was used wrongly."""

    exit_code = 2


class DataError(BellwetherError):
    """A source or a frame cannot be used."""


class ArtifactError(BellwetherError):
    """A file is corrupt, missing, or differs from its recorded hash."""


class RegistryError(BellwetherError):
    """The model registry failed or refused."""


class StreamError(BellwetherError):
    """A live bar was refused; the feature state is as it was."""


class ServiceError(BellwetherError):
    """The inference service cannot start or answer."""


class StageFailed(BellwetherError):
    """A pipeline stage ended with a fault; `exit_code` is the stage's own."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class GateRefused(BellwetherError):
    """A gate said no."""

    exit_code = 3


class QuarantineExceeded(GateRefused):
    """More rows are bad than `validate.max_quarantined` allows."""
