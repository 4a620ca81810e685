"""A user's own expression from params.yaml to the bundle, stage by stage."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import features
from core.bundle import STATE, Manifest, unpack_state, verify
from core.errors import ConfigurationError, DataError
from core.files import write_json
from core.timeframe import Timeframe
from data.parquet import write_bars
from data.versions import bars_hash
from pipelines import evaluate, export, gate, labels, stored, train
from pipelines import features as features_stage
from pipelines.params import Params, check, check_names, parse_overrides, read_tree, with_overrides
from pipelines.workspace import STORE

ROOT = Path(__file__).resolve().parents[2]
OWN = 'features.user={my_gap: "open / lag(close, 1) - 1"}'
QUICK = {
    "train.families": ["base_rate", "logistic"],
    "train.processes": 1,
    "splits.max_folds": 4,
    "features.exclude": ["rsi_7"],
}


def params_with(*assignments: str, **values: Any) -> Params:
    overrides = {**QUICK, **parse_overrides(assignments), **values}
    return check(with_overrides(read_tree(ROOT / "params.yaml"), overrides))


def store_bars(root: Path, bars: pd.DataFrame) -> None:
    """What the validate stage leaves."""
    folder = root / STORE / "validate"
    write_bars(folder / "bars", bars, "sp500", Timeframe.parse("1d"))
    facts = {"source": "arch_sp500", "description": "", "symbol": "sp500", "timeframe": "1d"}
    facts |= {"calendar": "XNYS", "data_hash": bars_hash(bars), "rows": len(bars)}
    facts |= {"first": bars.index[0].isoformat(), "last": bars.index[-1].isoformat()}
    write_json(folder / "bars.json", facts)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, sp500: pd.DataFrame) -> tuple[Path, str]:
    """A workspace after every stage over the first bars, and what the features stage said."""
    root, params = tmp_path_factory.mktemp("workspace"), params_with(OWN)
    store_bars(root, sp500.iloc[:2600])
    said = features_stage.work(root, params)
    for stage in (labels, train, evaluate, export, gate):
        stage.work(root, params)
    return root, said


@pytest.fixture(scope="module")
def manifest(built: tuple[Path, str]) -> Manifest:
    return verify(built[0] / STORE / "bundle")


def test_it_is_a_column_of_the_matrix(built: tuple[Path, str], sp500: pd.DataFrame) -> None:
    matrix = stored.feature_matrix(built[0])
    expected = [name for name in features.names("core") if name != "rsi_7"]
    assert list(matrix.columns) == [*expected, "my_gap"]
    gap = sp500["open"].iloc[:2600] / sp500["close"].iloc[:2600].shift(1) - 1
    np.testing.assert_allclose(matrix["my_gap"], gap, rtol=1e-12)
    assert "89 features (1 your own)" in built[1]


def test_it_is_an_input_of_the_model_and_defined_in_the_bundle(manifest: Manifest) -> None:
    assert manifest.definitions["my_gap"] == "open / delay(close, 1) - 1"
    assert "rsi_7" not in manifest.definitions


def test_live_goes_on_from_the_bundle_as_batch_does(
    built: tuple[Path, str], manifest: Manifest, sp500: pd.DataFrame
) -> None:
    checkpoint, _ = unpack_state((built[0] / STORE / "bundle" / STATE).read_bytes())
    live = features.Stream(manifest.definitions)
    live.restore(checkpoint)
    batch = features.build(sp500.iloc[:2610], manifest.definitions)
    for time, bar in sp500.iloc[2600:2610].iterrows():
        assert live.push(*bar, time.timestamp()).tobytes() == batch.loc[time].to_numpy().tobytes()


def test_every_fault_is_reported_before_anything_runs() -> None:
    user = {"a": "close +", "rsi_14": "close / foo(3)", "b": "open / close"}
    with pytest.raises(ConfigurationError) as caught:
        check_names(
            params_with(**{"features.user": user, "features.exclude": ["rsi_77"], "data.source": "x"})
        )
    text = "\n".join(caught.value.faults)
    assert len(caught.value.faults) == 5
    assert "data.source 'x' is unknown" in text
    assert "features.user.a: invalid syntax\n  close +\n         ^" in text
    assert "features.user.rsi_14: unknown function 'foo'" in text
    assert "features.exclude: 'rsi_77' is not in catalogue core" in text


@pytest.mark.parametrize(
    ("value", "place"), [({"x": 5}, "features.user.x"), (None, "features.user"), ("close", "features.user")]
)
def test_what_is_no_mapping_of_texts_is_refused(value: object, place: str) -> None:
    with pytest.raises(ConfigurationError, match=place):
        params_with(**{"features.user": value})


def test_one_feature_may_be_added_by_its_dotted_name() -> None:
    added = params_with("features.user.my_gap=open / lag(close, 1) - 1")
    assert added.features.user == {"my_gap": "open / lag(close, 1) - 1"}


def test_the_digest_follows_own_features_and_is_as_before_without() -> None:
    plain = params_with(**{"features.exclude": []})
    assert plain.digest != params_with(OWN, **{"features.exclude": []}).digest
    assert plain.digest != params_with().digest
    assert plain.digest == check(plain.model_dump(by_alias=True)).digest


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("mean(close, 301)", "300 bars.*own after 300"),
        ("log(close - high)", "own: no value at any bar"),
        ("square(square(close)) * square(square(volume))", r"own: .* beyond 3\.4e\+38"),
    ],
)
def test_what_the_data_cannot_give_is_refused_by_name(
    expression: str, message: str, sp500: pd.DataFrame, tmp_path: Path
) -> None:
    store_bars(tmp_path, sp500.iloc[:300])
    with pytest.raises(DataError, match=message) as caught:
        features_stage.work(tmp_path, params_with(**{"features.user": {"own": expression}}))
    assert "rsi" not in str(caught.value)
    assert not (tmp_path / STORE / "features").exists()
