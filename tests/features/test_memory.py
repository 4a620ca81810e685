"""Every kernel between guard values: it touches what is its own, and has the same bits in blocks of any size.

Kernels are machine code over plain addresses, so a size that is one short would be silent damage. State,
scratch, rows and results lie between guards here; each run has other guards, and other rubbish in the
scratch, so that what is read beyond the end shows in the results and what is written there in the guards.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from core.errors import ConfigurationError
from core.timeframe import Timeframe
from features import layout, program
from features.expression import Call, Column, Expression, on
from features.layout import COLUMNS
from features.operators import CROSS_SECTIONS, KERNELS, OPERATORS
from features.operators.spec import MAX_WINDOW, Operator, Param
from features.parser import parse
from features.probes import bits
from features.program import Program, compile_program

Floats = npt.NDArray[np.float64]
GUARD, BARS, MINUTE = 4096, 1200, Timeframe(60)
# one length for all blocks, or the lengths of runs, over and over
BLOCKS = ((BARS,), (1,), (2,), (7,), (64,), (1023,), (1, 7, 2, 64, 1, 200))
WHOLE = (1, 2, 3, 4, 5, 7, 8, 13, 63, 64, 65, 200)
BROKEN = (-2.5, 0.0, 1e-3, 0.3, 1.0, 7.5)
ON_TIME = ("clock", "on", "settled", *(f"coarse_{name}" for name in COLUMNS))
EVERY_COLUMN = parse(" + ".join(COLUMNS))


def _admits(param: Param, value: float) -> bool:
    return param.minimum <= value <= param.maximum


def _settings(operator: Operator) -> Iterator[tuple[float, ...]]:
    """Parameters that are allowed: the ends, powers of two, primes, longer than a block; few of a second."""
    choices = [
        [
            value
            for value in sorted({*(WHOLE if each.integer else BROKEN), each.minimum, each.maximum})
            if np.isfinite(value) and _admits(each, value)
        ]
        for each in operator.params
    ]
    for less in choices[1:]:
        del less[2:-1]
    return itertools.product(*choices)


def _call(name: str, params: tuple[float, ...]) -> Expression:
    return Call(name, tuple(map(Column, COLUMNS[: OPERATORS[name].inputs])), params)


def _programs(name: str, params: tuple[float, ...]) -> Iterator[Program]:
    """Programs that run a kernel: over bars, and over coarse bars, of which a block may give one more."""
    if name in CROSS_SECTIONS:
        yield compile_program({"f": _call(name, params)}, across=True)
    elif name in ON_TIME:
        yield compile_program({"f": on(MINUTE, EVERY_COLUMN)})
        yield compile_program({"f": on(Timeframe(180), EVERY_COLUMN)})
    else:
        yield compile_program({"f": _call(name, params)})
        yield compile_program({"f": on(MINUTE, _call(name, params))})


def _columns(bars: int = BARS) -> Floats:
    """Prices with gaps, many of them whole numbers so that some are equal, and times that skip minutes."""
    rng = np.random.default_rng(17)
    values = np.where(rng.random((6, bars)) < 0.5, rng.integers(0, 4, (6, bars)), rng.normal(2, 1, (6, bars)))
    values[:4][rng.random((4, bars)) < 0.003] = np.nan
    minutes = 60.0 * np.arange(bars)
    # every seventh closes no minute, and the next one so closes two
    values[5] = minutes - np.where(np.arange(bars) % 7 == 6, 30.0, 0.0)
    return values


def _cross_sections(bars: int = BARS) -> Floats:
    """Of 1, 2 ... 7 symbols, each whole in every block that is as long."""
    values = _columns(bars)
    values[:, 7::8] = np.inf
    return values


class _Guarded:
    """An array of float64 with GUARD values on either side."""

    def __init__(self, shape: tuple[int, ...], guard: float) -> None:
        size = int(np.prod(shape))
        self._all = np.full(size + 2 * GUARD, guard)
        self._guard = guard
        self.inside = self._all[GUARD : GUARD + size].reshape(shape)

    def check(self, what: str) -> None:
        for side in (self._all[:GUARD], self._all[-GUARD:]):
            assert (side == self._guard).all(), f"{what}: written beyond its end"


def _buffers(made: Program, n: int, guard: float) -> tuple[_Guarded, _Guarded]:
    buf = _Guarded((made.slots, n + 1), guard)
    for row, value in made.constants.items():
        buf.inside[row] = value
    return buf, _Guarded((program.WORK_ROWS * (n + 1),), guard)


def _run(made: Program, columns: Floats, lengths: Sequence[int], guard: float) -> tuple[Floats, Floats]:
    """Results and last state, in blocks of one length or in a run of each of `lengths`."""
    bars = columns.shape[1]
    state, out = _Guarded(made.initial_state.shape, guard), _Guarded((1, bars), guard)
    state.inside[:] = made.initial_state
    buffers = {n: _buffers(made, n, guard) for n in lengths}
    # blocks of one length are cut by the engine itself
    turns = itertools.cycle(lengths if len(lengths) > 1 else (bars,))
    start = 0
    while start < bars:
        turn = next(turns)
        part = slice(start, start + turn)
        buf, work = buffers[turn] if len(lengths) > 1 else buffers[lengths[0]]
        made.run(columns[:, part], state.inside, (buf.inside, work.inside), out.inside[:, part])
        start += turn
    for buf, work in buffers.values():
        buf.check("buf")
        work.check("work")
    state.check("state")
    out.check("out")
    # how many coarse bars closed in the last block depends on its length
    last = np.delete(state.inside, made.code[made.code[:, layout.DRIVES] > 0, layout.STATE])
    return bits(out.inside), bits(last)


def _check(name: str, params: tuple[float, ...], blocks: Sequence[Sequence[int]] = BLOCKS) -> None:
    columns = _cross_sections() if name in CROSS_SECTIONS else _columns()
    if name in CROSS_SECTIONS:  # a block holds whole cross-sections
        blocks = ((BARS,), (8,), (64, 8, 200))
    for made in _programs(name, params):
        first = _run(made, columns, blocks[0], 3.5)
        for number, lengths in enumerate(blocks[1:], start=1):
            later = _run(made, columns, lengths, -1e9 - number)
            for what, left, right in zip(("values", "state"), first, later, strict=True):
                np.testing.assert_array_equal(left, right, f"{name} {params} {what} in blocks of {lengths}")


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_keeps_to_its_memory_and_its_bits(name):
    settings = list(_settings(KERNELS[name])) if name in OPERATORS else [()]
    assert settings
    for params in settings:
        _check(name, params)


def test_every_kernel_is_run():
    run = {operator for name in ON_TIME for made in _programs(name, ()) for operator in made.operators}
    assert run >= set(ON_TIME)
    assert set(KERNELS) == {*OPERATORS, *ON_TIME}


@pytest.mark.parametrize("name", [name for name, each in OPERATORS.items() if each.params])
def test_the_longest_windows_keep_to_their_memory(name):
    operator = OPERATORS[name]
    longest = tuple(
        min(each.maximum, MAX_WINDOW) if each.integer else max(each.minimum, 0.1) for each in operator.params
    )
    made = compile_program({"f": _call(name, longest)})
    columns = _columns(20)
    first, later = (_run(made, columns, (n,), guard) for n, guard in ((1, 3.5), (7, -1e9)))
    for left, right in zip(first, later, strict=True):
        np.testing.assert_array_equal(left, right)


STATEFUL = [name for name, each in KERNELS.items() if each.state and name not in CROSS_SECTIONS]


@pytest.mark.parametrize("name", STATEFUL)
def test_a_state_that_is_one_short_is_noticed(name, monkeypatch):
    real = KERNELS[name]
    remembers = real.state
    assert remembers

    def short(*params: float) -> tuple[int, int]:
        zeros, unknowns = remembers(*params)
        return (zeros, unknowns - 1) if unknowns else (zeros - 1, 0)

    monkeypatch.setitem(KERNELS, name, replace(real, state=short))
    params = tuple(13.0 if each.integer else max(0.1, each.minimum) for each in real.params)
    with pytest.raises(AssertionError):
        _check(name, params)


def test_scratch_that_is_one_row_short_is_noticed(monkeypatch):
    monkeypatch.setattr(program, "WORK_ROWS", program.WORK_ROWS - 1)
    with pytest.raises(AssertionError, match="work: written beyond its end"):
        _check("corr", (13,))


def test_a_block_gives_one_coarse_bar_more_than_it_has_bars():
    made, columns = compile_program({"f": on(MINUTE, EVERY_COLUMN)}), _columns()
    (place,) = made.code[made.code[:, layout.DRIVES] > 0, layout.STATE]
    state, out, closed = made.initial_state.copy(), np.empty((1, 5)), []
    for start in range(0, BARS, 5):
        made.run(columns[:, start : start + 5], state, made.buffers(5), out)
        closed.append(state[place])
    assert max(closed) == 6


FADING = {"ema": lambda window: 2 / (window + 1), "wilder": lambda window: 1 / window}


def _faded(x: Floats, alpha: float) -> Floats:
    """What a fading average is, a bar at a time."""
    out, value = np.full(len(x), np.nan), np.nan
    for t in np.flatnonzero(~np.isnan(x)):
        value = x[t] if np.isnan(value) else value + alpha * (x[t] - value)
        out[t] = value
    return out


@pytest.mark.parametrize("dependent", [True, False])
@pytest.mark.parametrize("lanes", [1, 2, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("name", FADING)
def test_averages_side_by_side_have_the_bits_of_each_alone(name, lanes, dependent):
    columns, texts, expected = _columns(), {}, []
    for lane in range(lanes):
        row, window = lane % 4, lane + 2
        text, x = (
            (texts[f"f{lane - 1}"], expected[-1]) if dependent and lane else (COLUMNS[row], columns[row])
        )
        texts[f"f{lane}"] = f"{name}({text}, {window})"
        expected.append(_faded(x, FADING[name](window)))
    made = compile_program({each: parse(text) for each, text in texts.items()})
    made.code[:, layout.WARMUP] = 0
    assert made.code[0, layout.ALIKE] == lanes
    for chunk in (1, 2, 7, 64, 1023, BARS):
        out = np.empty((lanes, BARS))
        made.run(columns, made.initial_state.copy(), made.buffers(chunk), out)
        np.testing.assert_array_equal(bits(out), bits(np.array(expected)))


@pytest.mark.parametrize("fault", ["rows apart", "read only", "float32", "too short", "too few rows"])
def test_arrays_that_machine_code_would_misread_are_refused(fault):
    made = compile_program({"f": parse("mean(close, 3)")})
    columns, state, out = np.ones((6, 10)), made.initial_state.copy(), np.empty((1, 10))
    buf, work = made.buffers(4)
    if fault == "rows apart":
        buf = np.zeros((made.slots, 9))[:, :5]
    elif fault == "read only":
        out.flags.writeable = False
    elif fault == "float32":
        columns = columns.astype(np.float32)
    elif fault == "too short":
        state = state[:-1]
    else:
        columns = columns[:1]
    with pytest.raises(ValueError, match="expected"):
        made.run(columns, state, (buf, work), out)


def test_more_memory_than_a_program_may_have_is_refused(monkeypatch):
    definitions = {f"f{k}": parse(f"corr(close, open, {MAX_WINDOW - k})") for k in range(4)}
    sizes = sum(compile_program({name: root}).initial_state.size for name, root in definitions.items())
    monkeypatch.setattr(program, "MAX_STATE", sizes - 3)  # each program has one count of bars
    assert compile_program(definitions).initial_state.size == sizes - 3
    monkeypatch.setattr(program, "MAX_STATE", sizes - 4)
    with pytest.raises(ConfigurationError, match=r"remember \d+ values .* corr\(close, open, 100000\)"):
        compile_program(definitions)


@pytest.mark.parametrize(
    "text",
    [
        "supertrend(high, low, close, 1e200)",
        "fractional_difference(close, 2000.5, 0.1)",
        "fractional_difference(close, 0.5, 1.5)",
        "tema(" * 40 + "close" + ", 3)" * 40,
    ],
)
def test_what_would_take_for_ever_or_all_memory_is_refused_at_once(text):
    with pytest.raises(ConfigurationError, match="must be"):
        parse(text)
