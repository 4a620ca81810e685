"""Feature state on disk: one file per symbol, with the one before it, each proving itself.

var/state/<model>/<symbol>.state        newest checkpoint
var/state/<model>/<symbol>.state.old    the one before
var/state/<model>/position.json         from which file of bars on a checkpoint has to be brought up to date
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import msgspec

from core.errors import ArtifactError
from core.files import read_json, write_bytes, write_json
from serving.state import Snapshot

SUFFIX, OLDER = ".state", ".state.old"
POSITION = "position.json"
_MAGIC = b"BWSYM01\n"
_SEAL = 32
_decoder = msgspec.msgpack.Decoder(Snapshot)


@dataclass
class Found:
    """What a directory holds: a snapshot per symbol, the faults met, and the symbols that have none left."""

    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    lost: bool = False


def write(directory: Path, snapshot: Snapshot) -> None:
    """Make `snapshot` the newest of its symbol; a crash leaves it, or the one before."""
    path = directory / f"{quote(snapshot.symbol, safe='=^')}{SUFFIX}"
    body = msgspec.msgpack.encode(snapshot)
    if path.exists():
        os.replace(path, path.with_suffix(OLDER))
    write_bytes(path, _MAGIC + hashlib.sha256(body).digest() + body)


def read(path: Path) -> Snapshot:
    """One file; ArtifactError when it is damaged."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror})") from error
    start = len(_MAGIC) + _SEAL
    body = data[start:]
    if not data.startswith(_MAGIC) or data[len(_MAGIC) : start] != hashlib.sha256(body).digest():
        raise ArtifactError(f"{path} is damaged: its checksum does not match")
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise ArtifactError(f"{path} is of another version ({error})") from error


def read_all(directory: Path) -> Found:
    """The newest readable snapshot of every symbol."""
    found = Found()
    for name in sorted(set(_names(directory))):
        kept = _read_either(directory / f"{name}{SUFFIX}", found.faults)
        if kept is None:
            found.lost = True
        else:
            found.snapshots[kept.symbol] = kept
    return found


def _names(directory: Path) -> Iterator[str]:
    for path in directory.glob("*.state*"):
        if path.name.endswith((SUFFIX, OLDER)) and not path.name.startswith("."):
            yield path.name.partition(SUFFIX)[0]


def _read_either(path: Path, faults: list[str]) -> Snapshot | None:
    for candidate in (path, path.with_suffix(OLDER)):
        if candidate.exists():
            try:
                return read(candidate)
            except ArtifactError as error:
                faults.append(str(error))
    return None


@dataclass(frozen=True)
class Position:
    """Numbers of files of bars: newer bars than the checkpoints hold are in `current` and above.

    Those between `older` and `current` are kept for the checkpoints before.
    """

    current: int = 0
    older: int = 0

    def advance(self, number: int) -> "Position":
        """After checkpoints that hold every bar of the files below `number`."""
        return self if number == self.current else Position(number, self.current)


def read_position(directory: Path) -> Position:
    """The position; the very beginning when none is there; ArtifactError when it is damaged."""
    path = directory / POSITION
    if not path.exists():
        return Position()
    content = read_json(path)
    try:
        return Position(int(content["current"]), int(content["older"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} is malformed") from error


def write_position(directory: Path, position: Position) -> None:
    """Make `position` durable."""
    write_json(directory / POSITION, {"current": position.current, "older": position.older})
