"""Features of many symbols from files, in processes, in memory that does not grow with history.

Every symbol is read once, to plain files of times and bars in a hidden folder of the target. Programs run
over them a block of bars at a time; comparisons are made for spans of time side by side.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import pyarrow as pa

from core.errors import BellwetherError, DataError, UsageError
from core.files import exclusive_lock, read_json, replace_directory, sha256_file, write_json
from core.workers import Task, Workers
from data.tables import write_blocks
from features.batch import BLOCK, CHUNK, bar_columns
from features.layout import COLUMNS
from features.universe.comparison import Span, compare, spans
from features.universe.sources import Source, frames
from features.universe.stages import Plan, cut
from features.universe.store import Floats, Store, Times

Definitions = tuple[tuple[str, str], ...]
MANIFEST, KIND = "manifest.json", "bellwether universe 1"
_SCRATCH, _LOCK, _SPANS = ".scratch", "lock", 16


def build_universe(
    sources: Mapping[str, Source],
    target: Path,
    definitions: Mapping[str, str] | None = None,
    *,
    processes: int = 2,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write the features of every symbol to a directory, whole or not at all; returns its manifest.

    `sources` gives each symbol a CSV or parquet file, or a function that returns canonical bars, whole or in
    frames; `definitions` are expressions, `cs_rank(x)` and the like included, None being all of catalogue
    `full`. `target` gets a parquet file per symbol (index `timestamp`, the bar's close, UTC; a float64 column
    per feature, NaN before warm-up) and `manifest.json`: definitions, and per symbol file, rows, first and
    last time, sha256. Symbols need not have the same history or calendar; only those with a bar at the very
    same time are compared. Row t depends on rows <= t of any symbol alone.

    The bytes do not depend on the number of `processes`, each with one thread, nor on the order of
    `sources`. Memory per process: one source as far as it is read whole, and some 100 MB; the folder holds
    the bars and what is compared besides, until it is done. `on_progress` is told steps done and in all.
    DataError names every symbol that has no bars or unsound ones, StageFailed one whose process died,
    UsageError a target that holds other files.
    """
    if not sources:
        raise UsageError("no symbols: give a source for one at least")
    plan = cut(definitions)
    chosen = tuple(plan.definitions.items())
    _require_replaceable(target)
    plan.compile()
    _clear_remains(target)
    with (
        replace_directory(target) as fresh,
        exclusive_lock(fresh / _SCRATCH / _LOCK),
        Workers(processes, _one_thread) as workers,
    ):
        scratch = fresh / _SCRATCH
        stores = {symbol: Store(scratch / f"{place:06}") for place, symbol in enumerate(sorted(sources))}
        steps = _Steps(workers, on_progress, (len(plan.stages) + 2) * len(stores))
        steps.take(_task(symbol, _read, store, sources[symbol], symbol) for symbol, store in stores.items())
        every = tuple(stores.values())
        parts = spans(every, _SPANS)
        steps.total += len(plan.stages) * len(parts)
        for depth in range(len(plan.stages)):
            steps.take(_task(symbol, _prepare, store, chosen, depth) for symbol, store in stores.items())
            steps.take(Task(str(span), _compare, (every, chosen, depth, span)) for span in parts)
        files = {symbol: f"{quote(symbol, safe='^=+-_ ')}.parquet" for symbol in stores}
        facts = steps.take(
            _task(symbol, _write, store, chosen, fresh / files[symbol]) for symbol, store in stores.items()
        )
        shutil.rmtree(scratch)
        manifest = {
            "kind": KIND,
            "definitions": [list(item) for item in chosen],
            "warmup": plan.features.warmup,
            "symbols": {symbol: {"file": files[symbol], **facts[_name(symbol)]} for symbol in stores},
        }
        write_json(fresh / MANIFEST, manifest)
    return manifest


def _require_replaceable(target: Path) -> None:
    """UsageError unless `target` is free, empty or all of it an earlier universe: it will be replaced."""
    if not target.exists():
        return
    held = {path.name for path in target.iterdir()} if target.is_dir() else {target.name}
    manifest = read_json(target / MANIFEST) if MANIFEST in held else None
    if isinstance(manifest, dict) and manifest.get("kind") == KIND:
        held -= {MANIFEST, *(facts["file"] for facts in manifest["symbols"].values())}
    if held:
        raise UsageError(
            f"{target} holds {', '.join(sorted(held)[:3])}, and a universe takes the place of all that is "
            "there: give a new or an empty directory"
        )


def _clear_remains(target: Path) -> None:
    """Delete what builds of `target` left that were killed; those that run hold their lock."""
    for lock in target.parent.glob(f".{target.name}.new.*/{_SCRATCH}/{_LOCK}"):
        with exclusive_lock(lock, wait=False) as free:
            if free:
                shutil.rmtree(lock.parent.parent)


def _one_thread() -> None:
    pa.set_cpu_count(1)


def _name(symbol: str) -> str:
    return f"symbol {symbol}"


def _task(symbol: str, function: Callable[..., Any], *arguments: Any) -> Task:
    return Task(_name(symbol), function, arguments)


class _Steps:
    """Takes steps in processes, counts them, and reports the faults of those side by side together."""

    def __init__(self, workers: Workers, on_progress: Callable[[int, int], None], total: int) -> None:
        self._workers, self._on_progress, self.total = workers, on_progress, total
        self._done = 0

    def take(self, tasks: Iterable[Task]) -> dict[str, Any]:
        """What each task returned, by its name; the error of a single kind names all that failed."""
        results, faults = dict[str, Any](), dict[str, BellwetherError]()
        for task, outcome in self._workers.outcomes(tasks):
            self._done += 1
            self._on_progress(self._done, self.total)
            if isinstance(outcome, BellwetherError):
                faults[task.name] = outcome
            else:
                results[task.name] = outcome
        if faults:
            kinds = {type(fault) for fault in faults.values()}
            kind = kinds.pop() if len(kinds) == 1 else DataError
            raise kind("; ".join(f"{name}: {faults[name]}" for name in sorted(faults)))
        return results


def _read(store: Store, source: Source, symbol: str) -> None:
    """Bars to the store, checked."""
    store.folder.mkdir()
    rows, last = 0, -np.inf
    for part in frames(source, symbol):
        try:
            columns = bar_columns(part)
        except DataError as error:
            raise DataError(f"bars from number {rows} on: {error}" if rows else str(error)) from None
        if columns[-1, 0] <= last:
            raise DataError(
                f"bar {rows} at {part.index[0]} is not later than the one before: bar times must be "
                "strictly increasing; validate the bars first"
            )
        rows, last = rows + len(part), columns[-1, -1]
        store.append("times", pd.DatetimeIndex(part.index).as_unit("ns").asi8)
        store.append("bars", columns.T)
    if not rows:
        raise DataError("no bars: a symbol needs one at least, leave it out")


def _prepare(store: Store, definitions: Definitions, depth: int) -> None:
    """What the comparisons of `depth` look at."""
    plan = cut(dict(definitions))
    for _, made in _blocks(store, plan, depth):
        store.append(f"values{depth}", made.T)
    store.reserve(f"results{depth}", len(plan.stages[depth].comparison.names))


def _compare(stores: tuple[Store, ...], definitions: Definitions, depth: int, span: Span) -> None:
    stage = cut(dict(definitions)).stages[depth]
    compare(stores, stage, f"values{depth}", f"results{depth}", span)


def _write(store: Store, definitions: Definitions, file: Path) -> dict[str, Any]:
    """The features to their file; what the manifest says of it."""
    plan = cut(dict(definitions))
    names = list(plan.features.names)
    write_blocks(
        file,
        (
            pd.DataFrame(made.T, index=_index(times), columns=names, copy=False)
            for times, made in _blocks(store, plan, len(plan.stages))
        ),
    )
    first, last = (_index(store.times(row, 1))[0].isoformat() for row in (0, store.rows - 1))
    return {"rows": store.rows, "first": first, "last": last, "sha256": sha256_file(file)}


def _blocks(store: Store, plan: Plan, depth: int) -> Iterator[tuple[Times, Floats]]:
    """Times [n] and what the program of `depth` makes at them [F, n], a block of bars at a time."""
    program = plan.programs[depth]
    state, buffers = program.initial_state.copy(), program.buffers(CHUNK)
    for start in range(0, store.rows, BLOCK):
        times = store.times(start, min(BLOCK, store.rows - start))
        columns = np.full((len(plan.columns), len(times)), np.nan)
        columns[: len(COLUMNS)] = store.table("bars", len(COLUMNS), start, len(times)).T
        for number, stage in enumerate(plan.stages[:depth]):
            width = len(stage.comparison.names)
            columns[stage.results] = store.table(f"results{number}", width, start, len(times)).T
        made = np.empty((len(program.names), len(times)))
        program.run(columns, state, buffers, made)
        yield times, made


def _index(times: Times) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(times, tz="UTC", name="timestamp")
