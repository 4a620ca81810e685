"""Feature engine against TA-Lib and pandas, as ratios taken in one run: `python -m benchmarks.features`.

CPU time of one thread, best of several; the figures in ns and µs are of this machine and this moment.
"""

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import talib

import features
from features.batch import CHUNK, bar_columns
from features.catalogue import compiled

ROWS = 1_000_000
Rival = Callable[[pd.DataFrame], object]
PAIRS: dict[str, tuple[Rival | None, Rival | None]] = {
    "mean(close, 50)": (lambda b: talib.SMA(b.close, 50), lambda b: b.close.rolling(50).mean()),
    "std(close, 20)": (lambda b: talib.STDDEV(b.close, 20), lambda b: b.close.rolling(20).std()),
    "highest(high, 55)": (lambda b: talib.MAX(b.high, 55), lambda b: b.high.rolling(55).max()),
    "ema(close, 20)": (lambda b: talib.EMA(b.close, 20), lambda b: b.close.ewm(span=20, adjust=False).mean()),
    "rank(close, 60)": (None, lambda b: b.close.rolling(60).rank(pct=True)),
    "skew(close, 60)": (None, lambda b: b.close.rolling(60).skew()),
    "wma(close, 20)": (lambda b: talib.WMA(b.close, 20), None),
    "slope(close, 20)": (lambda b: talib.LINEARREG_SLOPE(b.close, 20), None),
    "rsi(close, 14)": (lambda b: talib.RSI(b.close, 14), None),
}


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
        "high": np.maximum(opened, close) * 1.001,
        "low": np.minimum(opened, close) * 0.999,
        "close": close,
        "volume": rng.lognormal(10, 1, rows),
    }
    return pd.DataFrame(
        values, index=pd.date_range("2015-01-01", periods=rows, freq="min", tz="UTC", name="timestamp")
    )


def engine_seconds(frame: pd.DataFrame, definitions: dict[str, str] | None) -> tuple[float, int]:
    """(CPU seconds over the frame into memory already touched, number of features)."""
    program, columns = compiled(definitions), bar_columns(frame)
    out = np.zeros((len(program.names), len(frame)))
    return cpu_seconds(
        lambda: program.run(columns, program.initial_state.copy(), program.buffers(CHUNK), out)
    ), len(program.names)


def stream_microseconds(frame: pd.DataFrame) -> float:
    """CPU microseconds per pushed bar, the whole catalogue."""
    rows = list(zip(frame.to_numpy().tolist(), frame.index.as_unit("s").asi8.tolist(), strict=True))

    def push_all() -> None:
        stream = features.Stream()
        for bar, seconds in rows:
            stream.push(*bar, seconds)

    return cpu_seconds(push_all) / len(rows) * 1e6


def _ratio(rival: Rival | None, frame: pd.DataFrame, ours: float) -> str:
    return f"{cpu_seconds(lambda: rival(frame)) / ours:.2f}" if rival else "-"


def main() -> None:
    frame = bars(ROWS)
    print(f"{'expression':20s} {'ns/bar':>8s} {'TA-Lib':>8s} {'pandas':>8s}   (ratio of their time to ours)")
    for text, rivals in PAIRS.items():
        ours, _ = engine_seconds(frame, {"x": text})
        ratios = [_ratio(rival, frame, ours) for rival in rivals]
        print(f"{text:20s} {ours / ROWS * 1e9:8.1f} {ratios[0]:>8s} {ratios[1]:>8s}")
    seconds, count = engine_seconds(frame, None)
    print(f"catalogue of {count}: {seconds:.2f} s, {seconds / ROWS / count * 1e9:.1f} ns per bar and feature")
    print(f"stream: {stream_microseconds(frame.iloc[:20_000]):.1f} µs per bar for {count} features")


if __name__ == "__main__":
    main()
