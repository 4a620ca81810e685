"""The service against a bare ASGI echo, FastAPI with pydantic, MLServer and `mlflow models serve`.

    python -m benchmarks.serving [json binary invocations bars start] [--bundle DIR] [--no-peers]

Each server is a process of its own on loopback: one worker, uvloop and httptools, an access log, one thread
for the graph. The servers take turns, round by round, in another order each round; a ratio is the median
over the rounds of what the service answers per second over what the other one answers. All servers share one
core and the client has another: so no server is helped by a second core, a server's own threads and children
are paid for by its answers, and the client takes nothing from any of them. A turn begins when the server of
the one before it has finished what it put off; the CPU time of an answer counts that too. Where there is one
core alone, all share it. A round in which other programs took much of the two cores is taken again; what they
took of those that count is shown. Ratios of rates are sound while that is little, those of CPU times always.

Every request of a turn has other rows. MLServer and mlflow serve the same `model.onnx` of the bundle and get
the same windows; before anything is timed the answers of all must equal those of ONNX Runtime called here.
MLServer is judged as it starts by default, one worker beside the server; in one process it is faster here,
and shown.
The bounds are of what a worker can answer, so of many clients at once. One client alone waits for its own
time, too, and for caches that grow cold meanwhile: its ratios are shown, its latency is judged.
The FastAPI peer calls the service's own data plane: that ratio is of the protocol alone. `--bundle` takes any
bundle, such as one of all ten families, which `bellwether run --set train.families=[…]` trains.

Figures in /s, ms, µs, s and MB are of this machine and this moment; the ratios are of one run.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime as ort
import uvloop

from benchmarks import serving_environments as environments
from benchmarks.figure import Figure, document, show
from benchmarks.serving_environments import PeerMissing
from benchmarks.serving_load import (
    BARS_PER_SECOND,
    DISTINCT,
    MOST_BARS,
    WARM_BARS,
    Bars,
    Windows,
    ask,
    in_lanes,
    infer_binary,
    infer_json,
    invocation,
    take_turn,
    windows,
)
from benchmarks.serving_process import (
    Command,
    NotReady,
    Running,
    busy_seconds,
    free_port,
    on_cores,
    running,
)
from core.bundle import MODEL, Manifest, load_manifest
from core.settings import child_environment, disable_telemetry
from serving.runtime import INPUT, OUTPUTS

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path("~/.cache/bellwether/peers").expanduser()
ECHO, OURS, FASTAPI, MLSERVER, MLFLOW = "echo", "bellwether", "FastAPI", "MLServer", "mlflow models serve"
IN_PROCESS = "MLServer in process"
BOUNDS = {ECHO: ">= 0.4", FASTAPI: ">= 2.5", MLSERVER: ">= 6", MLFLOW: ">= 8"}
"""What the service's answers per second over those of a server must be, both kept busy."""
TAKING_PART = {
    "json": (ECHO, OURS, FASTAPI, MLSERVER, IN_PROCESS, MLFLOW),
    "binary": (ECHO, OURS),
    "invocations": (OURS, MLFLOW),
    "bars": (ECHO, OURS, FASTAPI),
}
"""Part -> the servers that can answer it."""
PEERS_OF_THEIR_OWN: dict[str, Callable[..., Command]] = {
    MLSERVER: environments.mlserver,
    IN_PROCESS: partial(environments.mlserver, workers=0),
    MLFLOW: environments.mlflow,
}
"""Those with an environment of their own, by how they are made."""
START = "start"
CONCURRENCY = (1, 32)
STARTS, CHECKED = 5, 20
# the prediction log is sealed now and then, once in some of these turns
LONGER = {"bars": 2.0}
# of a core; what a round may lose to others
CALM = 0.1
# percent; with more, the ratios beside it say little
SOUND = "<= 20"


@dataclass(frozen=True)
class Taken:
    """One turn of a server: answers per second, seconds of every answer, CPU seconds of all.

    `client` is the share of the turn in which the client computed, `others` that of a core in which programs
    did that have no part in it.
    """

    rate: float
    seconds: Sequence[float]
    cpu: float
    client: float
    others: float


Round = dict[str, Taken]


def calmest(rounds: Sequence[Round], count: int) -> list[Round]:
    """The rounds in which others took least, judged by the worst turn of each."""
    return sorted(rounds, key=disturbance)[:count]


def disturbance(one: Round) -> float:
    """The most that others took in a turn of the round."""
    return max(taken.others for taken in one.values())


def judge(part: str, concurrency: int, rounds: Sequence[Round]) -> Iterator[Figure]:
    """Figures of one part at one concurrency."""
    at, names = f"{concurrency} at once", list(rounds[0])
    for name in names:
        turns = [one[name] for one in rounds]
        cpu = sum(turn.cpu for turn in turns) / sum(len(turn.seconds) for turn in turns)
        yield Figure(part, f"{name}, {at}", median(turn.rate for turn in turns), "/s")
        yield Figure(part, f"{name}, {at}, CPU of an answer", cpu * 1e6, "µs")
    for name in names:
        if name != OURS:
            ratio = median(one[OURS].rate / one[name].rate for one in rounds)
            bound = BOUNDS.get(name) if concurrency == max(CONCURRENCY) else None
            yield Figure(part, f"{OURS} over {name}, {at}", ratio, "times", bound)
    seconds = np.concatenate([one[OURS].seconds for one in rounds])
    judged = part == "bars" and concurrency == 1
    for share, most in ((50, "<= 1"), (99, "<= 5")):
        value = float(np.percentile(seconds, share)) * 1e3
        yield Figure(part, f"{OURS}, {at}, p{share}", value, "ms", most if judged else None)
    busiest = max(taken.client for one in rounds for taken in one.values())
    yield Figure(part, f"of its core the client took at most, {at}", 100 * busiest, "%")
    worst = max(map(disturbance, rounds))
    yield Figure(part, f"of a core others took at most, {at}", 100 * worst, "%", SOUND)


@dataclass(frozen=True)
class Setting:
    """One run of the benchmark: what serves, in which folder, how long, on which cores."""

    bundle: Path
    manifest: Manifest
    home: Path
    rounds: int
    seconds: float
    client: set[int]
    server: set[int]

    def within(self, name: str) -> Command:
        """The command of a server that runs in this environment."""
        home = self.home / name
        environment = child_environment(
            BELLWETHER_HOME=str(home), BELLWETHER_LOG_LEVEL="ERROR", PYTHONPATH=str(ROOT)
        )
        port = free_port()
        where = ["--bundle", str(self.bundle.resolve()), "--port", str(port)]
        if name == OURS:
            program = [str(Path(sys.executable).with_name("bellwether")), "serve", *where]
            return Command(program, port, "/v2/health/ready", environment, home)
        program = [sys.executable, "-m", "benchmarks.serving_peers", name.lower(), *where]
        return Command(program, port, "/openapi.json", environment, home)

    def without(self, name: str, root: Path) -> Command:
        """The command of a server with an environment of its own; PeerMissing."""
        make = PEERS_OF_THEIR_OWN[name]
        return make(root, self.home / name.replace(" ", "-"), self.bundle / MODEL, self.manifest.model)


class Workload:
    """What is sent to each server in one part."""

    def __init__(self, part: str, manifest: Manifest, seconds: float) -> None:
        """`seconds` of a turn."""
        self.seconds = seconds * LONGER.get(part, 1)
        self.part, self._bars = part, Bars()
        # of the symbols that a server gets: they have a last day
        self._generation: dict[str, int] = {}
        model, sent = manifest.model, windows(manifest)
        in_words: dict[str, Callable[[Windows], bytes]] = {
            "json": partial(infer_json, model),
            "binary": partial(infer_binary, model),
            "invocations": invocation,
        }
        self._requests = {part: [in_words[part](window) for window in sent]} if part in in_words else {}
        if part == "json":
            self._requests[MLFLOW] = [invocation(window) for window in sent]

    def prepare(self, name: str, server: Running, concurrency: int) -> None:
        """Warm up new symbols whose bars this server will get; RuntimeError when they have no signal then."""
        if self.part != "bars" or name == ECHO:
            return
        symbols = self._symbols(name, concurrency)
        if self._bars.made(symbols[0]) > MOST_BARS - self._count(concurrency):
            self._generation[name] = self._generation.get(name, 0) + 1
            symbols = self._symbols(name, concurrency)
        if not self._bars.made(symbols[0]):
            for answer in uvloop.run(ask(server.port, [self._bars.warm_up(symbol) for symbol in symbols])):
                last = json.loads(answer)["signals"][-1]
                if last["probability"] is None:
                    raise RuntimeError(f"{name} has no signal after {WARM_BARS} bars: {last}")
            server.settle()

    def lanes(self, name: str, concurrency: int) -> list[Iterator[bytes]]:
        """The requests of one turn."""
        if self.part == "bars":
            count = self._count(concurrency)
            return [self._bars.lane(symbol, count) for symbol in self._symbols(name, concurrency)]
        return in_lanes(self._requests.get(name) or self._requests[self.part], concurrency)

    def _count(self, concurrency: int) -> int:
        return int(BARS_PER_SECOND * self.seconds / concurrency)

    def _symbols(self, name: str, concurrency: int) -> list[str]:
        generation = self._generation.get(name, 0)
        return [f"{name}-{concurrency}-{lane}-{generation}" for lane in range(concurrency)]


def measure(setting: Setting, servers: dict[str, Running], part: str) -> Iterator[Figure]:
    """The servers that can, answer what one part sends; the first round does not count.

    A round that others disturb is taken again, as often as a third of the rounds asked for at most.
    """
    workload = Workload(part, setting.manifest, setting.seconds)
    names = [name for name in TAKING_PART[part] if name in servers]
    for concurrency in CONCURRENCY:
        rounds: list[Round] = []
        for number in range(4 * setting.rounds // 3 + 1):
            first = number % len(names)
            turns = {
                name: _turn(setting, workload, name, servers[name], concurrency)
                for name in names[first:] + names[:first]
            }
            if number:
                rounds.append({name: turns[name] for name in names})
            if sum(disturbance(one) <= CALM for one in rounds) >= setting.rounds:
                break
        yield from judge(part, concurrency, calmest(rounds, setting.rounds))


def _turn(setting: Setting, workload: Workload, name: str, server: Running, concurrency: int) -> Taken:
    workload.prepare(name, server, concurrency)
    lanes, cores = workload.lanes(name, concurrency), setting.client | setting.server
    before, client, busy = server.cpu(), time.process_time(), busy_seconds(cores)
    with on_cores(setting.client):
        turn = uvloop.run(take_turn(server.port, lanes, workload.seconds))
    own = time.process_time() - client
    others = busy_seconds(cores) - busy - own - (server.cpu() - before)
    # what it puts off shall neither slow the next one's turn nor be free
    server.settle()
    return Taken(turn.rate, turn.seconds, server.cpu() - before, own / turn.elapsed, others / turn.elapsed)


# --- the same work ------------------------------------------------------------------------------------------


def expected(bundle: Path, asked: Windows) -> dict[str, np.ndarray]:
    """The outputs that the service answers, for each window alone, from ONNX Runtime here."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(bundle / MODEL, options, providers=["CPUExecutionProvider"])
    rows = [session.run(OUTPUTS, {INPUT: asked[k : k + 1]}) for k in range(len(asked))]
    return dict(zip(OUTPUTS, map(np.concatenate, zip(*rows, strict=True)), strict=True))


def check_answers(setting: Setting, servers: dict[str, Running]) -> None:
    """RuntimeError unless every server answers what the graph does, and the echo what it was sent."""
    asked = windows(setting.manifest)[:: DISTINCT // CHECKED]
    wanted, model = expected(setting.bundle, asked), setting.manifest.model
    for name, server in servers.items():
        as_mlflow = [invocation(window) for window in asked]
        as_json = [infer_json(model, window) for window in asked]
        kinds = {MLFLOW: [as_mlflow], OURS: [as_mlflow, as_json]}.get(name, [as_json])
        for requests in kinds:
            answers = uvloop.run(ask(server.port, requests))
            if name == ECHO:
                same = answers == [request.split(b"\r\n\r\n", 1)[1] for request in requests]
            else:
                same = all(_equal(answer, wanted, row) for row, answer in enumerate(answers))
            if not same:
                raise RuntimeError(
                    f"{name} answers other numbers than the graph: nothing can be compared; it said "
                    f"{answers[0][:400]!r}"
                )


def _equal(answer: bytes, wanted: dict[str, np.ndarray], row: int) -> bool:
    """Whether one answer, of either protocol, holds every output for a row."""
    read = json.loads(answer)
    outputs = read.get("predictions") or {output["name"]: output["data"] for output in read["outputs"]}
    return outputs.keys() == wanted.keys() and all(
        np.allclose(np.ravel(outputs[name]), values[row], rtol=0, atol=1e-9)
        for name, values in wanted.items()
    )


# --- starting -----------------------------------------------------------------------------------------------


def measure_start(setting: Setting) -> Iterator[Figure]:
    """From the start of the process to the first 200 of /v2/health/ready, the least of some: others' work
    on the machine only ever adds. The first start may compile kernels and does not count."""
    seconds = []
    for number in range(STARTS + 1):
        command = setting.within(OURS)
        fresh = Command(
            command.arguments,
            command.port,
            command.ready,
            {**command.environment, "BELLWETHER_HOME": str(setting.home / f"start{number}")},
            setting.home / f"start{number}",
        )
        with running(fresh, os.sched_getaffinity(0)) as server:
            seconds.append(server.seconds)
            megabytes = server.megabytes()
    yield Figure(START, f"{OURS}, process to ready, kernels cached", min(seconds[1:]), "s", "<= 2")
    yield Figure(START, f"{OURS}, resident before any request", megabytes, "MB")


# --- all of it ----------------------------------------------------------------------------------------------


def start(setting: Setting, stack: ExitStack, names: Iterable[str], peers: Path | None) -> dict[str, Running]:
    """The servers by name, without those that cannot be had here, which is said."""
    found = {}
    for name in names:
        if name not in PEERS_OF_THEIR_OWN:
            found[name] = stack.enter_context(running(setting.within(name), setting.server))
            continue
        try:
            if peers is None:
                raise PeerMissing("left out by --no-peers")
            found[name] = stack.enter_context(running(setting.without(name, peers), setting.server))
        except (PeerMissing, NotReady) as error:
            print(f"{name}: NOT MEASURED: {error}", file=sys.stderr, flush=True)
    return found


def run(setting: Setting, parts: Sequence[str], peers: Path | None) -> Iterator[Figure]:
    """Every part in order, its figures as they are known."""
    told, manifest = f"{setting.manifest.model}, {setting.bundle}", setting.manifest
    print(f"{told}: {', '.join(manifest.base_models)}", file=sys.stderr, flush=True)
    outputs = expected(setting.bundle, windows(manifest)[:1])
    yield Figure("graph", "base models of the manifest", len(manifest.base_models))
    yield Figure("graph", "base models that the graph answers", outputs["base_probabilities"].shape[1],
                 wanted=f">= {len(manifest.base_models)}")  # fmt: skip
    yield Figure("graph", "values of a window", float(manifest.window * len(manifest.features)))
    if START in parts:
        yield from measure_start(setting)
    loads = [part for part in TAKING_PART if part in parts]
    names = [name for name in TAKING_PART["json"] if any(name in TAKING_PART[part] for part in loads)]
    with ExitStack() as stack:
        servers = start(setting, stack, names, peers)
        check_answers(setting, servers)
        for part in loads:
            yield from measure(setting, servers, part)
        if loads:
            yield Figure(
                "memory", f"{OURS}, resident after the load", servers[OURS].megabytes(), "MB", "<= 200"
            )


def cores() -> tuple[set[int], set[int]]:
    """The client's core and the servers'; with one core they share it."""
    usable = sorted(os.sched_getaffinity(0))
    return {usable[0]}, {usable[-1]}


def main() -> None:
    """Print the table, or one JSON document."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    every = [*TAKING_PART, START]
    parser.add_argument("parts", nargs="*", choices=[[], *every], help=f"default all: {', '.join(every)}")
    parser.add_argument("--bundle", type=Path, default=ROOT / "data" / "store" / "bundle")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each server that count")
    parser.add_argument("--seconds", type=float, default=0.4, help="of a turn")
    parser.add_argument("--peers", type=Path, default=PEERS, help="folder of the peers' environments")
    parser.add_argument("--no-peers", action="store_true", help="leave MLServer and mlflow out")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    given = parser.parse_args()
    disable_telemetry()
    client, server = cores()
    with tempfile.TemporaryDirectory(prefix="bellwether-bench-") as home:
        manifest = load_manifest(given.bundle)
        setting = Setting(given.bundle, manifest, Path(home), given.rounds, given.seconds, client, server)
        found = []
        for figure in run(setting, given.parts or every, None if given.no_peers else given.peers.resolve()):
            found.append(figure)
            if not given.json:
                show(figure)
    if given.json:
        print(document(found))


if __name__ == "__main__":
    main()
