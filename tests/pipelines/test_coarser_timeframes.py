"""A feature of a coarser timeframe from params.yaml through the stages that use its warm-up."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import features
from core.errors import ConfigurationError, DataError
from core.settings import Settings
from core.timeframe import Timeframe
from features.probes import streamed_rows
from pipelines import features as features_stage
from pipelines import labels, stored
from pipelines.feature_tools import Bars, Tools, compute, explain, look_for_leaks
from pipelines.params import Params
from pipelines.tables import read_table
from pipelines.workspace import STORE
from tests.pipelines.test_user_features import params_with, store_bars

WEEKLY = {"weekly": "close / on('1w', mean(close, 80)) - 1"}


def own(user: dict[str, str]) -> Params:
    kept = features.names("core")[:3]
    left_out = [name for name in features.names("core") if name not in kept]
    return params_with(**{"features.user": user, "features.exclude": left_out})


def tools(root: Path, user: dict[str, str]) -> Tools:
    return Tools(Settings(home=root), own(user), user)


def test_the_manifest_has_the_row_at_which_these_bars_made_it_warm(
    tmp_path: Path, sp500: pd.DataFrame
) -> None:
    bars = sp500.iloc[:1200]
    store_bars(tmp_path, bars)
    said = features_stage.work(tmp_path, own(WEEKLY))
    manifest, matrix = stored.feature_manifest(tmp_path), stored.feature_matrix(tmp_path)
    assert features.warmup(manifest.definitions) < 250
    # the 80th whole week is over with the first bar of the 82nd
    weeks = bars.index.tz_localize(None).to_period("W-SUN")
    assert manifest.warmup == int((weeks == weeks.unique()[81]).argmax())
    assert f"warm after {manifest.warmup} bars" in said
    assert matrix.iloc[manifest.warmup :].notna().all(axis=None)
    assert np.isnan(matrix["weekly"].iloc[manifest.warmup - 1])
    labels.work(tmp_path, own(WEEKLY))
    assert stored.labels(tmp_path).index[0] == bars.index[manifest.warmup]
    live = features.Stream(manifest.definitions)
    live.restore((tmp_path / STORE / "features" / "checkpoint.bin").read_bytes())
    later = features.build(sp500.iloc[:1230], manifest.definitions)
    rows = np.array(list(streamed_rows(live, sp500.iloc[1200:1230])))
    assert rows.tobytes() == later.iloc[1200:].to_numpy().tobytes()


@pytest.mark.parametrize("timeframe", ["1d", "4h", "36h"])
def test_a_timeframe_that_is_not_coarser_stops_the_stage(
    tmp_path: Path, sp500: pd.DataFrame, timeframe: str
) -> None:
    store_bars(tmp_path, sp500.iloc[:600])
    with pytest.raises(ConfigurationError, match=r"mine: .*on bars of 1d: .* such as 2d"):
        features_stage.work(tmp_path, own({"mine": f"close / on('{timeframe}', close)"}))
    assert not (tmp_path / STORE / "features").exists()


def test_too_little_history_is_said_in_coarser_bars(tmp_path: Path, sp500: pd.DataFrame) -> None:
    store_bars(tmp_path, sp500.iloc[:350])
    with pytest.raises(DataError, match="weekly after 80 and 80 whole bars of 1w"):
        features_stage.work(tmp_path, own(WEEKLY))


def test_the_tools_know_it_too(tmp_path: Path, sp500: pd.DataFrame) -> None:
    bars, found = Bars(sp500.iloc[:1200], Timeframe.parse("1d"), "bars"), tools(tmp_path, WEEKLY)
    compute(found, [], bars, tmp_path / "out.parquet")
    written = read_table(tmp_path / "out.parquet")["weekly"]
    assert look_for_leaks(found, [], bars)["findings"] == []
    facts = explain(found, "weekly", bars, tmp_path / "page.html")
    assert facts["warmup"] == int(written.notna().argmax())
    assert facts["statistics"]["missing"] == 0
    assert "on(timeframe, x)" in facts["operators"]
    longer = Bars(sp500.iloc[:1200], Timeframe.parse("2w"), "bars")
    with pytest.raises(ConfigurationError, match="on bars of 2w"):
        compute(found, [], longer, tmp_path / "out.parquet")
    with pytest.raises(ConfigurationError, match="on bars of 2w"):
        look_for_leaks(found, [], longer)
    with pytest.raises(ConfigurationError, match="on bars of 2w"):
        explain(found, "weekly", longer, tmp_path / "page.html")
