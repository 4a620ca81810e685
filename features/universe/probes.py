"""The probes of `features.probes` over many symbols: bars are cut, poisoned and streamed all at once."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from core.bars import COLUMNS
from core.errors import DataError
from features.batch import epoch_seconds
from features.probes import PROBES as ALONE
from features.probes import Finding, cuts, differing, finite, poisoned
from features.universe.build import build_universe
from features.universe.stream import Bar, UniverseStream

Market = Mapping[str, pd.DataFrame]
Build = Callable[[Market], Market]
# a value may be missing for want of others to compare with
PROBES = {name: ALONE[name] for name in ("future", "stream", "restore", "finite")}


def probe(market: Market, definitions: Mapping[str, str], *, build: Build | None = None) -> list[Finding]:
    """Every finding over the canonical bars of each symbol, one per feature and probe, at the first symbol.

    `build` stands in for `computed` over these definitions. DataError: fewer than 2 times of bars.
    """
    times = _times(market)
    if len(times) < 2:
        raise DataError(f"{len(times)} times of bars: a probe compares one with the next, give at least 2")
    make = build or (lambda bars: computed(bars, definitions))
    built = make(market)
    live = streamed(UniverseStream(market, definitions), market)
    findings = (
        *_future(make, market, built, times),
        *_differences("stream", live, built, "live and batch differ"),
        *_restore(market, definitions, built, times),
        *_unusable(built),
    )
    first: dict[tuple[str, str], Finding] = {}
    for found in findings:
        first.setdefault((found.feature, found.probe), found)
    return list(first.values())


def computed(market: Market, definitions: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """The features of every symbol as `build_universe` writes them."""
    with tempfile.TemporaryDirectory(prefix="bellwether-universe-") as folder:
        target = Path(folder) / "universe"
        sources = {symbol: bars.copy for symbol, bars in market.items()}
        manifest = build_universe(sources, target, definitions, processes=1)
        return {
            symbol: pq.read_table(target / facts["file"], page_checksum_verification=True).to_pandas()
            for symbol, facts in manifest["symbols"].items()
        }


def streamed(stream: UniverseStream, market: Market) -> dict[str, pd.DataFrame]:
    """The features of every symbol as `stream` gives them, time after time."""
    vectors: dict[str, list[object]] = {symbol: [] for symbol in market}
    for time, bars in _moments(market):
        for symbol, vector in stream.push(time, bars).items():
            vectors[symbol].append(vector)
    return {
        symbol: pd.DataFrame(np.array(rows).reshape(len(rows), len(stream.names)), bars.index, stream.names)
        for (symbol, bars), rows in zip(market.items(), vectors.values(), strict=True)
    }


def _moments(market: Market) -> Iterator[tuple[float, dict[str, Bar]]]:
    """(time, bar of every symbol that has one) in order."""
    moments: dict[float, dict[str, Bar]] = {}
    for symbol, bars in market.items():
        rows = zip(*(bars[name].tolist() for name in COLUMNS), strict=True)
        for time, bar in zip(epoch_seconds(bars.index).tolist(), rows, strict=True):
            moments.setdefault(time, {})[symbol] = bar
    yield from sorted(moments.items())


def _times(market: Market) -> pd.DatetimeIndex:
    """Every time at which a symbol has a bar, in order."""
    times = np.concatenate([pd.DatetimeIndex(bars.index).as_unit("ns").asi8 for bars in market.values()])
    return pd.DatetimeIndex(np.unique(times), tz="UTC")


def _future(make: Build, market: Market, built: Market, times: pd.DatetimeIndex) -> Iterator[Finding]:
    for cut in cuts(len(times)):
        first = times[cut]
        rows = {symbol: int(bars.index.searchsorted(first)) for symbol, bars in market.items()}
        spoiled = {symbol: poisoned(bars, rows[symbol]) for symbol, bars in market.items()}
        ended = {symbol: bars.iloc[: rows[symbol]] for symbol, bars in market.items() if rows[symbol]}
        for other, what in ((spoiled, "change"), (ended, "are left out")):
            frames = {symbol: frame.iloc[: rows[symbol]] for symbol, frame in make(other).items()}
            before = {symbol: built[symbol].iloc[: rows[symbol]] for symbol in frames}
            yield from _differences("future", frames, before, f"changes when bars from {first} on {what}")


def _restore(
    market: Market, definitions: Mapping[str, str], built: Market, times: pd.DatetimeIndex
) -> Iterator[Finding]:
    for cut in cuts(len(times), (0.3, 0.8)):
        first = times[cut]
        one, two = UniverseStream(market, definitions), UniverseStream(market, definitions)
        streamed(one, {symbol: bars[bars.index < first] for symbol, bars in market.items()})
        two.restore(one.checkpoint())
        later = streamed(two, {symbol: bars[bars.index >= first] for symbol, bars in market.items()})
        expected = {symbol: frame[frame.index >= first] for symbol, frame in built.items()}
        yield from _differences("restore", later, expected, f"differs after a restart before {first}")


def _differences(probe: str, frames: Market, expected: Market, detail: str) -> Iterator[Finding]:
    for symbol, frame in sorted(frames.items()):
        for name, row in differing(frame, expected[symbol]):
            yield Finding(name, probe, f"{symbol} at {expected[symbol].index[row]}: {detail}")


def _unusable(built: Market) -> Iterator[Finding]:
    for symbol, frame in sorted(built.items()):
        for found in finite(frame):
            yield Finding(found.feature, found.probe, f"{symbol}: {found.detail}")
