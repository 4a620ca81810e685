"""Why a row is in quarantine, in words that name the value and the rule it breaks."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_PRICES = ("open", "high", "low", "close")


def explain(measured: pd.DataFrame, by_rule: Mapping[str, NDArray[np.int64]]) -> dict[int, str]:
    """Row position → all its reasons, "rule: text" joined by "; ", in the order of `by_rule`."""
    reasons: dict[int, list[str]] = {}
    for rule, rows in by_rule.items():
        records = measured.iloc[rows].to_dict("records")
        for row, record in zip(rows.tolist(), records, strict=True):
            reasons.setdefault(row, []).append(f"{rule}: {_text(rule, record)}")
    return {row: "; ".join(texts) for row, texts in reasons.items()}


def _text(rule: str, record: Mapping[Any, Any]) -> str:
    if rule == "prices":
        bad = [f"{n} {record[n]:g}" for n in _PRICES if not 0 < record[n] < np.inf]
        return f"{', '.join(bad)} must be finite and above zero"
    if rule == "ohlc":
        return ", ".join(_inconsistencies(record))
    return {
        "volume": f"volume {record['volume']:g} must be finite and not negative",
        "time_known": "the row has no time",
        "increasing_time": "the row is out of time order",
        "unique_time": "another row has the same time",
    }[rule]


def _inconsistencies(record: Mapping[Any, Any]) -> Iterator[str]:
    for name in ("open", "close", "low"):
        if record["high"] < record[name]:
            yield f"high {record['high']:.10g} < {name} {record[name]:.10g}"
    for name in ("open", "close"):
        if record["low"] > record[name]:
            yield f"low {record['low']:.10g} > {name} {record[name]:.10g}"
