"""One message for a fault that nobody raised on purpose: value, rule, remedy, and where the traceback is."""

import errno
import os
import sys
import tempfile
import traceback
from pathlib import Path

from core.files import write_text

_SPACE = (errno.ENOSPC, errno.EDQUOT)
_RIGHTS = (errno.EACCES, errno.EPERM, errno.EROFS)
_DISK_REMEDY = {
    **dict.fromkeys(_SPACE, "free space there (`dvc gc --workspace` drops old outputs) and run again"),
    **dict.fromkeys(_RIGHTS, "make it writable for you and run again"),
}
_TRACEBACK, _LENGTH = "traceback.txt", 300


def explain(error: BaseException, folder: Path) -> str:
    """What happened and what to do; the traceback of a fault without an obvious cause is kept in `folder`."""
    if isinstance(error, MemoryError):
        remedy = "close other programs, or lower train.processes or train.window"
        return f"out of memory{_brackets(error)}: {remedy}"
    if isinstance(error, OSError) and error.errno in (*_SPACE, *_RIGHTS):
        return f"{_place(error)}{error.strerror}: {_DISK_REMEDY[error.errno]}"
    kept = _keep_traceback(error, folder)
    return f"unexpected {type(error).__name__}{_brackets(error)}: report it with {kept}"


def disk_remedy(text: str) -> str:
    """What to do about the full or read-only disk that another program's message tells of; else nothing."""
    numbers = (*_SPACE, *_RIGHTS)
    return next((_DISK_REMEDY[number] for number in numbers if os.strerror(number) in text), "")


def _place(error: OSError) -> str:
    return f"{error.filename}: " if error.filename else ""


def _brackets(error: BaseException) -> str:
    said = " ".join(str(error).split())[:_LENGTH]
    return f" ({said})" if said else ""


def _keep_traceback(error: BaseException, folder: Path) -> Path:
    """Write the traceback to `folder`, or to the system's temporary folder when that cannot be written."""
    text = "".join(traceback.format_exception(error))
    for place in (folder, Path(tempfile.gettempdir())):
        try:
            write_text(place / _TRACEBACK, text)
        except OSError:
            continue
        return place / _TRACEBACK
    sys.stderr.write(text)
    return Path("the traceback above")
