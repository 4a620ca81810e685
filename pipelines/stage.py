"""What every DVC stage does around its own work: parameters in, one headline out, faults as one message."""

import sys
from collections.abc import Callable
from pathlib import Path

from core.errors import BellwetherError
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

    A BellwetherError becomes one message on standard error and in var/fault.json, from where the command
    line takes it together with the exit code (DVC itself turns every failure into 255).
    """
    disable_telemetry()
    root = Path.cwd()
    try:
        headline = work(root, load())
    except BellwetherError as error:
        fault = {"stage": stage, "message": str(error), "exit_code": error.exit_code}
        write_json(root / "var" / FAULT_FILE, fault)
        sys.stderr.write(f"{stage}: {error}\n")
        sys.exit(error.exit_code)
    write_text(root / STORE / stage / HEADLINE, headline + "\n")


def headline(root: Path, stage: str) -> str:
    """What a stage said of its result when it last ran; empty before it ever did."""
    path = root / STORE / stage / HEADLINE
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""
