"""How a version did live: its logged predictions against labels of the logged bars themselves.

Labels are those of the version's own manifest, computed from the log: nothing but what the service saw.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from core.bars import COLUMNS
from core.bundle import Manifest
from core.errors import DataError
from models.labels import make_labels
from monitoring.outcomes import PerformanceRules, PerformanceVerdict, join, performance
from pipelines.params import Drift
from serving.gaps import gap_rule


@dataclass(frozen=True)
class Live:
    """The verdict, or why there is none."""

    verdict: PerformanceVerdict | None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        if self.verdict is not None:
            return {"judged": True, **self.verdict.to_dict()}
        return {"judged": False, "reasons": (self.reason,)}


def live_performance(
    table: pa.Table, predictions: pd.DataFrame, manifest: Manifest, rules: Drift, rows: int
) -> Live:
    """Judge the outcomes of one version's newest `predictions` (of `log_frame`) that are known.

    `table` is the log of every version: its bars carry the outcomes. At least `rows` predictions are looked
    at, more when labels are so long that fewer than twice `performance_min_rows` of them would stand apart.
    Labels that span a gap in the bars are left out. The volatility of barriers starts anew at the log's
    first bar, so its first `volatility_span` bars have none.
    """
    label = dict(manifest.label)
    enough = 2 * rules.performance_min_rows * int(label.get("horizon", 1))
    try:
        bars = logged_bars(table, manifest.symbol)
        labels = _without_gaps(make_labels(bars, **label), bars, manifest)
        joined = join(predictions.tail(max(rows, enough)), labels, bars.index[-1])
        limits = PerformanceRules(rules.performance_level, rules.performance_min_rows)
        return Live(performance(joined, limits))
    except DataError as error:
        return Live(None, f"live performance is not judged: {error}")


def logged_bars(table: pa.Table, symbol: str) -> pd.DataFrame:
    """The bars of one symbol in a prediction log, canonical; of a bar logged twice the newest row."""
    plain = table.filter(pc.field("symbol") == symbol).select(["bar_time", "logged_at", *COLUMNS]).to_pandas()
    plain = plain.sort_values("logged_at", kind="stable").drop_duplicates("bar_time", keep="last")
    bars = plain.set_index("bar_time").sort_index()[list(COLUMNS)].astype("float64")
    return bars.rename_axis("timestamp")


def _without_gaps(labels: pd.DataFrame, bars: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """Drop labels whose bars, from their own to t1, are not all there: their horizon is another."""
    rule = gap_rule(manifest)
    closes = [moment.timestamp() for moment in bars.index]
    broken = [rule(before, after) > 0 for before, after in pairwise(closes)]
    passed = pd.Series([0, *broken], index=bars.index).cumsum()
    crossed = passed.reindex(labels["t1"]).to_numpy() - passed.reindex(labels.index).to_numpy()
    return labels[crossed == 0]
