"""Feeding stored bars to the service as if they were live."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from core.bars import check_bars
from core.bundle import CHAMPION, Manifest, load_manifest
from core.errors import DataError, RegistryError, ServiceError, UsageError
from core.settings import Settings, child_environment
from data.sources import SourceRequest, open_source
from pipelines.drift import day
from pipelines.params import PARAMS_FILE, check, read_tree, with_overrides
from pipelines.promotion import open_registry, resolve_model
from serving.client import ReplaySummary
from serving.client import replay as post_bars

if TYPE_CHECKING:
    from models.versions import Version

OnBar = Callable[[int, int], None]
_START_SECONDS = 30


@dataclass(frozen=True)
class Replay:
    """What was replayed: which version answered, and what it said."""

    model: str
    version: str
    own_service: bool
    summary: ReplaySummary


def replay(
    settings: Settings,
    model: str | None = None,
    *,
    start: str | None = None,
    until: str | None = None,
    url: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    on_progress: OnBar = lambda done, total: None,
) -> Replay:
    """Post the bars between two days (inclusive, UTC) of the configured source.

    With `url`, to that service. Without, to a service of its own for the version that could have been
    live then: the champion if its as-of bar precedes the first bar, else the newest version whose does.
    """
    registry = open_registry(settings)
    model = resolve_model(registry, model)
    first = pd.Timestamp(day(start, time.min)) if start else None
    if first is not None and until and pd.Timestamp(day(until, time.max)) < first:
        raise UsageError(f"from {start} until {until} holds no day: the first day comes first")
    version = _version_at(registry.versions(model), model, first)
    manifest = load_manifest(version.directory)
    bars = _bars(settings, manifest, first, until, overrides or {})
    with _service(settings, version.directory, url) as address:
        summary = post_bars(
            address,
            _rows(bars),
            manifest.symbol,
            timeframe=manifest.timeframe,
            token=settings.token.get_secret_value() if settings.token else None,
            on_progress=lambda count, _: on_progress(count, len(bars)),
        )
    return Replay(model, version.version, url is None, summary)


def _version_at(versions: "list[Version]", model: str, first: pd.Timestamp | None) -> "Version":
    def precedes(version: "Version") -> bool:
        return first is None or pd.Timestamp(version.tags["as_of"]) < first

    champions = [v for v in versions if CHAMPION in v.aliases and precedes(v)]
    for version in (*champions, *(v for v in versions if precedes(v))):
        return version
    day_before = (first - pd.Timedelta(days=1)).date() if first is not None else None
    raise RegistryError(
        f"no version of {model} was trained before {first}: train one with "
        f"`bellwether run --set data.until={day_before}`"
    )


def _bars(
    settings: Settings,
    manifest: Manifest,
    first: pd.Timestamp | None,
    until: str | None,
    overrides: Mapping[str, Any],
) -> pd.DataFrame:
    params = check(with_overrides(read_tree(settings.home / PARAMS_FILE), overrides)).data
    as_of = pd.Timestamp(manifest.as_of)
    raw = open_source(params.source).fetch(
        SourceRequest(
            symbol=manifest.symbol,
            path=settings.home / params.path if params.path else None,
            timeframe=manifest.timeframe,
            calendar=params.calendar,
            until=day(until, time.max) if until else None,
        )
    )
    bars = raw.bars[raw.bars.index > as_of]
    check_bars(bars)
    # bars between the as-of bar and the first day asked for keep the feature state without a gap
    if bars.empty or (first is not None and bars.index[-1] < first):
        raise DataError(
            f"{raw.description} has no bars of {manifest.symbol} after {max(as_of, first or as_of)}"
            f"{' until ' + until if until else ''}: choose other days, or --set data.source=…"
        )
    return bars


def _rows(bars: pd.DataFrame) -> Iterator[tuple[float, float, float, float, float, float]]:
    times = bars.index.as_unit("ns").asi8 / 1e9
    for row, values in zip(times, bars.to_numpy(), strict=True):
        yield (float(row), *map(float, values))  # type: ignore[misc]


@contextmanager
def _service(settings: Settings, bundle: Path, url: str | None) -> Iterator[str]:
    """The address of `url`, or of a service started for this replay and ended with it."""
    if url is not None:
        yield url
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "serve", "--bundle", str(bundle), "--port", "0", "--fresh"],
        cwd=settings.home,
        # on loopback for this replay alone: the settings of the service that runs are not for it
        env=child_environment(
            BELLWETHER_HOME=str(settings.home),
            BELLWETHER_HOST="127.0.0.1",
            BELLWETHER_RATE_LIMIT="0",
            BELLWETHER_GRPC_PORT="",
            BELLWETHER_TLS_CERT="",
            BELLWETHER_TLS_KEY="",
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield _address(process)
    finally:
        process.terminate()
        process.communicate(timeout=_START_SECONDS)


def _address(process: "subprocess.Popen[str]") -> str:
    said = []
    for line in process.stdout or ():
        said.append(line.strip())
        if "http://" in line:
            return "http://" + line.split("http://", 1)[1].split()[0]
    raise ServiceError(
        f"the service for this replay did not start ({' '.join(said)[-400:]}): when one is running already, "
        "name it with --url"
    )
