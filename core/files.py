"""Files that are either whole or absent: temporary file, fsync, rename."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from core.errors import ArtifactError


def _fsync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def replace_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that takes the place of `path` in one step when the block ends without an error.

    A reader sees the old file or the new one, never a part; an error or a kill leaves `path` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _fsync_directory(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step."""
    with replace_file(path) as file:
        file.write(data)


def write_sealed(path: Path, data: bytes) -> None:
    """Replace `path` by `data` behind its SHA-256, so that a reader can tell whether it is whole."""
    write_bytes(path, hashlib.sha256(data).digest() + data)


def read_sealed(path: Path) -> bytes | None:
    """What `write_sealed` wrote; None when it is missing, unreadable or not what was written."""
    try:
        sealed = path.read_bytes()
    except OSError:
        return None
    seal, data = sealed[:32], sealed[32:]
    return data if hashlib.sha256(data).digest() == seal else None


def write_text(path: Path, text: str) -> None:
    """Replace `path` by UTF-8 `text` in one step."""
    write_bytes(path, text.encode())


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and a closing newline: equal values give equal bytes. NaN is refused."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `canonical_json(value)` in one step."""
    write_text(path, canonical_json(value))


def read_json(path: Path) -> Any:
    """Parse a JSON file; ArtifactError when it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} does not exist: run the step that writes it") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"{path} is not valid JSON ({error}): delete it and run the step again"
        ) from error


def sha256_bytes(data: bytes) -> str:
    """Hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes; ArtifactError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror})") from error


def directory_hashes(path: Path) -> dict[str, str]:
    """Relative POSIX path → SHA-256 of every file under `path`, sorted."""
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return {p.relative_to(path).as_posix(): sha256_file(p) for p in files}


@contextmanager
def replace_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory that takes the place of `path` when the block ends without an error.

    On an error `path` stays as it was. The swap is two renames: a kill between them leaves the new
    content beside `path` and the old one under a dotted name, never a mixture.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.new."))
    try:
        yield fresh
        for file in fresh.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        fresh.chmod(0o755)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    old = fresh.with_name(fresh.name.replace(".new.", ".old."))
    if path.exists():
        os.replace(path, old)
    os.replace(fresh, path)
    _fsync_directory(path.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def exclusive_lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an advisory lock on `path` between processes; yields False when busy and `wait` is off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
