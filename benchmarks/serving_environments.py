"""The peers that need a virtual environment of their own: MLServer and `mlflow models serve`.

Built from the package index by what serving_mlserver.txt and serving_mlflow.txt pin, with the ONNX Runtime,
numpy, uvicorn, uvloop and httptools of this environment where they do not say otherwise: same runtime, same
server, same event loop, same parser, which is more than `pip install` gives. Only MLServer's worker does not
start with uvloop above 0.21. Kept in the user's cache and built again when the pins change. Both write
uvicorn's access log, to a file.
"""

import hashlib
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import msgspec

from benchmarks.serving_process import Command, free_port
from core.files import write_bytes, write_text
from core.settings import child_environment
from serving.runtime import OUTPUTS

HERE = Path(__file__).resolve().parent
SHARED = ("onnxruntime", "numpy", "uvicorn", "uvloop", "httptools")
BUILD_SECONDS, SAVE_SECONDS = 900, 180


class PeerMissing(RuntimeError):
    """A peer that cannot be had here; the message says why."""


def pins(name: str) -> str:
    """The requirements of a peer's environment, one a line, every one exact."""
    own = (HERE / f"serving_{name}.txt").read_text()
    pinned = {line.split("==")[0] for line in own.splitlines()}
    return own + "".join(f"{package}=={version(package)}\n" for package in SHARED if package not in pinned)


def environment(name: str, root: Path) -> Path:
    """The peer's virtual environment under `root`, built if there is none of these pins; PeerMissing."""
    wanted = pins(name)
    digest = hashlib.sha256(f"{sys.version}\n{wanted}".encode()).hexdigest()[:12]
    folder = root / f"{name}-{digest}"
    stamp = folder / "built"
    if stamp.exists():
        return folder
    count = len(wanted.splitlines())
    print(
        f"{name}: installing {count} packages in {folder}, once, about a minute", file=sys.stderr, flush=True
    )
    for old in root.glob(f"{name}-*"):
        shutil.rmtree(old)
    requirements = folder / "requirements.txt"
    _run([sys.executable, "-m", "venv", str(folder)], BUILD_SECONDS, f"{name}: no virtual environment")
    write_text(requirements, wanted)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    _run(
        [*pip, "--no-deps", "--retries", "2", "-r", str(requirements)],
        BUILD_SECONDS,
        f"{name}: the package index does not give what serving_{name}.txt pins",
    )
    write_bytes(stamp, b"")
    return folder


def _run(command: list[str], seconds: float, failure: str) -> None:
    """Run a program whose lines go to stderr as they come; PeerMissing when it fails or takes too long."""
    try:
        subprocess.run(command, check=True, timeout=seconds, stdout=sys.stderr, env=child_environment())
    except (subprocess.SubprocessError, OSError) as error:
        raise PeerMissing(f"{failure} ({error})") from error


def _own(folder: Path) -> dict[str, str]:
    """The environment of a process that finds the programs of `folder` before any others."""
    return child_environment(PATH=f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin", VIRTUAL_ENV=str(folder))


def mlserver(root: Path, home: Path, graph: Path, model: str, workers: int = 1) -> Command:
    """MLServer with a runtime of our own, its files in `home`; PeerMissing.

    One worker is its default, a process beside the server; 0 is the server's own process.
    """
    folder = environment("mlserver", root)
    home.mkdir(parents=True)
    shutil.copy(HERE / "serving_mlserver.py", home / "graph_runtime.py")
    port = free_port()
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": workers,
        # uvicorn's access log comes with it
        "debug": True,
    }
    served = {
        "name": model,
        "implementation": "graph_runtime.Graph",
        "parameters": {"uri": str(graph.resolve()), "outputs": OUTPUTS},
    }
    for name, content in (("settings.json", settings), ("model-settings.json", served)):
        write_bytes(home / name, msgspec.json.encode(content))
    program = [str(folder / "bin" / "mlserver"), "start", str(home)]
    # where its worker finds the runtime
    own = {**_own(folder), "PYTHONPATH": str(home)}
    return Command(program, port, f"/v2/models/{model}/ready", own, home)


def mlflow(root: Path, home: Path, graph: Path, model: str) -> Command:
    """`mlflow models serve` with the graph saved as its ONNX flavour, in `home`; PeerMissing."""
    folder = environment("mlflow", root)
    home.mkdir(parents=True)
    saved = home / model
    python = str(folder / "bin" / "python")
    script = [python, str(HERE / "serving_mlflow.py"), str(graph.resolve()), str(saved), *OUTPUTS]
    _run(script, SAVE_SECONDS, "mlflow: the graph could not be saved as its model")
    port = free_port()
    program = [str(folder / "bin" / "mlflow"), "models", "serve", "--model-uri", str(saved)]
    options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return Command([*program, *options], port, "/ping", _own(folder), home)
