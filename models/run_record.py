"""What a run leaves in the tracking store, as plain data."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from core.files import sha256_bytes
from evaluation.trials import TrialSet

SEARCH, CANDIDATES, RECORDS = "search", "candidates", "records"
"""Tags: key of the search a run opens, key of the candidates it tried, and their Sharpes with lengths."""

_KEY_LENGTH, _VALUE_LENGTH = 250, 6000
_TAG_LENGTH = 8000
_REFUSED = re.compile(r"[^\w.\-: ]")
T = TypeVar("T")


@dataclass(frozen=True)
class RunRecord:
    """One run of the pipeline: what went in, what came out, and the trials it spent.

    `params` may be nested; `metrics` are numbers of the whole run, `fold_metrics` one number per fold in
    order; `artifacts` are pairs (folder in the run, file or directory). `manifest_sha256` is the identity of
    the bundle it built, empty for a run that built none. `tried` are the trials it spent; without a key they
    count once for every bundle, or run. `status` is FINISHED, FAILED or KILLED.
    """

    model: str
    symbol: str
    timeframe: str
    as_of: str
    data_hash: str
    params_hash: str
    commit: str
    dirty: bool
    dvc_lock_sha256: str
    tried: TrialSet
    manifest_sha256: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    fold_metrics: Mapping[str, Sequence[float]] = field(default_factory=dict)
    artifacts: Sequence[tuple[str, Path]] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    status: str = "FINISHED"

    def tag_items(self) -> dict[str, str]:
        """The tags every run carries, and the extra ones; empty values are left out."""
        own = {
            "symbol": self.symbol,
            "timeframe": self.timeframe,
            "as_of": self.as_of,
            "data_hash": self.data_hash,
            "params_hash": self.params_hash,
            "commit": self.commit,
            "dirty": str(self.dirty).lower(),
            "dvc_lock_sha256": self.dvc_lock_sha256,
            "manifest_sha256": self.manifest_sha256,
        }
        tags = {**own, **trial_tags(self.tried), **self.tags}
        return {key: value for key, value in tags.items() if value}


@dataclass(frozen=True)
class TrialRecord:
    """One trial of a search, logged as a run of its own nested in the search's.

    `candidate` holds the one trial; `series` one number per fold in order; `metrics` numbers of the whole
    trial; `status` is FINISHED, KILLED (given up early) or FAILED.
    """

    name: str
    candidate: TrialSet
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    series: Mapping[str, Sequence[float]]
    tags: Mapping[str, str]
    seconds: float
    status: str

    def tag_items(self) -> dict[str, str]:
        """The tags that count it, and its own."""
        return {**trial_tags(self.candidate), **self.tags}

    def metric_items(self) -> Iterator[tuple[str, int, float]]:
        """(name, step, value) of every metric."""
        yield from ((name, 0, float(value)) for name, value in self.metrics.items())
        for name, values in self.series.items():
            yield from ((name, step, float(value)) for step, value in enumerate(values))


def trial_tags(tried: TrialSet) -> dict[str, str]:
    """The tags from which `trial_set_of` reads a run's trials; records that would not fit are left out."""
    records = json.dumps([list(record) for record in tried.records])
    kept = records if len(records) <= _TAG_LENGTH else "[]"
    return {"trials": str(tried.count), CANDIDATES: tried.key, RECORDS: kept}


def trial_set_of(run_id: str, tags: Mapping[str, str]) -> TrialSet:
    """The trials of a run from its tags (without our prefix), those of runs before there were keys too."""
    key = tags.get(CANDIDATES) or tags.get("manifest_sha256") or run_id
    records = tuple((float(sharpe), int(n)) for sharpe, n in json.loads(tags.get(RECORDS, "[]")))
    return TrialSet(key, int(tags.get("trials", "0")), records)


def param_items(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nested parameters as dotted names and texts that fit the store; long ones keep head and hash."""
    return [(_REFUSED.sub("_", key)[:_KEY_LENGTH], _fitted(text)) for key, text in _flat("", params)]


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and (value or not prefix):
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    elif isinstance(value, str):
        yield prefix, value
    else:
        yield prefix, json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)


def _fitted(text: str) -> str:
    if len(text) <= _VALUE_LENGTH:
        return text
    mark = f"… (sha256 {sha256_bytes(text.encode())})"
    return text[: _VALUE_LENGTH - len(mark)] + mark


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive parts of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
