"""What `bellwether features` does besides listing: explain one, compute some, look for leaks."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from core.errors import ArtifactError, UsageError
from core.files import sha256_file, write_text
from core.settings import Settings
from core.timeframe import Timeframe
from data.sources import SourceRequest, open_source
from features.batch import build, build_blocks, epoch_seconds
from features.catalogue import CATALOGUES, Feature
from features.describe import Described, describe, signature
from features.operators import OPERATORS
from features.probes import PROBES, Finding, probe
from features.readiness import require_coarser, require_history, warm_rows
from features.selection import select
from pipelines import stored
from pipelines.params import PARAMS_FILE, Params, check, read_tree, with_overrides
from pipelines.tables import write_blocks

# a probe of more says nothing new, and costs memory
PROBED = 100_000


Found = TypeVar("Found", Described, Feature)


@dataclass(frozen=True)
class Bars:
    """Bars that may be believed, their length, and where they are from."""

    frame: pd.DataFrame
    timeframe: Timeframe
    description: str

    @property
    def times(self) -> npt.NDArray[np.float64]:
        """Their closes, epoch seconds UTC [N]."""
        return epoch_seconds(self.frame.index)


@dataclass(frozen=True)
class Tools:
    """The features that a checkout's parameters choose, under `overrides`; all faults come at once."""

    settings: Settings
    params: Params
    definitions: dict[str, str]

    @classmethod
    def open(
        cls,
        settings: Settings,
        overrides: Mapping[str, Any] | None = None,
        catalog: str | None = None,
        *,
        universe: bool = False,
    ) -> "Tools":
        """Read params.yaml; ConfigurationError lists what is wrong with it or with the features it names.

        `catalog` is a catalogue to look at as it comes, instead of what the file chooses, adds and leaves
        out; `overrides` hold for either. Only in a `universe` may features compare symbols.
        """
        plain: dict[str, Any] = {"features.user": {}, "features.exclude": [], "labels.primary": None}
        plain = plain | {"features.catalog": catalog} if catalog else {}
        params = check(with_overrides(read_tree(settings.home / PARAMS_FILE), {**plain, **(overrides or {})}))
        block = params.features
        chosen = select(block.catalog, params.all_features, block.exclude, universe=universe)
        return cls(settings, params, chosen)

    def described(self) -> list[Described]:
        """Catalogue and own features with all that is known of them."""
        block = self.params.features
        return describe(block.catalog, self.params.all_features, block.exclude)

    def chosen(self, names: Sequence[str]) -> dict[str, str]:
        """The definitions of `names`, all for none; UsageError names those that are not chosen."""
        unknown = [f"{name}: {self._remedy(name)}" for name in names if name not in self.definitions]
        if unknown:
            raise UsageError("; ".join(unknown))
        return {name: self.definitions[name] for name in names} if names else self.definitions

    def _remedy(self, name: str) -> str:
        if name in self.params.features.exclude:
            return "left out by features.exclude: take it off that list"
        homes = [catalog for catalog, held in CATALOGUES.items() if name in {each.name for each in held}]
        if homes:
            return f"no such feature is chosen, catalogue {homes[0]} has it: add --catalog {homes[0]}"
        close = difflib.get_close_matches(name, self.definitions, n=1, cutoff=0.6)
        hint = f"did you mean {close[0]}" if close else "`bellwether features` lists them"
        return f"no such feature is chosen: {hint}; --set features.user.NAME=EXPRESSION adds one"

    def bars(self, file: Path | None) -> Bars:
        """Bars of a CSV or parquet file, else of the configured source, as the data gate lets them pass."""
        from data.quality import enforce, validate

        data, limits = self.params.data, self.params.validate_
        if file is not None:
            given = {"source": "csv", "path": str(file), "symbol": file.stem, "timeframe": "auto"}
            data = data.model_copy(update=given | {"calendar": "auto", "start": None, "until": None})
        raw = open_source(data.source).fetch(
            SourceRequest(
                symbol=data.symbol,
                path=self.settings.home / data.path if data.path else None,
                timeframe=data.timeframe,
                calendar=data.calendar,
                start=data.start,
                until=data.until,
            )
        )
        report = validate(
            raw.bars,
            timeframe=raw.timeframe,
            calendar=raw.calendar,
            min_rows=1,
            max_jump=limits.max_jump,
            stale_bars=limits.stale_bars,
            repair=data.repair,
        )
        enforce(report, limits.max_quarantined)
        bad = len(report.quarantine)
        left_out = f", {bad} bad {'row' if bad == 1 else 'rows'} left out" if bad else ""
        description = f"{raw.symbol} {raw.timeframe} from {raw.description}{left_out}"
        return Bars(report.clean, report.timeframe, description)

    def stored_bars(self) -> Bars:
        """The bars of the checkout's last run, or those of the source before there was one."""
        try:
            held = stored.bars(self.settings.home)
        except ArtifactError:
            return self.bars(None)
        return Bars(
            held.bars, held.timeframe, f"{held.facts['symbol']} {held.facts['timeframe']}, as last validated"
        )


def matching(known: Iterable[Found], text: str) -> list[Found]:
    """Features that have every word of `text` in their name, formula, group or source.

    Case does not matter, and `-` and `_` are one: "volume z-score" is meant to find `volume_zscore_60`.
    """
    words = _plain(text).split()
    return [each for each in known if all(word in _searched(each) for word in words)]


def _searched(feature: Described | Feature) -> str:
    return _plain(f"{feature.name} {feature.expression} {feature.group} {feature.source}")


def _plain(text: str) -> str:
    return text.lower().replace("-", "_").replace("z_score", "zscore")


def compute(
    tools: Tools,
    names: Sequence[str],
    bars: Bars,
    target: Path,
    on_rows: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Write features to a parquet file with page checksums, whole or not at all; what was written.

    The table has the bar's close (UTC) as its index and a float64 column per feature, NaN before warm-up.
    It is written block after block, so memory does not grow with the bars; `on_rows` is told of the rows of
    each. DataError names features whose warm-up is longer than the bars.
    """
    if target.suffix != ".parquet":
        raise UsageError(f"{target} does not end in .parquet, the only format that is written")
    require_place(target)
    definitions = tools.chosen(names)
    require_coarser(definitions, bars.timeframe)
    require_history(definitions, bars.times)
    blocks = build_blocks(bars.frame, definitions)
    write_blocks(target, _told(blocks, on_rows))
    return {
        "file": str(target),
        "sha256": sha256_file(target),
        "bars": bars.description,
        "rows": len(bars.frame),
        "first": iso(bars.frame.index[0]),
        "last": iso(bars.frame.index[-1]),
        "features": list(definitions),
    }


def _told(blocks: Iterable[pd.DataFrame], on_rows: Callable[[int], None]) -> Iterator[pd.DataFrame]:
    for block in blocks:
        yield block
        on_rows(len(block))


def look_for_leaks(tools: Tools, names: Sequence[str], bars: Bars) -> dict[str, Any]:
    """Run every probe; `findings` is empty when nothing is held against any feature."""
    definitions = tools.chosen(names)
    require_coarser(definitions, bars.timeframe)
    frame = bars.frame.iloc[-PROBED:]
    found: list[Finding] = probe(frame, definitions)
    return {
        "bars": bars.description,
        "rows": len(frame),
        "first": iso(frame.index[0]),
        "last": iso(frame.index[-1]),
        "features": list(definitions),
        "probes": PROBES,
        "findings": [{"feature": f.feature, "probe": f.probe, "detail": f.detail} for f in found],
    }


def explain(tools: Tools, name: str, bars: Bars, page: Path) -> dict[str, Any]:
    """Everything about one feature, what it was on these bars, and an offline page with its plot."""
    from pipelines.feature_page import render

    require_place(page)
    known = {feature.name: feature for feature in tools.described()}
    if name not in known:
        tools.chosen([name])
    feature = known[name]
    require_coarser({name: feature.expanded}, bars.timeframe)
    warmup = warm_rows(bars.times, {name: feature.expanded})[name]
    values = build(bars.frame, {name: feature.expanded})[name]
    facts = {
        "name": name,
        "formula": feature.expression,
        "expanded": feature.expanded,
        "group": feature.group,
        "range": feature.range,
        "source": feature.source,
        "warmup": warmup,
        "excluded": feature.excluded,
        "operators": {signature(OPERATORS[each]): OPERATORS[each].meaning for each in feature.operators},
        "bars": bars.description,
        "statistics": statistics(values, warmup),
    }
    write_text(page, render(facts, values, bars.frame["close"]))
    return {**facts, "page": str(page)}


def require_place(target: Path) -> None:
    """UsageError when a file cannot be put at `target`: it is a directory, or a file stands above it."""
    if target.is_dir():
        raise UsageError(f"{target} is a directory: give the name of a file")
    above = next(each for each in target.parents if each.exists())
    if not above.is_dir():
        raise UsageError(f"{above} is a file, and {target} would lie in it: give another path")


def statistics(values: pd.Series, warmup: int) -> dict[str, float | int | None]:
    """Rows, missing values after warm-up, and what the others are: quantiles, mean, deviation, the last."""
    settled = values.iloc[warmup:]
    defined = settled.dropna()
    counts: dict[str, float | int | None] = {"rows": len(values), "missing": len(settled) - len(defined)}
    if defined.empty:
        return counts
    shares = {"lowest": 0.0, "1 %": 0.01, "median": 0.5, "99 %": 0.99, "highest": 1.0}
    counts |= {name: float(defined.quantile(share)) for name, share in shares.items()}
    counts |= {"mean": float(defined.mean()), "deviation": float(defined.std(ddof=0))}
    return counts | {"last": float(values.iloc[-1]) if values.iloc[-1] == values.iloc[-1] else None}


def iso(moment: datetime) -> str:
    """A bar's time as text."""
    return moment.isoformat()
