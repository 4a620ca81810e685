"""What every DVC stage does around its own work: parameters in, one headline out, faults as one message."""

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from core.errors import BellwetherError
from core.faults import explain
from core.files import write_json, write_text
from core.settings import disable_telemetry
from pipelines.params import Params, load
from pipelines.workspace import FAULT_FILE, STORE

HEADLINE = "headline.txt"
PROGRESS = "::progress "


def tell(message: str) -> None:
    """Report progress within a stage; whoever runs the stage reads it from standard output."""
    sys.stdout.write(f"{PROGRESS}{message}\n")
    sys.stdout.flush()


def run(stage: str, work: Callable[[Path, Params], str]) -> None:
    """Run a stage in the current directory; `work` returns the headline shown beside the stage's name.

    A fault becomes one message on standard error and in var/fault.json, from where the command line takes
    it together with the exit code (DVC itself turns every failure into 255).
    """
    disable_telemetry()
    root = Path.cwd()
    try:
        headline = work(root, load())
        write_text(root / STORE / stage / HEADLINE, headline + "\n")
    except BellwetherError as error:
        _end(root, stage, str(error), error.exit_code)
    except Exception as error:  # noqa: BLE001  the edge of the process
        _end(root, stage, f"stage {stage}: {explain(error, root / 'var')}", BellwetherError.exit_code)


def _end(root: Path, stage: str, message: str, code: int) -> NoReturn:
    sys.stderr.write(f"{stage}: {message}\n")
    # on a full disk the message still reaches whoever reads standard error
    with suppress(OSError):
        write_json(root / "var" / FAULT_FILE, {"stage": stage, "message": message, "exit_code": code})
    sys.exit(code)


def headline(root: Path, stage: str) -> str:
    """What a stage said of its result when it last ran; empty before it ever did."""
    path = root / STORE / stage / HEADLINE
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""
