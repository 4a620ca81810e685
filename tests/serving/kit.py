"""A small bundle with the real catalogue, a registry like MLflow's, and a service in a process of its own."""

import contextlib
import math
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper, numpy_helper

from core.bundle import (
    GOLDEN,
    HASHED,
    MODEL,
    REFERENCE,
    STATE,
    FeatureDefinition,
    Manifest,
    Registration,
    pack_state,
    write_manifest,
    write_registration,
)
from core.files import replace_directory, sha256_file
from core.settings import child_environment
from core.signal import Thresholds
from features import Stream, definitions
from serving.runtime import OUTPUTS

WINDOW = 4
AS_OF_ROW = 600
ROOT = Path(__file__).resolve().parents[2]


def make_bars(rows: int = 900, seed: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, rows)))
    opening = close * np.exp(rng.normal(0, 0.003, rows))
    high = np.maximum(opening, close) * (1 + rng.uniform(0, 0.004, rows))
    low = np.minimum(opening, close) * (1 - rng.uniform(0, 0.004, rows))
    index = pd.date_range("2005-01-03 21:00", periods=rows, freq="B", tz="UTC", name="timestamp")
    columns = {
        "open": opening,
        "high": high,
        "low": low,
        "close": close,
        "volume": rng.uniform(1e6, 2e6, rows),
    }
    return pd.DataFrame(columns, index=index)


CLASSES = {2: ["down", "up"], 3: ["down", "flat", "up"]}


def make_graph(features: int, window: int = WINDOW, bias: float = 0.0, classes: int = 2) -> onnx.ModelProto:
    """p is of "up"; of two classes the other is 1 - p, of three they are (1-p)², 2p(1-p) and p²."""
    rng = np.random.default_rng(int(bias * 100) + 1)
    weights = rng.normal(0, 0.1, (features, 2))
    constants = {
        "zero": np.zeros(1, np.float32),
        "last": np.array(window - 1, np.int64),
        "weights": weights,
        "bias": np.full(2, bias),
        "low": np.array(-3.0, np.float32),
        "high": np.array(3.0, np.float32),
        "two": np.array(2.0),
        "one": np.array(1.0),
        "axis": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["features", "last"], ["row"], axis=1),
        helper.make_node("IsNaN", ["row"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "row"], ["filled"]),
        helper.make_node("Clip", ["filled", "low", "high"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("MatMul", ["wide", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["base_probabilities"]),
        helper.make_node("ReduceMean", ["base_probabilities", "axis"], ["probability"], keepdims=0),
        helper.make_node("Mul", ["probability", "two"], ["doubled"]),
        helper.make_node("Sub", ["doubled", "one"], ["centred"]),
        helper.make_node("Abs", ["centred"], ["confidence"]),
        helper.make_node("Sub", ["one", "probability"], ["other"]),
        *_class_nodes(classes),
    ]
    double = TensorProto.DOUBLE
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", window, features])],
        [
            helper.make_tensor_value_info("probability", double, ["N"]),
            helper.make_tensor_value_info("base_probabilities", double, ["N", 2]),
            helper.make_tensor_value_info("confidence", double, ["N"]),
            helper.make_tensor_value_info("class_probabilities", double, ["N", classes]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])


def _class_nodes(classes: int) -> list[onnx.NodeProto]:
    parts = ["other", "probability"]
    nodes = []
    if classes == 3:
        parts = ["both_down", "flat", "both_up"]
        nodes = [
            helper.make_node("Mul", ["other", "other"], ["both_down"]),
            helper.make_node("Mul", ["doubled", "other"], ["flat"]),
            helper.make_node("Mul", ["probability", "probability"], ["both_up"]),
        ]
    columns = [f"{part}_column" for part in parts]
    nodes += [
        helper.make_node("Unsqueeze", [part, "axis"], [column])
        for part, column in zip(parts, columns, strict=True)
    ]
    return [*nodes, helper.make_node("Concat", columns, ["class_probabilities"], axis=1)]


def seal_manifest(directory: Path, manifest: Manifest) -> None:
    hashes = {name: sha256_file(directory / name) for name in HASHED}
    write_manifest(directory, msgspec.structs.replace(manifest, files=hashes))


def make_bundle(
    directory: Path,
    bars: pd.DataFrame,
    *,
    row: int = AS_OF_ROW,
    bias: float = 0.0,
    version: str | None = "1",
    tradable: bool = True,
    names: list[str] | None = None,
    own: Mapping[str, str] | None = None,
    window: int = WINDOW,
    symbol: str = "sp500",
    timeframe: str = "1d",
    classes: int = 2,
) -> Path:
    """A bundle as of bar `row`; `bias` makes a different model, `own` adds features to those of core."""
    chosen = {name: text for name, text in definitions("core").items() if names is None or name in names}
    chosen |= own or {}
    stream = Stream(chosen)
    rows = [
        stream.push(*values, time.timestamp())
        for time, values in zip(bars.index[: row + 1], bars.iloc[: row + 1].to_numpy().tolist(), strict=True)
    ]
    tail = np.array(rows[-window:], dtype=np.float32)
    graph = make_graph(len(chosen), window, bias, classes).SerializeToString()
    with replace_directory(directory) as fresh:
        (fresh / MODEL).write_bytes(graph)
        (fresh / STATE).write_bytes(pack_state(stream.checkpoint(), tail))
        (fresh / REFERENCE).write_bytes(b"reference of the features in training")
        (fresh / GOLDEN).write_text(_golden(graph, tail))
        seal_manifest(
            fresh,
            Manifest(
                schema_version=1,
                model=f"{symbol}-{timeframe}",
                symbol=symbol,
                timeframe=timeframe,
                as_of=bars.index[row].isoformat(),
                files={},
                features=[FeatureDefinition(name, text) for name, text in chosen.items()],
                warmup=stream.bars - stream.complete,
                window=window,
                classes=CLASSES[classes],
                base_models=["logistic", "lstm"],
                thresholds=Thresholds(0.6, 0.52, 0.48, 0.4),
                label={},
                parity={},
                data_hash=f"data-{row}",
                params_hash="params",
                tradable=tradable,
                reasons=[] if tradable else ["deflated Sharpe 0.31 is below 0.95"],
            ),
        )
        if version is not None:
            write_registration(fresh, _registration(f"{symbol}-{timeframe}", version))
    return directory


def _registration(model: str, version: str) -> Registration:
    return Registration(
        model=model,
        version=version,
        run_id="run",
        commit="commit",
        dirty=False,
        dvc_lock_sha256="lock",
        registered_at="2007-06-29T21:00:00+00:00",
        trials=1,
        tradable=True,
        reasons=[],
    )


def _golden(graph: bytes, tail: np.ndarray) -> str:
    import onnxruntime as ort

    cases = np.stack([tail, tail * 0.5])
    cases[1, -1, 0] = np.nan
    outputs = ort.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, {"features": cases})
    inputs = [[[None if math.isnan(v) else v for v in row] for row in case] for case in cases.tolist()]
    values = {name: value.tolist() for name, value in zip(OUTPUTS, outputs, strict=True)}
    return msgspec.json.encode({"inputs": inputs, **values, "tolerance": 1e-5}).decode()


def as_body(bars: pd.DataFrame, symbol: str = "sp500") -> list[dict[str, object]]:
    rows = zip(bars.index, bars.to_dict("records"), strict=True)
    return [{"symbol": symbol, "timestamp": time.isoformat(), **values} for time, values in rows]


class FakeRegistry:
    """The tables of MLflow's store that the service reads, as MLflow 3.17 creates them."""

    def __init__(self, database: Path) -> None:
        database.parent.mkdir(parents=True, exist_ok=True)
        self.database = database
        with self._connection() as connection:
            connection.executescript("""
                create table registered_model_aliases (alias varchar(256) not null, version integer not null,
                  name varchar(256) not null, workspace varchar(63) default 'default' not null,
                  primary key (workspace, name, alias));
                create table model_versions (name varchar(256) not null, version integer not null,
                  source varchar(500), storage_location varchar(500),
                  workspace varchar(63) default 'default' not null, primary key (workspace, name, version));
                create table model_version_tags (key varchar(250) not null, value text,
                  name varchar(256) not null, version integer not null,
                  workspace varchar(63) default 'default' not null);
            """)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.database)) as connection, connection:
            yield connection

    def add(self, version: int, directory: Path, *, model: str = "sp500-1d", **hashes: str | None) -> None:
        """A version without an alias; `hashes` are manifest_sha256 and registration_sha256."""
        with self._connection() as connection:
            connection.execute(
                "insert into model_versions (name, version, source, storage_location) values (?,?,?,?)",
                (model, version, f"models:/m-{version}", directory.as_uri()),
            )
            rows = [(f"bellwether.{key}", value, model, version) for key, value in hashes.items() if value]
            connection.executemany(
                "insert into model_version_tags (key, value, name, version) values (?,?,?,?)", rows
            )

    def promote(
        self,
        version: int,
        directory: Path,
        *,
        manifest_hash: str | None = None,
        model: str = "sp500-1d",
        alias: str = "champion",
    ) -> None:
        self.add(version, directory, model=model, manifest_sha256=manifest_hash)
        self.alias(version, model=model, alias=alias)

    def alias(self, version: int | None, *, model: str = "sp500-1d", alias: str = "champion") -> None:
        """Move an alias; None takes it away."""
        with self._connection() as connection:
            connection.execute(
                "delete from registered_model_aliases where alias = ? and name = ?", (alias, model)
            )
            if version is not None:
                connection.execute(
                    "insert into registered_model_aliases (alias, version, name) values (?,?,?)",
                    (alias, version, model),
                )


SERVE = """
import sys
from pathlib import Path
from core.settings import disable_telemetry, load_settings
disable_telemetry()
from core import log
log.configure(json=True)
from core.errors import BellwetherError
from serving.server import serve
try:
    serve(load_settings(), bundle=Path(sys.argv[1]) if sys.argv[1] else None, port=int(sys.argv[2]),
          on_ready=lambda ready: print(ready.url, ready.grpc or "", sep="\\n", flush=True))
except BellwetherError as error:
    print(type(error).__name__, error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


class Service:
    """A service in its own process, on a free loopback port."""

    def __init__(self, home: Path, *, bundle: Path | None = None, **environment: str) -> None:
        settings = {"BELLWETHER_HOME": str(home), "BELLWETHER_POLL_SECONDS": "0.1", **environment}
        self.home = home
        self.stderr = home / "stderr.txt"
        home.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        with self.stderr.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, str(bundle or ""), "0"],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env=child_environment(**settings),
            )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        self.cold_start = time.perf_counter() - started
        assert self.url, self.stderr.read_text()

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")

    @property
    def log_dir(self) -> Path:
        return self.home / "var" / "predictions" / "sp500-1d"

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(15)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
