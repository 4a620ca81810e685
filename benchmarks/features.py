"""Feature engine against TA-Lib and pandas, as ratios taken in one run: `python -m benchmarks.features`.

CPU time of one thread, best of several, every output into fresh memory; the figures in ns, µs and MB are of
this machine and this moment.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import talib

import features
from benchmarks.indicators import INDICATORS, Rival
from data.tables import write_blocks
from features.batch import CHUNK, bar_columns, build_blocks
from features.catalogue import CATALOGUES, compiled, definitions

ROWS = 1_000_000
# Qlib's own Alpha158, ns per bar and feature: a figure that was given, not measured in this run
QLIB = 118.0
# TA-Lib divides a variance by n instead of n - 1, and gives these in percent
OTHERWISE = {
    "std(close, 20)",
    "mean(close, 20) + 2 * std(close, 20)",
    "delta(ema(ema(ema(close, 15), 15), 15), 1)",
    "atr(14) / close",
}
PATTERNS = talib.get_function_groups()["Pattern Recognition"]


def cpu_seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """The least CPU time of `repeats` runs."""
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return min(spent)


def bars(rows: int) -> pd.DataFrame:
    """A random walk with one bar per minute."""
    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, rows)))
    opened = close * np.exp(rng.normal(0, 1e-3, rows))
    values = {
        "open": opened,
        "high": np.maximum(opened, close) * np.exp(rng.exponential(1e-3, rows)),
        "low": np.minimum(opened, close) * np.exp(-rng.exponential(1e-3, rows)),
        "close": close,
        "volume": rng.lognormal(10, 1, rows),
    }
    return pd.DataFrame(
        values, index=pd.date_range("2015-01-01", periods=rows, freq="min", tz="UTC", name="timestamp")
    )


def engine_seconds(frame: pd.DataFrame, definitions: dict[str, str]) -> float:
    """CPU seconds of all definitions over the frame."""
    program, columns = compiled(definitions), bar_columns(frame)

    def run() -> None:
        out = np.empty((len(program.names), len(frame)))
        program.run(columns, program.initial_state.copy(), program.buffers(CHUNK), out)

    return cpu_seconds(run)


def rivals_seconds(frame: pd.DataFrame, rivals: Iterable[Rival]) -> float:
    """CPU seconds of the rivals, one after another."""
    return sum(cpu_seconds(lambda rival=rival: rival(frame)) for rival in rivals)


def check(frame: pd.DataFrame) -> None:
    """AssertionError where a rival computes something else than the expression, at the end of the bars."""
    for each in INDICATORS:
        ours = features.build(frame, {"x": each.expression})["x"].to_numpy()[-100:]
        of_talib = each.talib if each.expression not in OTHERWISE else None
        for rival in filter(None, (of_talib, each.pandas)):
            results = rival(frame)
            parts = results if isinstance(results, tuple) else (results,)
            assert any(np.allclose(np.asarray(part)[-100:], ours, rtol=1e-5) for part in parts), (
                each.expression
            )


def compare_one_by_one(frame: pd.DataFrame) -> None:
    """Every indicator alone: our ns per bar, and how many times that the rivals take."""
    print(f"{'one expression alone':66s} {'ns/bar':>7s} {'TA-Lib':>7s} {'pandas':>7s}")
    for each in INDICATORS:
        ours = engine_seconds(frame, {"x": each.expression})
        ratios = [
            f"{rivals_seconds(frame, [rival]) / ours:.2f}" if rival else "-"
            for rival in (each.talib, each.pandas)
        ]
        print(f"{each.expression:66s} {ours / len(frame) * 1e9:7.1f} {ratios[0]:>7s} {ratios[1]:>7s}")


def compare_together(frame: pd.DataFrame) -> None:
    """All indicators that a rival has, ours as one program as a catalogue is run."""
    of_talib = [(each, each.talib) for each in INDICATORS if each.talib]
    of_pandas = [(each, each.pandas) for each in INDICATORS if each.pandas]
    native = [(each, rival) for each, rival in of_pandas if not each.applied]
    for name, pairs in (
        ("TA-Lib", of_talib),
        ("pandas", of_pandas),
        ("pandas, those that need no rolling.apply", native),
    ):
        ours = engine_seconds(frame, {f"x{i}": each.expression for i, (each, _) in enumerate(pairs)})
        theirs = rivals_seconds(frame, [rival for _, rival in pairs])
        _line(f"{len(pairs)} indicators of {name}, as one program", ours, len(pairs), len(frame), theirs)


def compare_patterns(frame: pd.DataFrame) -> None:
    """The 61 candlestick patterns."""
    chosen = {f.name: f.expression for f in CATALOGUES["full"] if f.group == "pattern"}
    prices = [frame[name] for name in ("open", "high", "low", "close")]
    theirs = sum(cpu_seconds(lambda name=name: getattr(talib, name)(*prices)) for name in PATTERNS)
    _line(f"{len(chosen)} patterns", engine_seconds(frame, chosen), len(chosen), len(frame), theirs)


def compare_catalogues(frame: pd.DataFrame) -> None:
    """Every catalogue whole."""
    for name in CATALOGUES:
        chosen = definitions(name)
        theirs = QLIB * 1e-9 * len(frame) * len(chosen) if name == "alpha158" else None
        _line(f"catalogue {name}", engine_seconds(frame, chosen), len(chosen), len(frame), theirs)


def _line(what: str, ours: float, count: int, rows: int, theirs: float | None) -> None:
    ratio = f", the rival takes {theirs / ours:.2f} times as long" if theirs else ""
    print(f"{what}: {ours:.2f} s, {ours / rows / count * 1e9:.2f} ns per bar and feature{ratio}")


def stream_microseconds(frame: pd.DataFrame, name: str, history: int) -> tuple[float, float]:
    """(median, 99th percentile) wall µs of one push of a whole catalogue, after `history` bars."""
    rows = list(zip(frame.to_numpy().tolist(), frame.index.as_unit("s").asi8.tolist(), strict=True))
    stream, spent = features.Stream(definitions(name)), []
    for bar, seconds in rows[: history + 10_000]:
        start = time.perf_counter_ns()
        stream.push(*bar, seconds)
        spent.append(time.perf_counter_ns() - start)
    middle, high = np.quantile(spent[history:], [0.5, 0.99]) / 1e3
    return float(middle), float(high)


def cold_start_milliseconds(name: str) -> float:
    """Wall ms from definitions and a checkpoint to a warm stream, in a process that has streamed nothing."""
    checkpoint = features.Stream(definitions(name)).checkpoint()
    code = (
        "import sys, time, features.stream\n"
        "from features.catalogue import definitions\n"
        f"texts, kept = definitions({name!r}), sys.stdin.buffer.read()\n"
        "start = time.perf_counter()\n"
        "features.stream.Stream(texts).restore(kept)\n"
        "print((time.perf_counter() - start) * 1e3)"
    )
    spent = [
        float(
            subprocess.run(
                [sys.executable, "-c", code], input=checkpoint, capture_output=True, check=True
            ).stdout
        )
        for _ in range(5)
    ]
    return min(spent)


def peak_megabytes(rows: int, work: str) -> float:
    """Peak memory of `work` over `rows` bars, on top of the bars themselves, in a process of its own."""
    code = (
        "from benchmarks.features import bars, built, resident, written\n"
        f"frame = bars({rows})\n"
        "built(frame.iloc[:2000])\n"
        "open('/proc/self/clear_refs', 'w').write('5')  # the peak from now on\n"
        "before = resident('VmRSS')\n"
        f"{work}(frame)\n"
        "print(resident('VmHWM') - before)"
    )
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)


def resident(field: str) -> float:
    """Memory of this process in MB: VmRSS now, VmHWM at its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no {field} in /proc/self/status")


def built(frame: pd.DataFrame) -> pd.DataFrame:
    """The full catalogue in memory."""
    return features.build(frame)


def written(frame: pd.DataFrame) -> None:
    """The full catalogue to a file, block by block."""
    with TemporaryDirectory() as folder:
        write_blocks(Path(folder) / "features.parquet", build_blocks(frame))


def report_memory() -> None:
    """Peak memory in bytes of output, and of writing block by block for two lengths."""
    outputs = ROWS * len(CATALOGUES["full"]) * 8 / 2**20
    print(f"build of {ROWS} bars: peak {peak_megabytes(ROWS, 'built') / outputs:.2f} times its output")
    short, long = (peak_megabytes(rows, "written") for rows in (ROWS // 10, ROWS))
    print(f"written block by block: peak {short:.0f} MB for {ROWS // 10} bars, {long:.0f} MB for {ROWS}")


def main() -> None:
    """Print every comparison."""
    frame = bars(ROWS)
    check(frame.iloc[:5_000])
    compare_together(frame)
    compare_patterns(frame)
    compare_catalogues(frame)
    compare_one_by_one(frame)
    for history in (1_000, 50_000):
        middle, high = stream_microseconds(frame.iloc[:60_000], "full", history)
        print(f"stream, full, after {history} bars: median {middle:.1f} µs, 99 % {high:.1f} µs")
    print(f"cold start of a stream from a checkpoint: {cold_start_milliseconds('full'):.0f} ms")
    report_memory()


if __name__ == "__main__":
    main()
