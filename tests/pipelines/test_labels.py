"""The labels stage: from stored bars and features to labels that models can be fitted on."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from core.files import write_json
from models.targets import PRIMARY_SIDE
from pipelines import labels, stored
from pipelines.tables import write_table
from pipelines.workspace import STORE
from tests.pipelines.test_user_features import params_with, store_bars

WARMUP = 30
META = "labels.primary=zscore(close, 20)"


@pytest.fixture(scope="module")
def bars(sp500: pd.DataFrame) -> pd.DataFrame:
    return sp500.iloc[:400]


def prepare(root: Path, bars: pd.DataFrame, side: np.ndarray) -> Path:
    """What the stages before leave, with a feature matrix of the primary signal alone."""
    store_bars(root, bars)
    folder = root / STORE / "features"
    folder.mkdir(parents=True)
    write_table(folder / "matrix.parquet", pd.DataFrame({PRIMARY_SIDE: side}, index=bars.index))
    write_json(folder / "manifest.json", {"definitions": [[PRIMARY_SIDE, "close"]], "warmup": WARMUP})
    return root


def test_the_summary_tells_the_shares_and_the_weight(tmp_path: Path, bars: pd.DataFrame) -> None:
    said = labels.work(prepare(tmp_path, bars, np.ones(400)), params_with())
    table = stored.labels(tmp_path)
    up = table["label"].mean()
    assert said == f"365 labels, {1 - up:.1%} down, {up:.1%} up, weighing {table['weight'].sum():.0f}"
    assert table.index[0] == bars.index[WARMUP]


def test_three_classes(tmp_path: Path, bars: pd.DataFrame) -> None:
    chosen = params_with("labels.kind=triple_barrier", "labels.classes=3", "labels.take_profit=2.0")
    said = labels.work(prepare(tmp_path, bars, np.ones(400)), chosen)
    assert " flat, " in said
    assert set(stored.labels(tmp_path)["label"]) == {0.0, 1.0, 2.0}


@pytest.mark.parametrize("mode", ["uniqueness", "equal"])
def test_meta_labels_follow_the_primary_side_and_weigh_nothing_without_one(
    tmp_path: Path, bars: pd.DataFrame, mode: str
) -> None:
    side = np.random.default_rng(3).choice([-0.3, 0.0, 2.0, np.nan], 400)
    chosen = params_with(META, f"train.sample_weights={mode}")
    said = labels.work(prepare(tmp_path, bars, side), chosen)
    table = stored.labels(tmp_path)
    at = bars.index.get_indexer(table.index)
    sign = np.nan_to_num(np.sign(side))[at]
    close = bars["close"].to_numpy()
    assert (np.diff(at) == 1).all()
    assert table["side"].tolist() == sign.tolist()
    assert table["label"].tolist() == (sign * (close[at + 5] - close[at]) > 0).astype(float).tolist()
    assert ((table["weight"] > 0) == (sign != 0)).all()
    right = table.loc[sign != 0, "label"].mean()
    assert f"{len(at)} labels, {int((sign != 0).sum())} with a side, {1 - right:.1%} wrong, " in said


def test_a_side_that_float32_rounds_to_nothing_is_none(tmp_path: Path, bars: pd.DataFrame) -> None:
    side = np.where(np.arange(400) % 2 == 0, 1e-60, 1.0)
    labels.work(prepare(tmp_path, bars, side), params_with(META))
    assert set(stored.labels(tmp_path)["side"].iloc[::2]) == {0.0}


def test_a_primary_that_never_takes_a_side_is_refused_by_name(tmp_path: Path, bars: pd.DataFrame) -> None:
    side = np.where(np.arange(400) < WARMUP, 1.0, 0.0)
    with pytest.raises(
        DataError, match=r"labels\.primary = 'zscore.*' takes a side at 0 of 365 labelled bars"
    ):
        labels.work(prepare(tmp_path, bars, side), params_with(META))
    assert not (tmp_path / STORE / "labels").exists()


def test_a_primary_that_is_always_right_leaves_nothing_to_learn(tmp_path: Path, bars: pd.DataFrame) -> None:
    close = bars["close"].to_numpy()
    ahead = np.append(close[5:] - close[:-5], np.zeros(5))
    with pytest.raises(DataError, match=r"are wrong \(right 100\.0%\), every class must occur"):
        labels.work(prepare(tmp_path, bars, ahead), params_with(META))
