"""Stage `labels`: what "up" means, when it becomes known, and how much a label weighs."""

from pathlib import Path

import numpy as np

from core.files import replace_directory
from models.labels import make_labels
from models.weights import uniqueness
from pipelines import stage, stored
from pipelines.params import Params
from pipelines.tables import write_table
from pipelines.workspace import STORE


def work(root: Path, params: Params) -> str:
    """Label every bar after warm-up whose whole window is known."""
    bars = stored.bars(root).bars
    labels = make_labels(bars, **params.labels.model_dump())
    warmup = stored.feature_manifest(root).warmup
    labels = labels[labels.index >= bars.index[warmup]]
    labels["weight"] = np.ones(len(labels))
    if params.train.sample_weights == "uniqueness":
        ends = labels["t1"].dt.as_unit("ns").astype(np.int64).to_numpy()
        every = bars.index.as_unit("ns").asi8
        labels["weight"] = uniqueness(labels.index.as_unit("ns").asi8, ends, every)
    with replace_directory(root / STORE / "labels") as out:
        write_table(out / "labels.parquet", labels)
    return f"{len(labels)} labels, {labels['label'].mean():.1%} up, weighing {labels['weight'].sum():.0f}"


if __name__ == "__main__":
    stage.run("labels", work)
