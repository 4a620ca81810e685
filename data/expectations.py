"""The quality rules as Great Expectations suites: the only module that imports the library.

Importing it costs seconds: import it inside the function that validates. Suites are built in code on an
ephemeral context; nothing is read from or written to a project directory.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import great_expectations as gx
import numpy as np
import pandas as pd
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
from great_expectations.expectations.core.expect_column_values_to_be_between import (
    ExpectColumnValuesToBeBetween,
)
from great_expectations.expectations.core.expect_column_values_to_be_in_set import ExpectColumnValuesToBeInSet
from great_expectations.expectations.core.expect_column_values_to_be_of_type import (
    ExpectColumnValuesToBeOfType,
)
from great_expectations.expectations.core.expect_column_values_to_not_be_null import (
    ExpectColumnValuesToNotBeNull,
)
from great_expectations.expectations.core.expect_table_columns_to_match_set import (
    ExpectTableColumnsToMatchSet,
)
from great_expectations.expectations.core.expect_table_row_count_to_be_between import (
    ExpectTableRowCountToBeBetween,
)
from great_expectations.expectations.expectation import (
    ColumnMapExpectation,
    Expectation,
    MulticolumnMapExpectation,
)
from great_expectations.expectations.metrics.map_metric_provider.column_condition_partial import (
    column_condition_partial,
)
from great_expectations.expectations.metrics.map_metric_provider.column_map_metric_provider import (
    ColumnMapMetricProvider,
)
from great_expectations.expectations.metrics.map_metric_provider.multicolumn_condition_partial import (
    multicolumn_condition_partial,
)
from great_expectations.expectations.metrics.map_metric_provider.multicolumn_map_metric_provider import (
    MulticolumnMapMetricProvider,
)
from numpy.typing import NDArray

from core.bars import COLUMNS
from core.errors import DataError
from data.rules import RULES, Limits

_PRICES = COLUMNS[:4]
_LARGEST = float(np.finfo(np.float64).max)
_RUN_MARKS = ("id", "batch_id", "run_id", "batch_markers")


@dataclass(frozen=True)
class Outcome:
    """What one rule's expectations found: row positions that break it, and the values observed."""

    passed: bool
    rows: NDArray[np.int64]
    observed: tuple[str, ...]


class OhlcConsistent(MulticolumnMapMetricProvider):
    """Row condition: high is the largest and low the smallest of the four. A NaN breaks another rule."""

    condition_metric_name = "multicolumn_values.ohlc_consistent"
    condition_domain_keys = (
        "batch_id",
        "table",
        "column_list",
        "row_condition",
        "condition_parser",
        "ignore_row_if",
    )
    condition_value_keys = ()

    @multicolumn_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column_list: pd.DataFrame, **_: Any) -> pd.Series:
        bars = column_list
        above = (bars["high"] < bars["open"]) | (bars["high"] < bars["close"])
        below = (bars["low"] > bars["open"]) | (bars["low"] > bars["close"])
        return ~(above | below | (bars["high"] < bars["low"]))


class ExpectOhlcToBeConsistent(MulticolumnMapExpectation):
    """Expect high and low to enclose open and close."""

    map_metric = OhlcConsistent.condition_metric_name


class InUtc(ColumnMapMetricProvider):
    """Row condition: the column is a datetime in UTC."""

    condition_metric_name = "column_values.in_utc"

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column: pd.Series, **_: Any) -> pd.Series:
        return pd.Series(str(getattr(column.dtype, "tz", None)) == "UTC", index=column.index)


class ExpectColumnToBeInUtc(ColumnMapExpectation):
    """Expect a column of datetimes in UTC."""

    map_metric = InUtc.condition_metric_name


def _about(rule: str) -> dict[str, Any]:
    return {"meta": {"rule": rule}, "severity": RULES[rule].severity}


def structure_suite() -> list[Expectation]:
    """Rules about the frame as a whole: its columns, types and time zone."""
    return [
        ExpectTableColumnsToMatchSet(
            column_set=["timestamp", *COLUMNS], exact_match=True, **_about("schema")
        ),
        *(ExpectColumnValuesToBeOfType(column=name, type_="float64", **_about("types")) for name in COLUMNS),
        ExpectColumnToBeInUtc(column="timestamp", **_about("utc")),
    ]


def row_suite() -> list[Expectation]:
    """Rules that condemn single rows; on a frame of `measures.row_measures`."""
    return [
        ExpectColumnValuesToNotBeNull(column="timestamp", **_about("time_known")),
        ExpectColumnValuesToBeInSet(column="in_order", value_set=[True], **_about("increasing_time")),
        ExpectColumnValuesToBeInSet(column="unique", value_set=[True], **_about("unique_time")),
        *(ExpectColumnValuesToNotBeNull(column=name, **_about("prices")) for name in _PRICES),
        *(
            ExpectColumnValuesToBeBetween(
                column=name, min_value=0, strict_min=True, max_value=_LARGEST, **_about("prices")
            )
            for name in _PRICES
        ),
        ExpectOhlcToBeConsistent(column_list=list(_PRICES), ignore_row_if="never", **_about("ohlc")),
        ExpectColumnValuesToNotBeNull(column="volume", **_about("volume")),
        ExpectColumnValuesToBeBetween(column="volume", min_value=0, max_value=_LARGEST, **_about("volume")),
    ]


def series_suite(limits: Limits) -> list[Expectation]:
    """Rules about the series that remains; on a frame of `measures.series_measures`."""
    jump = limits.max_jump
    return [
        ExpectTableRowCountToBeBetween(min_value=limits.min_rows, **_about("row_count")),
        ExpectColumnValuesToBeBetween(column="gap", max_value=limits.max_gap_bars, **_about("gaps")),
        ExpectColumnValuesToBeInSet(column="on_calendar", value_set=[True], **_about("off_calendar")),
        ExpectColumnValuesToBeBetween(column="flat_run", max_value=limits.stale_bars - 1, **_about("stale")),
        ExpectColumnValuesToBeBetween(
            column="log_return", min_value=-jump, max_value=jump, **_about("jumps")
        ),
    ]


def run(frame: pd.DataFrame, suite: list[Expectation]) -> tuple[dict[str, Outcome], dict[str, Any]]:
    """Validate `frame` (RangeIndex): an outcome per rule id, and the library's own result as JSON values."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    asset = context.data_sources.add_pandas("bars").add_dataframe_asset("bars")
    batch = asset.add_batch_definition_whole_dataframe("bars").get_batch({"dataframe": frame})
    result: Any = batch.validate(
        gx.ExpectationSuite("bars", expectations=suite), result_format={"result_format": "COMPLETE"}
    )
    found: dict[str, list[Any]] = {}
    for item in result.results:
        found.setdefault(item.expectation_config.meta["rule"], []).append(item)
    outcomes = {rule: _outcome(rule, items) for rule, items in found.items()}
    return outcomes, _json_values(result.to_json_dict())


def _outcome(rule: str, items: list[Any]) -> Outcome:
    faults = [fault for item in items for fault in _exceptions(item.exception_info)]
    if faults and rule not in ("types", "utc"):
        raise DataError(f"rule {rule} could not be evaluated: {faults[0]}; check the frame and the suite")
    rows = [item.result.get("unexpected_index_list") or [] for item in items]
    return Outcome(
        passed=all(item.success for item in items),
        rows=np.unique(np.concatenate([np.asarray(r, dtype=np.int64) for r in rows])),
        observed=tuple(str(item.result.get("observed_value")) for item in items if not item.success),
    )


def _exceptions(info: dict[str, Any]) -> Iterable[str]:
    """Messages of an exception_info, which is flat or keyed by metric."""
    entries = [info] if "raised_exception" in info else list(info.values())
    return [str(entry["exception_message"]) for entry in entries if entry.get("raised_exception")]


def _json_values(value: Any) -> Any:
    """The same tree with NaN and infinities as text, which strict JSON lacks, and without run-time marks."""
    if isinstance(value, dict):
        return {str(k): _json_values(v) for k, v in value.items() if k not in _RUN_MARKS}
    if isinstance(value, list | tuple):
        return [_json_values(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value
