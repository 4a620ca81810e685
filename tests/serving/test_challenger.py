"""The challenger: on the champion's rows or on streams of its own, in shadow and as a canary."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tritonclient.http as triton

from core.bundle import CHALLENGER
from core.signal import Signal
from monitoring.prediction_log import feature_columns, read
from serving.artefact import read_artefact
from serving.bar import Bar
from serving.challenger import Challenger, position
from serving.metrics import Metrics
from serving.model import load_model
from serving.plane import Plane
from serving.resolver import RegistryResolver
from serving.runtime import OUTPUTS, Runtime
from serving.slot import Slot
from tests.serving.kit import FakeRegistry, Service, eventually, make_bundle

FEW = ["return_1", "return_20", "gap"]


class Desk:
    """A plane over a registry, with what its watch would do."""

    def __init__(self, home: Path, bundle: Path, *, share: float = 0.0, capacity: int = 256) -> None:
        self.registry = FakeRegistry(home / "mlflow.db")
        self.registry.promote(1, bundle)
        self.metrics, self.log_root = Metrics(), home / "predictions"
        resolvers = [
            RegistryResolver(self.registry.database, "sp500-1d", a) for a in ("champion", CHALLENGER)
        ]
        self.challenger = Challenger(
            resolvers[1], log_root=self.log_root, metrics=self.metrics, share=share, capacity=capacity
        )
        self.slot = Slot(
            resolvers[0], log_root=self.log_root, metrics=self.metrics, challenger=self.challenger
        )
        self.slot.start()
        self.plane = Plane([self.slot], self.metrics)

    def look(self) -> None:
        loaded = self.slot.look()
        if loaded is not None:
            self.slot.install(loaded)
        champion = self.slot.require()
        self.challenger.install(self.challenger.look(champion), champion)

    def push(self, bars: pd.DataFrame, symbol: str = "sp500", size: int = 1) -> list[Signal]:
        rows = zip(bars.index, bars.to_numpy().tolist(), strict=True)
        made = [Bar(symbol, time.timestamp(), *row) for time, row in rows]
        chunks = [made[i : i + size] for i in range(0, len(made), size)]
        return [s for chunk in chunks for s in asyncio.run(self.plane.bars(chunk))]

    def shadowed(self, version: str) -> float:
        return self.metrics.shadowed.value("sp500-1d", version)


@pytest.fixture
def new_desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    desks: list[Desk] = []

    def make(bundle: Path, **options: float) -> Desk:
        desks.append(Desk(tmp_path / f"desk{len(desks)}", bundle, **options))  # type: ignore[arg-type]
        return desks[-1]

    yield make
    for desk in desks:
        desk.slot.close()


NewDesk = Callable[..., Desk]


def test_a_shadow_on_the_same_rows_is_logged_apart(
    new_desk: NewDesk, bundle: Path, tmp_path: Path, bars: pd.DataFrame
) -> None:
    desk = new_desk(bundle)
    desk.registry.promote(2, make_bundle(tmp_path / "two", bars, bias=0.5, window=2), alias=CHALLENGER)
    desk.look()
    signals = desk.push(bars.iloc[601:621])
    assert {s.model_version for s in signals} == {"1"}
    assert eventually(lambda: desk.shadowed("2") == 20)
    desk.slot.close()
    champion, shadow = (read(desk.log_root / name) for name in ("sp500-1d", "sp500-1d@challenger"))
    assert set(champion["model_version"].to_pylist()) == {"1"}
    assert set(shadow["model_version"].to_pylist()) == {"2"}
    assert champion["bar_time"].to_pylist() == shadow["bar_time"].to_pylist()
    assert champion["features"].to_pylist() == shadow["features"].to_pylist()
    assert champion["probability"].to_pylist() != shadow["probability"].to_pylist()
    alone = new_desk(make_bundle(tmp_path / "three", bars, bias=0.5, window=2))
    assert [s.probability for s in alone.push(bars.iloc[601:621])] == shadow["probability"].to_pylist()


def test_other_features_have_streams_of_their_own(
    new_desk: NewDesk, bundle: Path, tmp_path: Path, bars: pd.DataFrame
) -> None:
    desk = new_desk(bundle)
    desk.push(bars.iloc[601:650])
    desk.registry.promote(2, make_bundle(tmp_path / "two", bars, names=FEW), alias=CHALLENGER)
    desk.look()
    desk.push(bars.iloc[650:670])
    assert eventually(lambda: desk.shadowed("2") == 20)
    desk.slot.close()
    shadow = read(desk.log_root / "sp500-1d@challenger")
    alone = new_desk(make_bundle(tmp_path / "three", bars, names=FEW))
    expected = alone.push(bars.iloc[601:670])[-20:]
    assert shadow["probability"].to_pylist() == [s.probability for s in expected]
    assert set(feature_columns(shadow)) == set(FEW)


def test_a_full_queue_drops_counts_and_catches_up(
    new_desk: NewDesk, bundle: Path, tmp_path: Path, bars: pd.DataFrame
) -> None:
    desk = new_desk(bundle, capacity=2)
    desk.registry.promote(2, make_bundle(tmp_path / "two", bars, names=FEW), alias=CHALLENGER)
    desk.look()
    with desk.challenger._logging:
        # the thread waits to log; two more fit, the rest is dropped and no answer waits
        assert len(desk.push(bars.iloc[601:621])) == 20
        dropped = desk.metrics.shadow_dropped.value("sp500-1d")
        assert 16 <= dropped <= 18
    assert eventually(lambda: desk.shadowed("2") == 20 - dropped)
    last = desk.push(bars.iloc[621:622])[0]
    assert eventually(lambda: desk.shadowed("2") == 21 - dropped)
    desk.slot.close()
    shadow = read(desk.log_root / "sp500-1d@challenger")
    alone = new_desk(make_bundle(tmp_path / "three", bars, names=FEW))
    assert shadow["probability"].to_pylist()[-1] == alone.push(bars.iloc[601:622])[-1].probability
    assert last.model_version == "1"


@pytest.mark.parametrize("names", [None, FEW], ids=["same features", "other features"])
def test_a_canary_answers_its_symbols_and_leaves_at_once(
    new_desk: NewDesk, bundle: Path, tmp_path: Path, bars: pd.DataFrame, names: list[str] | None
) -> None:
    desk = new_desk(bundle, share=1.0)
    desk.push(bars.iloc[601:610])
    desk.registry.promote(2, make_bundle(tmp_path / "two", bars, names=names, bias=0.4), alias=CHALLENGER)
    desk.look()
    versions = []
    for i in range(610, 640):
        signal = desk.push(bars.iloc[i : i + 1])[0]
        versions.append(signal.model_version)
        assert desk.plane.signal("sp500").model_version in (signal.model_version, "2")
        assert eventually(lambda: desk.challenger._queue.empty())
    assert versions == sorted(versions)
    assert versions[-1] == "2"
    count = versions.count("2")
    # the alias is taken away: the champion answers, its stream never stopped
    desk.registry.alias(None, alias=CHALLENGER)
    desk.look()
    back = desk.push(bars.iloc[640:641])[0]
    alone = new_desk(make_bundle(tmp_path / "three", bars))
    assert back.model_version == "1"
    assert back.probability == alone.push(bars.iloc[601:641])[-1].probability
    desk.slot.close()
    canary = read(desk.log_root / "sp500-1d@canary")
    assert canary.num_rows == count
    assert set(canary["model_version"].to_pylist()) == {"2"}
    assert set(read(desk.log_root / "sp500-1d")["model_version"].to_pylist()) == {"1"}
    other = new_desk(make_bundle(tmp_path / "four", bars, names=names, bias=0.4))
    expected = [s.probability for s in other.push(bars.iloc[601:640])][-count:]
    assert canary["probability"].to_pylist() == expected


def test_a_request_of_canary_and_other_symbols_is_answered_in_order(
    new_desk: NewDesk, bundle: Path, tmp_path: Path, bars: pd.DataFrame
) -> None:
    desk = new_desk(bundle, share=0.5)
    names = {True: "", False: ""}
    for number in range(100):
        names[position(f"S{number}") < 0.5] = f"S{number}"
    desk.registry.promote(2, make_bundle(tmp_path / "two", bars, bias=0.4), alias=CHALLENGER)
    desk.look()
    for symbol in names.values():
        desk.push(bars.iloc[:450], symbol, size=32)
    row = bars.iloc[450]
    both = [Bar(symbol, bars.index[450].timestamp(), *row.tolist()) for symbol in names.values()]
    signals = asyncio.run(desk.plane.bars(both))
    assert [s.symbol for s in signals] == list(names.values())
    assert [s.model_version for s in signals] == ["2", "1"]
    assert signals[0].probability != signals[1].probability


def test_shares_are_stable_and_about_right() -> None:
    assert position("sp500") == pytest.approx(0.42462386382391115)
    assert position("EUR_USD") == pytest.approx(0.8119974462509035)
    drawn = np.array([position(f"S{i}") for i in range(4000)])
    for share in (0.05, 0.5, 0.9):
        assert abs((drawn < share).mean() - share) < 0.03


def _outputs(answer: triton.InferResult) -> dict[str, np.ndarray]:
    return {name: answer.as_numpy(name) for name in OUTPUTS}


def _given(runtime: Runtime, count: int) -> tuple[np.ndarray, triton.InferInput]:
    shape = (count, runtime.window, runtime.features)
    windows = np.random.default_rng(count).normal(size=shape).astype(np.float32)
    given = triton.InferInput("features", list(shape), "FP32")
    given.set_data_from_numpy(windows)
    return windows, given


@pytest.mark.parametrize("share", ["0", "1"], ids=["shadow", "canary"])
def test_each_version_answers_by_its_number(
    new_service: Callable[..., Service], tmp_path: Path, bars: pd.DataFrame, share: str
) -> None:
    home, name = tmp_path / "service", "sp500-1d"
    directories = {
        "1": make_bundle(tmp_path / "one", bars),
        "2": make_bundle(tmp_path / "two", bars, names=FEW, window=2, version="2", classes=3),
    }
    registry = FakeRegistry(home / "mlflow" / "mlflow.db")
    registry.promote(1, directories["1"])
    service = new_service(home, BELLWETHER_CANARY_SHARE=share)
    with triton.InferenceServerClient(service.address) as client:
        registry.promote(2, directories["2"], alias=CHALLENGER)
        assert eventually(lambda: bool(client.is_model_ready(name, "2")))
        assert client.get_model_repository_index() == [
            {"name": name, "version": version, "state": "READY", "reason": ""} for version in "12"
        ]
        for version, directory in directories.items():
            runtime = load_model(read_artefact(directory))[0].runtime
            windows, given = _given(runtime, 3)
            answer = client.infer(name, [given], model_version=version)
            assert answer.get_response()["model_version"] == version
            for output, values in _outputs(answer).items():
                np.testing.assert_array_equal(values, getattr(runtime.run(windows), output))
            described = client.get_model_metadata(name, version)
            assert described["versions"] == ["1", "2"]
            assert described["inputs"][0]["shape"] == [-1, runtime.window, runtime.features]
            if version == "1":
                assert client.get_model_metadata(name) == described
                assert client.infer(name, [given]).get_response()["model_version"] == "1"
        assert described["outputs"][3]["shape"] == [-1, 3]
        with pytest.raises(triton.InferenceServerException, match="the versions are 1, 2"):
            client.infer(name, [given], model_version="3")
        registry.alias(None, alias=CHALLENGER)
        assert eventually(lambda: not client.is_model_ready(name, "2"))
        with pytest.raises(triton.InferenceServerException, match="the version is 1"):
            client.infer(name, [given], model_version="2")
        assert client.get_model_metadata(name)["versions"] == ["1"]


def test_a_bad_challenger_is_refused_and_the_champion_is_not_touched(
    new_desk: NewDesk, bundle: Path, tmp_path: Path, bars: pd.DataFrame
) -> None:
    desk = new_desk(bundle)
    broken = make_bundle(tmp_path / "two", bars, bias=0.2)
    (broken / "model.onnx").write_bytes(b"x")
    desk.registry.promote(2, broken, alias=CHALLENGER)
    for _ in range(3):
        desk.look()
    assert desk.challenger.current is None
    assert "model.onnx" in str(desk.challenger.refused)
    assert desk.metrics.bundles_refused.value("sp500-1d@challenger") == 1
    assert desk.slot.status.complaints == []
    assert desk.push(bars.iloc[601:602])[0].model_version == "1"


def test_a_promoted_challenger_is_not_its_own_challenger(
    new_desk: NewDesk, bundle: Path, tmp_path: Path, bars: pd.DataFrame
) -> None:
    desk = new_desk(bundle)
    desk.registry.promote(2, make_bundle(tmp_path / "two", bars, bias=0.2), alias=CHALLENGER)
    desk.look()
    assert desk.challenger.current is not None
    model = desk.challenger.current.model
    desk.registry.alias(2)
    promoted = desk.slot.look()
    assert promoted is not None
    desk.slot.install(promoted)
    assert [served.version for served in desk.plane.versions()] == ["2"]
    desk.look()
    # proven once: the model in memory is taken over
    assert desk.slot.require().model is model
    assert desk.challenger.current is None
    first = desk.slot.look()
    desk.registry.alias(1)
    desk.look()
    assert first is None
    assert desk.slot.require().model.version == "1"
