"""Many symbols: comparisons at one time, in files and bar by bar."""

import functools
import itertools
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

import features
from core.errors import ConfigurationError, DataError, StageFailed, StreamError, UsageError
from core.files import directory_hashes
from features.parser import parse
from features.probes import bits, differing, poisoned
from features.program import compile_program
from features.universe import build, comparison
from features.universe.build import MANIFEST, build_universe
from features.universe.probes import computed, probe, streamed
from features.universe.stages import cut
from features.universe.stream import UniverseStream

ROOT = Path(__file__).resolve().parents[2]
ROWS = 900
DEFINITIONS = {
    "rank": "cs_rank(volume)",
    "zscore": "cs_zscore(returns)",
    "demean": "cs_demean(log(close))",
    "alone": "std(returns, 9)",
    "smoothed": "mean(cs_rank(returns), 5) - cs_rank(close)",
    "nested": "cs_rank(cs_zscore(returns) * delay(cs_demean(volume), 3) + close)",
    "coarse": "cs_zscore(on('30m', log(close)))",
}


def bars(seed: int, rows: int = ROWS, begin: int = 0, share: float = 1.0) -> pd.DataFrame:
    """Minute bars from minute `begin` on, of which a share is there; volumes tie."""
    rng = np.random.default_rng(seed)
    minutes = pd.date_range("2020-02-27 22:00", periods=begin + rows, freq="min", tz="UTC", name="timestamp")
    close = 100 * np.exp(np.cumsum(0.001 * rng.standard_t(4, begin + rows)))
    opened = close * np.exp(0.001 * rng.normal(size=len(close)))
    values = {
        "open": opened,
        "high": np.maximum(opened, close) * 1.001,
        "low": np.minimum(opened, close) * 0.999,
        "close": close,
        "volume": rng.integers(0, 4, len(close)).astype(float),
    }
    return pd.DataFrame(values, index=minutes)[begin:][rng.random(rows) < share]


def fail(message: str) -> pd.DataFrame:
    raise DataError(message)


def die() -> pd.DataFrame:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


MARKET = {
    "EVERY": bars(1),
    "GAPS": bars(2, share=0.7),
    "LATE": bars(3, begin=400, rows=500),
    "ENDED": bars(4, rows=350, share=0.9),
    "SPARSE": bars(5, share=0.05),
}
SOURCES = {
    "EVERY": functools.partial(bars, 1),
    "GAPS": functools.partial(bars, 2, share=0.7),
    "LATE": functools.partial(bars, 3, begin=400, rows=500),
    "ENDED": functools.partial(bars, 4, rows=350, share=0.9),
    "SPARSE": functools.partial(bars, 5, share=0.05),
}


@pytest.fixture(scope="module")
def built() -> dict[str, pd.DataFrame]:
    return computed(MARKET, DEFINITIONS)


def long(column) -> pd.DataFrame:
    """A column per symbol of `column(bars)`, NaN where a symbol has no bar."""
    return pd.concat({symbol: column(frame) for symbol, frame in MARKET.items()}, axis=1)


def _returns(frame: pd.DataFrame) -> pd.Series:
    return np.log(frame["close"]).diff()


def _zscore(values: pd.DataFrame) -> pd.DataFrame:
    return values.sub(values.mean(axis=1), axis=0).div(values.std(axis=1, ddof=1), axis=0)


def _nested() -> pd.DataFrame:
    volume = long(lambda frame: frame["volume"])
    centred = volume.sub(volume.mean(axis=1), axis=0)
    delayed = pd.concat({s: centred[s].dropna().shift(3) for s in centred}, axis=1)
    return (_zscore(long(_returns)) * delayed + long(lambda frame: frame["close"])).rank(axis=1, pct=True)


def _smoothed() -> pd.DataFrame:
    ranks = long(_returns).rank(axis=1, pct=True)
    means = {s: ranks[s].reindex(MARKET[s].index).rolling(5).mean() for s in ranks}
    return pd.concat(means, axis=1) - long(lambda frame: frame["close"]).rank(axis=1, pct=True)


def _coarse() -> pd.DataFrame:
    held = {
        s: features.build(frame, {"x": "on('30m', log(close))"})["x"].rename(s) for s, frame in MARKET.items()
    }
    return _zscore(pd.concat(held, axis=1))


def _demeaned() -> pd.DataFrame:
    logs = long(lambda frame: np.log(frame["close"]))
    return logs.sub(logs.mean(axis=1), axis=0)


ORACLES = {
    "rank": lambda: long(lambda frame: frame["volume"]).rank(axis=1, pct=True),
    "zscore": lambda: _zscore(long(_returns)),
    "demean": _demeaned,
    "alone": lambda: long(lambda frame: _returns(frame).rolling(9).std()),
    "smoothed": _smoothed,
    "nested": _nested,
    "coarse": _coarse,
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_features_agree_with_pandas(name, built):
    expected = ORACLES[name]()
    for symbol, frame in built.items():
        wanted = expected[symbol].reindex(frame.index).to_numpy()
        missing = np.isnan(wanted)
        assert (frame[name].isna().to_numpy() == missing).all()
        assert missing.mean() < 0.6
        np.testing.assert_allclose(frame[name].to_numpy()[~missing], wanted[~missing], rtol=1e-9, atol=1e-12)


def test_the_market_is_a_hard_one():
    counts = long(lambda frame: frame["close"]).notna().sum(axis=1)
    assert set(counts) == {1, 2, 3, 4}
    assert (
        long(lambda frame: frame["volume"]).apply(lambda row: row.dropna().duplicated().any(), axis=1).any()
    )


def across(text: str, *sections: list[float]) -> list[list[float]]:
    """An operator over cross-sections, as the engine computes it."""
    program = compile_program({"x": parse(text)}, ("close",), across=True)
    values = np.array([list(itertools.chain.from_iterable([*each, math.inf] for each in sections))])
    out = np.empty_like(values)
    program.run(values, program.initial_state.copy(), program.buffers(values.shape[1]), out)
    parts = np.split(out[0], np.cumsum([len(each) + 1 for each in sections])[:-1])
    return [part[:-1].tolist() for part in parts]


NUMBERS = st.one_of(
    st.floats(-1e150, 1e150), st.sampled_from([math.nan, 0.0, -0.0, 1.0, 1e16, -1e16, 2.0**-30, 1e-300])
)
KINDS = ("cs_rank(close)", "cs_zscore(close)", "cs_demean(close)")


@given(st.lists(NUMBERS, min_size=1, max_size=40), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_the_order_of_symbols_changes_no_bit(values, random):
    order = list(range(len(values)))
    random.shuffle(order)
    for kind in KINDS:
        straight, shuffled = across(kind, values, [values[k] for k in order])
        assert (bits(np.array(shuffled)) == bits(np.array(straight)[order])).all()


@given(st.lists(NUMBERS, min_size=1, max_size=40))
@settings(max_examples=150, deadline=None)
def test_the_mean_is_rounded_from_the_exact_sum(values):
    defined = [value for value in values if value == value]
    (found,) = across("cs_demean(close)", values)
    if defined:
        mean = min(max(math.fsum(defined) / len(defined), min(defined)), max(defined))
        expected = [value - mean for value in values]
        assert (bits(np.array(found)) == bits(np.array(expected))).all()


@given(st.lists(NUMBERS, min_size=1, max_size=12))
@settings(max_examples=100, deadline=None)
def test_ranks_are_shares_with_ties_averaged(values):
    (found,) = across("cs_rank(close)", values)
    expected = pd.Series(values).rank(pct=True)
    np.testing.assert_allclose(found, expected, rtol=1e-15)


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("cs_zscore(close)", [0.1, 0.1, 0.1], [0.0, 0.0, 0.0]),
        ("cs_demean(close)", [0.1, 0.1, 0.1, 0.1, 0.1, 0.1], [0.0] * 6),
        ("cs_rank(close)", [0.1, 0.1, 0.1], [2 / 3] * 3),
        ("cs_zscore(close)", [7.0], [math.nan]),
        ("cs_demean(close)", [7.0], [0.0]),
        ("cs_rank(close)", [7.0], [1.0]),
        ("cs_zscore(close)", [7.0, math.nan], [math.nan, math.nan]),
        ("cs_zscore(close)", [1e-200, 3e-200], [-math.sqrt(0.5), math.sqrt(0.5)]),
        ("cs_zscore(close)", [-1e200, 1e200], [-math.sqrt(0.5), math.sqrt(0.5)]),
        ("cs_demean(close)", [math.nan, math.nan], [math.nan, math.nan]),
        ("cs_rank(close)", [], []),
    ],
)
def test_edges(kind, values, expected):
    np.testing.assert_allclose(across(kind, values)[0], expected, rtol=1e-15)


def test_cross_sections_end_where_they_are_marked():
    assert across("cs_rank(close)", [2.0, 1.0], [], [5.0], [1.0, 3.0, 2.0]) == [
        [1.0, 0.5],
        [],
        [1.0],
        [1 / 3, 1.0, 2 / 3],
    ]


def test_a_stream_says_the_same_bit_for_bit(built):
    live = streamed(UniverseStream(reversed(MARKET), DEFINITIONS), MARKET)
    for symbol, frame in built.items():
        assert differing(live[symbol], frame) == []
        assert (live[symbol].index == frame.index).all()


@pytest.mark.parametrize("share", [0.01, 0.45, 0.9])
def test_a_restored_stream_continues_bit_for_bit(share, built):
    cut_at = MARKET["EVERY"].index[int(share * ROWS)]
    first, second = UniverseStream(MARKET, DEFINITIONS), UniverseStream(sorted(MARKET), DEFINITIONS)
    streamed(first, {symbol: frame[frame.index <= cut_at] for symbol, frame in MARKET.items()})
    second.restore(first.checkpoint())
    assert (second.bars, second.last_timestamp) == (first.bars, first.last_timestamp)
    later = streamed(second, {symbol: frame[frame.index > cut_at] for symbol, frame in MARKET.items()})
    for symbol, frame in built.items():
        assert differing(later[symbol], frame[frame.index > cut_at]) == []


@pytest.mark.parametrize("rows", [1, 40, 333])
def test_tables_of_any_size_say_the_same(rows, built, monkeypatch):
    monkeypatch.setattr(comparison, "TABLE", rows * (len(MARKET) + 1))
    monkeypatch.setattr(comparison, "AHEAD", 2 * rows * len(MARKET))
    monkeypatch.setattr(comparison, "CHUNK", 3 * rows)
    monkeypatch.setattr(build, "BLOCK", 7 * rows)
    for symbol, frame in computed(MARKET, DEFINITIONS).items():
        assert differing(frame, built[symbol]) == []


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("symbol", ["EVERY", "SPARSE"])
def test_the_future_of_one_symbol_changes_nothing_before_for_any(symbol, share, built):
    row = 1 + int(share * (len(MARKET[symbol]) - 2))
    cut_at = MARKET[symbol].index[row]
    for other in (poisoned(MARKET[symbol], row), MARKET[symbol].iloc[:row]):
        frames = computed(MARKET | {symbol: other}, DEFINITIONS)
        for name, frame in frames.items():
            assert differing(frame[frame.index < cut_at], built[name][built[name].index < cut_at]) == []
        changed = [name for name, frame in frames.items() if not frame.equals(built[name])]
        assert set(changed) >= {symbol}


SMALL = {symbol: frame.iloc[:120] for symbol, frame in MARKET.items()}
KEPT = {"rank": "cs_rank(volume)", "z": "cs_zscore(returns)"}


def test_the_probes_hold_nothing_against_sound_features():
    assert probe(SMALL, DEFINITIONS) == []


LEAKS = {
    "ranked over all times": lambda frames: frames["LATE"].assign(
        rank=frames["LATE"]["rank"] - pd.concat(frames.values())["rank"].mean()
    ),
    "the bar after": lambda frames: frames["LATE"].assign(rank=frames["LATE"]["rank"].shift(-1)),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_is_found_and_named(leak):
    def spoiled(market):
        frames = computed(market, KEPT)
        return frames | ({"LATE": LEAKS[leak](frames)} if "LATE" in frames else {})

    found = probe(SMALL, KEPT, build=spoiled)
    assert {(each.feature, each.probe) for each in found} >= {("rank", "future"), ("rank", "stream")}
    assert {each.feature for each in found} == {"rank"}
    assert all("LATE" in each.detail for each in found)


def test_values_that_a_model_cannot_use_are_found():
    found = probe(SMALL, KEPT | {"large": "square(square(square(close))) * 1e30"})
    assert {(each.feature, each.probe) for each in found} == {("large", "finite")}


def test_a_symbol_without_a_bar_is_not_compared():
    """What is said at a time depends on nothing but the bars of that time."""
    thinned = MARKET | {"EVERY": MARKET["EVERY"].drop(MARKET["EVERY"].index[100])}
    frames = computed(thinned, {"rank": "cs_rank(close)"})
    whole = computed(MARKET, {"rank": "cs_rank(close)"})
    time = MARKET["EVERY"].index[100]
    for symbol in ("GAPS", "ENDED"):
        same = frames[symbol].index != time
        assert frames[symbol][same].equals(whole[symbol][same])
    there = [symbol for symbol in frames if time in frames[symbol].index]
    closes = pd.Series({symbol: MARKET[symbol].loc[time, "close"] for symbol in there})
    assert closes.rank(pct=True).to_dict() == {s: frames[s].loc[time, "rank"] for s in there}


def test_processes_and_the_order_of_sources_change_no_byte(tmp_path):
    build_universe(SOURCES, tmp_path / "one", DEFINITIONS, processes=1)
    steps = []
    build_universe(
        dict(reversed(SOURCES.items())),
        tmp_path / "two",
        DEFINITIONS,
        processes=2,
        on_progress=lambda done, total: steps.append((done, total)),
    )
    assert directory_hashes(tmp_path / "one") == directory_hashes(tmp_path / "two")
    assert steps[-1][0] == steps[-1][1] == len(steps)
    assert sorted(os.listdir(tmp_path)) == ["one", "two"]


def test_the_manifest_tells_what_is_there(tmp_path):
    manifest = build_universe(SOURCES, tmp_path / "out", DEFINITIONS, processes=1)
    assert json.loads((tmp_path / "out" / MANIFEST).read_text()) == manifest
    assert dict(manifest["definitions"]) == {name: parse(text).text for name, text in DEFINITIONS.items()}
    hashes = directory_hashes(tmp_path / "out")
    hashes.pop(MANIFEST)
    assert {facts["file"]: facts["sha256"] for facts in manifest["symbols"].values()} == hashes
    for symbol, facts in manifest["symbols"].items():
        frame = MARKET[symbol]
        ends = [time.isoformat() for time in frame.index[[0, -1]]]
        assert (facts["rows"], facts["first"], facts["last"]) == (len(frame), *ends)


def test_without_comparisons_it_is_the_build_of_each_symbol():
    chosen = {"rsi": "rsi(close, 14)", "coarse": "on('1h', close) / close"}
    for symbol, frame in computed(MARKET, chosen).items():
        assert differing(frame, features.build(MARKET[symbol], chosen)) == []


def test_files_of_any_kind_are_sources(tmp_path):
    frame = bars(1)
    frame.to_parquet(tmp_path / "canonical.parquet", row_group_size=100)
    frame.reset_index().rename(columns={"timestamp": "Date", "close": "Close"}).to_parquet(
        tmp_path / "b.parquet"
    )
    frame.to_csv(tmp_path / "c.csv", date_format="%Y-%m-%dT%H:%M:%SZ")
    halves = functools.partial(list, [frame[:300], frame[300:]])
    sources = {
        "a": tmp_path / "canonical.parquet",
        "b": tmp_path / "b.parquet",
        "c": str(tmp_path / "c.csv"),
        "d": halves,
    }
    manifest = build_universe(sources, tmp_path / "out", {"m": "mean(close, 5)"}, processes=1)
    assert len({facts["sha256"] for facts in manifest["symbols"].values()}) == 1


def test_symbols_with_other_characters_have_files(tmp_path):
    names = ["BRK.B", "EUR/USD", "..", "^GSPC", "a b"]
    manifest = build_universe(
        dict.fromkeys(names, functools.partial(bars, 1, 5)),
        tmp_path / "out",
        {"r": "cs_rank(close)"},
        processes=1,
    )
    assert set(manifest["symbols"]) == set(names)
    assert (
        len({(tmp_path / "out" / facts["file"]).stat().st_ino for facts in manifest["symbols"].values()}) == 5
    )


@pytest.mark.parametrize("processes", [1, 2])
def test_every_bad_symbol_is_named_and_the_old_output_stays(processes, tmp_path):
    target = tmp_path / "out"
    build_universe(SOURCES, target, DEFINITIONS, processes=1)
    before = directory_hashes(target)
    (tmp_path / "bad.csv").write_text("timestamp,open,high,low,close,volume\n2020-01-01,1,2,0.5,x,1\n")
    bad = {"TEXT": tmp_path / "bad.csv", "GONE": tmp_path / "gone.parquet", "NONE": functools.partial(list)}
    with pytest.raises(DataError) as caught:
        build_universe(SOURCES | bad, target, DEFINITIONS, processes=processes)
    message = str(caught.value)
    assert [f"symbol {name}: " in message for name in bad] == [True, True, True]
    assert "symbol EVERY" not in message
    assert directory_hashes(target) == before
    assert set(os.listdir(tmp_path)) == {"out", "bad.csv"}


def test_unsound_bars_are_named_with_their_place(tmp_path):
    frame = bars(1)
    frame.iloc[700, 1] = 1.0
    halves = functools.partial(list, [frame[:600], frame[600:]])
    with pytest.raises(DataError, match=r"symbol A: bars from number 600 on: row 100 at 2020-02-28 09:40"):
        build_universe({"A": halves}, tmp_path / "out", {"x": "mean(close, 2)"}, processes=1)
    twice = functools.partial(list, [frame[:600], frame[599:600]])
    with pytest.raises(DataError, match=r"symbol A: bar 600 at .* is not later"):
        build_universe({"A": twice}, tmp_path / "out", {"x": "mean(close, 2)"}, processes=1)
    assert os.listdir(tmp_path) == []


def test_a_process_that_dies_is_named(tmp_path):
    with pytest.raises(StageFailed, match=r"symbol DEAD: its process died \(exit code -9\)"):
        build_universe(SOURCES | {"DEAD": die}, tmp_path / "out", DEFINITIONS, processes=2)
    assert os.listdir(tmp_path) == []


def test_a_target_with_other_files_is_refused(tmp_path):
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"diary\.txt"):
        build_universe(SOURCES, tmp_path, DEFINITIONS, processes=1)
    (tmp_path / MANIFEST).write_text("[]")
    with pytest.raises(UsageError, match=MANIFEST):
        build_universe(SOURCES, tmp_path, DEFINITIONS, processes=1)
    with pytest.raises(UsageError, match=r"diary\.txt"):
        build_universe(SOURCES, tmp_path / "diary.txt", DEFINITIONS, processes=1)
    with pytest.raises(UsageError, match="no symbols"):
        build_universe({}, tmp_path / "out", DEFINITIONS)
    assert (tmp_path / "diary.txt").read_text() == "mine"


KILLED = """
import sys
from pathlib import Path
from tests.features.test_universe import SOURCES, die
from features.universe.build import build_universe

build_universe(SOURCES | {"ZZZ": die}, Path(sys.argv[1]), {"r": "cs_rank(close)"}, processes=1)
"""


def test_a_kill_in_the_middle_leaves_the_old_output_whole(tmp_path):
    target = tmp_path / "out"
    build_universe(SOURCES, target, DEFINITIONS, processes=1)
    before = directory_hashes(target)
    command = [sys.executable, "-c", KILLED, str(target)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert directory_hashes(target) == before
    assert len(os.listdir(tmp_path)) == 2
    build_universe(SOURCES, target, DEFINITIONS, processes=1)
    assert directory_hashes(target) == before
    assert os.listdir(tmp_path) == ["out"]


MEMORY = """
import re, sys
from pathlib import Path
from features.universe import comparison
from features.universe.build import build_universe

comparison.TABLE, comparison.AHEAD = 2**15, 2**16
folder, rows = Path(sys.argv[1]), sys.argv[2]
sources = {symbol: folder / f"{rows}.parquet" for symbol in "ABC"}
build_universe(sources, folder / "out", {"m": "mean(cs_zscore(returns), 5)"}, processes=1)
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def test_memory_does_not_grow_with_history(tmp_path):
    peaks = {}
    for rows in (50_000, 500_000):
        bars(1, rows).to_parquet(tmp_path / f"{rows}.parquet", row_group_size=20_000)
        command = [sys.executable, "-c", MEMORY, str(tmp_path), str(rows)]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        peaks[rows] = int(done.stdout) // 1024
    # the bars alone of one symbol are 21 MB more, and what is compared is 12 MB more
    assert peaks[500_000] - peaks[50_000] < 10


def test_one_symbol_alone_is_refused():
    for make in (features.Stream, functools.partial(features.build, MARKET["EVERY"])):
        with pytest.raises(ConfigurationError, match=r"feature 'nested': cs_.*compares symbols.*--universe"):
            make(DEFINITIONS)


def test_faults_of_all_definitions_come_together():
    with pytest.raises(ConfigurationError) as caught:
        cut({"a": "cs_rank(close, 5)", "b": "cs_zscore(clos)", "c": "cs_rank(close)"})
    assert len(caught.value.faults) == 2
    with pytest.raises(ConfigurationError, match="outside"):
        cut({"a": "on('4h', cs_rank(close))"})


def test_a_plan_has_as_many_stages_as_comparisons_are_nested():
    assert [len(stage.comparison.names) for stage in cut(DEFINITIONS).stages] == [7, 1]
    assert cut({"a": "mean(close, 5)"}).stages == ()
    assert cut(DEFINITIONS).features.warmup == max(parse(text).warmup for text in DEFINITIONS.values())


GOOD = (10.0, 11.0, 9.0, 10.5, 100.0)


@pytest.mark.parametrize(
    ("timestamp", "bad", "rule"),
    [
        (2e9, {"A": GOOD, "B": (10.0, 11.0, 9.0, 12.0, 1.0)}, r"symbol 'B': .*low <= open, close <= high"),
        (2e9, {"A": GOOD, "B": (10.0, math.nan, 9.0, 10.0, 1.0)}, r"symbol 'B': high nan"),
        (2e9, {"A": GOOD, "B": GOOD[:4]}, "symbol 'B': 4 values"),
        (2e9, {"A": GOOD, "X": GOOD}, "symbol 'X' is not one of the 2"),
        (1e9, {"A": GOOD}, "must be newer"),
        (math.nan, {"A": GOOD}, "timestamp nan"),
        (2e9, {}, "no bars"),
    ],
)
def test_a_refused_bar_leaves_every_state_unchanged(timestamp, bad, rule):
    stream = UniverseStream(["A", "B"], DEFINITIONS)
    stream.push(1e9, {"A": GOOD, "B": GOOD})
    before = stream.checkpoint()
    with pytest.raises(StreamError, match=rule):
        stream.push(timestamp, bad)
    assert stream.checkpoint() == before


def test_a_stream_knows_where_it_is():
    stream = UniverseStream(["B", "A"], DEFINITIONS)
    assert (stream.symbols, stream.names, stream.bars) == (["A", "B"], list(DEFINITIONS), {"A": 0, "B": 0})
    assert stream.last_timestamp is None
    vectors = stream.push(1e9, {"B": GOOD})
    assert list(vectors) == ["B"]
    assert vectors["B"].shape == (len(DEFINITIONS),)
    assert (stream.bars, stream.last_timestamp) == ({"A": 0, "B": 1}, 1e9)
    for symbols in ([], ["A", "A"]):
        with pytest.raises(ConfigurationError, match="each once"):
            UniverseStream(symbols, DEFINITIONS)


def test_a_checkpoint_belongs_to_its_symbols_and_definitions():
    stream = UniverseStream(["A", "B"], DEFINITIONS)
    stream.push(1e9, {"A": GOOD, "B": GOOD})
    before = stream.checkpoint()
    others = [
        UniverseStream(["A", "C"], DEFINITIONS),
        UniverseStream(["A", "B"], {**DEFINITIONS, "rank": "cs_rank(high)"}),
        UniverseStream(["A", "B"], {"rank": "cs_rank(volume)"}),
    ]
    for other in others:
        with pytest.raises(StreamError, match="other symbols"):
            stream.restore(other.checkpoint())
    with pytest.raises(StreamError, match="damaged"):
        stream.restore(before[:-1])
    assert stream.checkpoint() == before
