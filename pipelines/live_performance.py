"""How a version did live: its logged predictions against labels of the logged bars themselves.

Labels are those of the version's own manifest, computed from the log: nothing but what the service saw. The
log holds the one number of a signal (`models.targets.Target.signal`), so what is judged is what that number
claims, and nothing is guessed of what it leaves out:

- two classes: P(up), against up or not;
- three classes: P(up) + P(flat) / 2, which is the mean of an outcome that is 1 for up, 1/2 for flat and 0
  for down. Flat outcomes stay: without them P(up) / (P(up) + P(down)) would have to be judged, which is
  farther from 1/2 than the signal and not logged;
- meta: P(right) of the bets that were made, which is the signal's distance from 1/2, against whether the side
  it is on made money. Where the signal is 1/2 there was no primary side, or P(right) was at most 1/2 and how
  far below is not logged: no claim, so no outcome. Choosing rows by the claim leaves the claim unbiased.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
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

    `table` is the log of every version: its bars carry the outcomes. At least `rows` claims are looked
    at, more when labels are so long that fewer than twice `performance_min_rows` of them would stand apart.
    Labels that span a gap in the bars are left out. The volatility of barriers starts anew at the log's
    first bar, so its first `volatility_span` bars have none.
    """
    enough = 2 * rules.performance_min_rows * int(manifest.label.get("horizon", 1))
    try:
        bars = logged_bars(table, manifest.symbol)
        claims, labels = _claims_and_outcomes(predictions[["probability"]], bars, manifest.label)
        joined = join(claims.tail(max(rows, enough)), _without_gaps(labels, bars, manifest), bars.index[-1])
        limits = PerformanceRules(rules.performance_level, rules.performance_min_rows)
        return Live(performance(joined, limits))
    except DataError as error:
        return Live(None, f"live performance is not judged: {error}")


def _claims_and_outcomes(
    predictions: pd.DataFrame, bars: pd.DataFrame, label: Mapping[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What was claimed (column probability) and what became of it (label 0, 0.5 or 1; t1), by bar time."""
    shape = {name: value for name, value in label.items() if name != "primary"}
    if label.get("primary") is None:
        labels = make_labels(bars, **shape)
        return predictions, labels.assign(label=labels["label"] / (label.get("classes", 2) - 1))
    edge = predictions["probability"] - 0.5
    bets = edge[edge != 0.0]
    if bets.empty:
        raise DataError(
            f"the model bet on its primary signal in 0 of {len(predictions)} predictions (each says 0.5): "
            "wait until the primary takes a side that the model trusts"
        )
    labels = make_labels(bars, **shape, side=np.sign(bets.reindex(bars.index).to_numpy(dtype=np.float64)))
    return (0.5 + bets.abs()).to_frame("probability"), labels[labels["side"] != 0.0]


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
