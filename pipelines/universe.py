"""What `bellwether features --universe` does: features of every file of a folder, and the probes."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import UsageError
from features.readiness import require_coarser
from features.universe.build import build_universe
from features.universe.probes import PROBES, probe
from pipelines.feature_tools import PROBED, Tools, iso

_SUFFIXES = (".csv", ".parquet")


def symbol_files(folder: Path) -> dict[str, Path]:
    """Every CSV and parquet file of a folder by its stem, sorted; UsageError for none, or two of one name."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a directory: give one with a CSV or parquet file per symbol")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith("."):
            if path.stem in files:
                raise UsageError(f"{files[path.stem]} and {path.name} are both of {path.stem}: keep one")
            files[path.stem] = path
    if not files:
        raise UsageError(
            f"{folder} has no file that ends in {' or '.join(_SUFFIXES)}: one per symbol is read"
        )
    return files


def compute(
    tools: Tools,
    names: Sequence[str],
    folder: Path,
    target: Path,
    processes: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write the features of every symbol of `folder` to the directory `target`; what was written.

    Bars pass the same gate as those of a run; a symbol that does not is named, and nothing is written.
    `processes` is `train.processes` unless given; the files do not depend on it.
    """
    definitions = tools.chosen(names)
    sources = {
        symbol: functools.partial(symbol_bars, tools, definitions, path)
        for symbol, path in symbol_files(folder).items()
    }
    manifest = build_universe(
        sources,
        target,
        definitions,
        processes=processes or tools.params.train.processes,
        on_progress=on_progress,
    )
    symbols = manifest["symbols"]
    return {
        "directory": str(target),
        "features": list(definitions),
        "warmup": manifest["warmup"],
        "rows": sum(facts["rows"] for facts in symbols.values()),
        "first": min(facts["first"] for facts in symbols.values()),
        "last": max(facts["last"] for facts in symbols.values()),
        "symbols": symbols,
    }


def look_for_leaks(tools: Tools, names: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run the probes over the last bars of every symbol; `findings` is empty when nothing is held."""
    definitions, files = tools.chosen(names), symbol_files(folder)
    rows = max(PROBED // len(files), 2)
    market = {symbol: symbol_bars(tools, definitions, path).iloc[-rows:] for symbol, path in files.items()}
    found = probe(market, definitions)
    return {
        "bars": f"{len(files)} symbols of {folder.name}",
        "rows": sum(map(len, market.values())),
        "first": iso(min(frame.index[0] for frame in market.values())),
        "last": iso(max(frame.index[-1] for frame in market.values())),
        "features": list(definitions),
        "probes": PROBES,
        "findings": [{"feature": f.feature, "probe": f.probe, "detail": f.detail} for f in found],
    }


def symbol_bars(tools: Tools, definitions: dict[str, str], path: Path) -> pd.DataFrame:
    """The bars of a file as the data gate lets them pass."""
    bars = tools.bars(path)
    require_coarser(definitions, bars.timeframe)
    return bars.frame
