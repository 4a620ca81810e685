"""What the serving benchmark calls met, what it sends, and what it does without a peer."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks import serving, serving_environments
from benchmarks.figure import Figure
from benchmarks.serving import ECHO, FASTAPI, IN_PROCESS, MLFLOW, MLSERVER, OURS, Round, Taken, judge
from benchmarks.serving_environments import PeerMissing, pins
from benchmarks.serving_load import MOST_BARS, Bars, Turn, ask, in_lanes, take_turn
from serving.protocols.bars import BarBody

RATES = {ECHO: 1000.0, OURS: 500.0, FASTAPI: 190.0, MLSERVER: 80.0, IN_PROCESS: 200.0, MLFLOW: 60.0}


def round_of(others: float = 0.0, seconds: float = 0.0005, **rates: float) -> Round:
    found = {**RATES, **rates}
    return {name: Taken(rate, [seconds] * 100, 0.01, 0.5, others) for name, rate in found.items()}


def marks(figures: Iterator[Figure]) -> dict[str, bool]:
    return {figure.what: figure.met for figure in figures if figure.met is not None}


def test_a_ratio_is_met_or_missed() -> None:
    found = marks(judge("json", 32, [round_of()] * 3))
    judged = [f"{OURS} over {name}, 32 at once" for name in (ECHO, FASTAPI, MLSERVER, MLFLOW)]
    assert found == dict.fromkeys([*judged, "of a core others took at most, 32 at once"], True)
    slow = marks(judge("json", 32, [round_of(bellwether=399)] * 3))
    assert not any(slow[what] for what in judged)
    # one client alone keeps no server busy
    assert not [what for what in marks(judge("json", 1, [round_of()] * 3)) if " over " in what]


def test_a_run_that_others_disturbed_is_told_from_a_sound_one() -> None:
    disturbed = marks(judge("json", 1, [round_of(), round_of(others=0.3)]))
    assert disturbed["of a core others took at most, 1 at once"] is False


def test_a_ratio_is_of_servers_of_one_round() -> None:
    # a machine that becomes ten times slower changes every rate and no ratio
    rounds = [round_of(**{name: rate / slower for name, rate in RATES.items()}) for slower in (1, 3, 10)]
    figures = {figure.what: figure.value for figure in judge("json", 1, rounds)}
    assert figures[f"{OURS} over {MLSERVER}, 1 at once"] == pytest.approx(500 / 80)


def test_latency_is_judged_for_bars_one_at_a_time() -> None:
    late = [round_of(seconds=0.006)]
    assert marks(judge("bars", 1, late))[f"{OURS}, 1 at once, p50"] is False
    assert marks(judge("bars", 1, late))[f"{OURS}, 1 at once, p99"] is False
    assert f"{OURS}, 32 at once, p50" not in marks(judge("bars", 32, late))


def test_the_rounds_that_count_are_those_in_which_others_took_least() -> None:
    rounds = [round_of(others=share) for share in (0.5, 0.01, 0.3, 0.02)]
    assert [serving.disturbance(one) for one in serving.calmest(rounds, 2)] == [0.01, 0.02]


def test_bars_are_sound_go_on_and_are_other_ones_each_time() -> None:
    bars = Bars()
    first = [request for request, _ in zip(bars.lane("a", 50), range(20), strict=False)]
    rest = list(bars.lane("a", 50))
    sent = [msgspec.json.decode(request.split(b"\r\n\r\n")[1], type=BarBody) for request in first + rest]
    times = [bar.bar().timestamp for bar in sent]
    assert times == sorted(set(times))
    assert len(times) == 70
    bars._made["a"] = MOST_BARS
    assert msgspec.json.decode(msgspec.json.encode(bars.bar("a")), type=BarBody).bar().time.startswith("2014")


def test_every_package_of_a_peer_is_pinned_once() -> None:
    for name in ("mlserver", "mlflow"):
        lines = pins(name).splitlines()
        assert all(line.count("==") == 1 for line in lines)
        assert len({line.split("==")[0].lower() for line in lines}) == len(lines)
        assert {"onnxruntime", "uvloop", "httptools"} < {line.split("==")[0] for line in lines}


def test_a_peer_that_cannot_be_had_is_said_and_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def missing(*_: Any) -> None:
        raise PeerMissing("mlserver: the package index does not give what serving_mlserver.txt pins")

    monkeypatch.setattr(serving_environments, "environment", missing)
    setting = serving.Setting(tmp_path, type("M", (), {"model": "m"})(), tmp_path, 1, 0.1, {0}, {0})
    with ExitStack() as stack:
        assert serving.start(setting, stack, [MLSERVER], tmp_path) == {}
    assert f"{MLSERVER}: NOT MEASURED: mlserver: the package index" in capsys.readouterr().err


class Dribbler(asyncio.Protocol):
    """Answers in pieces, each request with its own number of bytes."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        size = int(data)
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size
        for start in range(0, len(answer), 7):
            asyncio.get_running_loop().call_later(
                start / 1e5, self.transport.write, answer[start : start + 7]
            )


async def dribble() -> tuple[list[bytes], Turn]:
    server = await asyncio.get_running_loop().create_server(Dribbler, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    answers = await ask(port, [b"0", b"1", b"300"])
    turn = await take_turn(port, in_lanes([b"5", b"50", b"7", b"0"], 2), 0.1)
    server.close()
    return answers, turn


def test_an_answer_ends_where_it_says_whatever_pieces_it_comes_in() -> None:
    answers, turn = asyncio.run(dribble())
    assert answers == [b"", b"x", b"x" * 300]
    assert 0.1 <= turn.elapsed < 1
    assert turn.rate == pytest.approx(len(turn.seconds) / turn.elapsed)
    assert len(turn.seconds) > 4
