import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import features
from core.errors import StreamError
from features import program
from features.catalogue import definitions
from features.parser import parse
from features.probes import bits, streamed_rows
from features.stream import Stream

SMALL = {
    "rsi": "rsi(close, 14)",
    "spread": "std(close, 33) / atr(5)",
    "since": "bars_since_highest(high, 10)",
}
GOOD = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 100.0, "timestamp": 1e9}


def _bar(**changes):
    return GOOD | changes


@pytest.fixture(scope="module")
def expected(sp500):
    return np.array(list(streamed_rows(Stream(), sp500.iloc[:600])))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 590))
def test_a_checkpoint_continues_bit_for_bit(sp500, expected, cut):
    bars = sp500.iloc[:600]
    first = Stream()
    for _ in streamed_rows(first, bars.iloc[:cut]):
        pass
    second = Stream()
    second.restore(first.checkpoint())
    assert second.checkpoint() == first.checkpoint()
    assert (second.bars, second.last_timestamp) == (first.bars, first.last_timestamp)
    assert (bits(np.array(list(streamed_rows(second, bars.iloc[cut:])))) == bits(expected[cut:])).all()


def test_a_stream_knows_where_it_is():
    stream = Stream(SMALL)
    assert (stream.bars, stream.last_timestamp, stream.names) == (0, None, list(SMALL))
    assert stream.warmup == features.warmup(SMALL)
    vector = stream.push(**GOOD)
    assert vector.shape == (3,)
    assert vector.dtype == np.float64
    assert (stream.bars, stream.last_timestamp) == (1, 1e9)


def test_a_returned_vector_is_the_callers_own():
    stream = Stream({"body": "close - open"})
    first = stream.push(**GOOD)
    stream.push(**_bar(close=9.5, timestamp=2e9))
    assert first[0] == 0.5


BAD = [
    *({name: value} for name in GOOD for value in (math.nan, math.inf, -math.inf, "10", None)),
    *({name: value} for name in ("open", "high", "low", "close") for value in (0.0, -1.0)),
    {"volume": -1.0},
    {"open": 11.5},
    {"close": 8.0},
    {"low": 10.2},
    {"high": 10.2},
    {"timestamp": 999_999_999.0},
    {"timestamp": 999_999_998},
]


@pytest.mark.parametrize("fault", BAD, ids=str)
def test_a_refused_bar_leaves_the_state_unchanged(fault):
    stream = Stream(SMALL)
    stream.push(**_bar(timestamp=999_999_999.0))
    before = stream.checkpoint()
    with pytest.raises(StreamError, match="refused") as caught:
        stream.push(**_bar(**fault))
    assert stream.checkpoint() == before
    name = next(iter(fault))
    assert name in str(caught.value)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=6, max_size=6))
@settings(max_examples=200, deadline=None)
def test_a_bar_is_accepted_exactly_when_it_is_sound(values):
    stream = Stream({"body": "close - open"})
    o, h, low, c, v, _ = values
    sound = all(map(math.isfinite, values)) and low > 0 and v >= 0 and low <= min(o, c) and max(o, c) <= h
    if sound:
        assert stream.push(*values).shape == (1,)
    else:
        with pytest.raises(StreamError):
            stream.push(*values)
    assert stream.bars == int(sound)


def test_other_number_types_mean_the_same():
    stream, other = Stream(SMALL), Stream(SMALL)
    stream.push(10, 11, 9, 10, 100, 1_000_000_000)
    other.push(*map(np.float64, (10, 11, 9, 10, 100, 1e9)))
    assert stream.checkpoint() == other.checkpoint()


def test_a_checkpoint_of_other_definitions_is_refused():
    stream = Stream(SMALL)
    stream.push(**GOOD)
    before = stream.checkpoint()
    for other in (
        {"rsi": "rsi(close, 14)"},
        SMALL | {"rsi": "rsi(close, 15)"},
        {**SMALL, "since": "1 * close"},
    ):
        with pytest.raises(StreamError, match="other feature definitions"):
            stream.restore(Stream(other).checkpoint())
    assert stream.checkpoint() == before


def test_a_checkpoint_of_another_order_of_operations_is_refused(monkeypatch):
    roots = {name: parse(text) for name, text in SMALL.items()}
    made = program.compile_program(roots)
    assert program.compile_program(roots).digest == made.digest
    monkeypatch.setattr(program, "by_kernel", dict)
    other = program.compile_program(roots)
    assert other.initial_state.size == made.initial_state.size
    assert other.digest != made.digest


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_checkpoint_is_refused(data):
    stream = Stream(SMALL)
    whole = stream.checkpoint()
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    for bad in (bytes(damaged), whole[:place], whole + b"\0"):
        with pytest.raises(StreamError, match="damaged"):
            stream.restore(bad)
    assert stream.checkpoint() == whole


def test_a_checkpoint_stays_small():
    assert len(Stream(definitions("core")).checkpoint()) < 50_000
    assert len(Stream().checkpoint()) < 150_000
