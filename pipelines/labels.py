"""Stage `labels`: what is predicted, when it becomes known, and how much a label weighs."""

from pathlib import Path

import numpy as np
import pandas as pd

from core.errors import DataError
from core.files import replace_directory
from models.labels import Floats, class_shares, make_labels
from models.targets import CLASSES, PRIMARY_SIDE
from models.weights import label_weights
from pipelines import stage, stored
from pipelines.params import Params
from pipelines.tables import write_table
from pipelines.workspace import STORE


def work(root: Path, params: Params) -> str:
    """Label every bar after warm-up whose whole window is known; meta-labels judge the primary's side."""
    bars, target = stored.bars(root).bars, params.labels.target
    side = _primary_side(root) if target == "meta" else None
    labels = make_labels(bars, **params.labels.model_dump(exclude={"primary"}), side=side)
    labels = labels[labels.index >= bars.index[stored.feature_manifest(root).warmup]]
    labels["weight"] = label_weights(labels, bars.index, params.train.sample_weights)
    summary = f"{len(labels)} labels"
    if target == "meta":
        summary += f", {_bets(labels, params)} with a side"
    shares = class_shares(labels[labels["weight"] > 0.0], CLASSES[target])
    with replace_directory(root / STORE / "labels") as out:
        write_table(out / "labels.parquet", labels)
    held = ", ".join(f"{share:.1%} {name}" for name, share in shares.items())
    return f"{summary}, {held}, weighing {labels['weight'].sum():.0f}"


def _primary_side(root: Path) -> Floats:
    """The side of the primary signal [bars] as float32, which is what models and the service see of it."""
    side = stored.feature_matrix(root)[PRIMARY_SIDE].to_numpy(dtype=np.float32)
    return np.asarray(side, dtype=np.float64)


def _bets(labels: pd.DataFrame, params: Params) -> int:
    bets = int((labels["side"] != 0.0).sum())
    if bets == 0:
        raise DataError(
            f"labels.primary = {params.labels.primary!r} takes a side at 0 of {len(labels)} labelled bars: "
            "give an expression that is above 0 to go long and below 0 to go short"
        )
    return bets


if __name__ == "__main__":
    stage.run("labels", work)
