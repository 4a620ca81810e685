"""A directory that one process writes at a time."""

import fcntl
import io
from pathlib import Path

from core.errors import ServiceError


def claim(directory: Path, refusal: str) -> io.TextIOWrapper:
    """The open lock of `directory`, held until closed; ServiceError with `refusal` when another has it."""
    file = (directory / ".lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ServiceError(f"{directory} is in use by another service: {refusal}") from None
    return file
