"""Laws that every feature obeys by being listed in the catalogue."""

import pkgutil
import re
from dataclasses import replace
from importlib import import_module

import numpy as np
import pandas as pd
import pytest

import features
from core.errors import ConfigurationError
from features import catalogue
from features.batch import CHUNK, bar_columns
from features.catalogue import CATALOGUES, FULL, compiled
from features.expression import operators_of
from features.layout import WARMUP
from features.parser import parse
from features.probes import (
    bits,
    differing,
    future,
    missing,
    needs_anchor,
    needs_variation,
    restore,
    stream,
)

MARKETS = ("sp500", "calm", "gaps", "flat_and_silent", "frozen", "huge", "tiny", "one_spike")
NAMES = [feature.name for feature in FULL]
FADING = {"ema", "wilder", "adaptive", "sar", "supertrend"}
RECURSIVE = [f.name for f in FULL if operators_of(parse(f.expression)) & FADING]
# places to cut history at, drawn once so that a failure can be repeated
CUTS = np.random.default_rng(158).random(4).round(4).tolist()
# undefined where the returns (or the volume) of a window do not vary at all
UNDEFINED_WHEN_STILL = [name for name, text in features.definitions().items() if needs_variation(text)]
# undefined before the first session, or month, that begins within history
ANCHORED = [name for name, text in features.definitions().items() if needs_anchor(text)]


def test_full_is_large_and_core_small_and_both_short_of_memory():
    assert len(FULL) >= 250
    assert features.warmup() <= 300
    assert len(features.names("core")) == 89
    assert features.warmup(features.definitions("core")) <= 260
    assert features.names() == NAMES
    assert features.definitions("core").items() <= features.definitions("full").items()


@pytest.mark.parametrize("catalog", CATALOGUES)
def test_a_catalogue_holds_each_name_and_each_definition_once(catalog):
    features_, definitions = CATALOGUES[catalog], features.definitions(catalog)
    assert list(definitions) == [feature.name for feature in features_]
    assert len(set(definitions)) == len(features_)
    assert len(set(definitions.values())) == len(features_)
    assert all(feature.range and feature.source and feature.group for feature in features_)


def test_every_module_of_features_is_in_a_catalogue():
    found = {name for _, name, _ in pkgutil.iter_modules(catalogue.__path__)} - {"core", "entry"}
    modules = [import_module(f"features.catalogue.{name}") for name in found]
    listed = {id(feature) for features_ in CATALOGUES.values() for feature in features_}
    assert [m.__name__ for m in modules if not {id(f) for f in m.FEATURES} <= listed] == []


def test_an_unknown_catalogue_is_refused_with_what_was_meant():
    with pytest.raises(ConfigurationError, match="'ful' is unknown: did you mean full"):
        features.definitions("ful")
    with pytest.raises(ConfigurationError, match="'x' is unknown: use one of core, full"):
        features.names("x")


@pytest.mark.parametrize("market", MARKETS)
def test_batch_equals_stream_bit_for_bit(market, markets, built):
    assert stream(markets[market], features.definitions(), built[market]) == []


@pytest.mark.parametrize("market", ["calm", "gaps", "flat_and_silent"])
def test_a_restored_stream_goes_on_bit_for_bit(market, markets, built):
    assert restore(markets[market], features.definitions(), built[market], [0.0, 1.0, *CUTS]) == []


@pytest.mark.parametrize("chunk", [1, 7, 256, CHUNK, 5000])
def test_block_size_changes_neither_values_nor_state(chunk, markets, built):
    program, columns = compiled(), bar_columns(markets["sp500"])
    out, state = np.empty((len(NAMES), columns.shape[1])), program.initial_state.copy()
    program.run(columns, state, program.buffers(chunk), out)
    whole = program.initial_state.copy()
    program.run(columns, whole, program.buffers(CHUNK), np.empty_like(out))
    assert (bits(out.T) == bits(built["sp500"])).all()
    np.testing.assert_array_equal(state, whole)


@pytest.mark.parametrize("market", ["sp500", "gaps", "flat_and_silent"])
@pytest.mark.parametrize("share", [0.0, 1.0, *CUTS])
def test_the_future_changes_nothing_before_it(market, share, markets, built):
    assert future(features.build, markets[market], built[market], [share]) == []


@pytest.mark.parametrize("poison", [np.nan, np.inf, -1.0, 0.0])
def test_not_even_unsound_future_values_reach_back(poison, markets):
    program, columns = compiled(), bar_columns(markets["calm"])
    clean, dirty = (np.empty((len(NAMES), columns.shape[1])) for _ in range(2))
    program.run(columns, program.initial_state.copy(), program.buffers(CHUNK), clean)
    columns[:, 400:] = poison
    program.run(columns, program.initial_state.copy(), program.buffers(CHUNK), dirty)
    assert (bits(clean[:, :400]) == bits(dirty[:, :400])).all()


def test_inputs_are_not_changed(markets):
    bars = markets["calm"].copy()
    before = bars.copy(deep=True)
    result = features.build(bars)
    result.iloc[:] = 0.0
    pd.testing.assert_frame_equal(bars, before)


@pytest.mark.parametrize("name", NAMES)
def test_first_defined_row_is_the_warmup(name, built):
    first = np.flatnonzero(built["sp500"][name].notna())[0]
    warmup = parse(features.definitions()[name]).warmup
    assert first == warmup or (name in ANCHORED and first > warmup)


def test_warmup_of_windows_is_where_the_kernels_themselves_begin(markets):
    program = compiled()
    columns = bar_columns(markets["sp500"])[:, :400].copy()
    code = program.code.copy()
    code[:, WARMUP] = 0
    out, ungated = np.empty((len(NAMES), 400)), replace(program, code=code)
    ungated.run(columns, ungated.initial_state.copy(), ungated.buffers(64), out)
    for name, row, warmup in zip(NAMES, out, program.warmups, strict=True):
        first = np.flatnonzero(~np.isnan(row))[0]
        assert first == warmup or name in (RECURSIVE if first < warmup else ANCHORED), name


@pytest.mark.parametrize("market", MARKETS)
def test_nan_after_warmup_only_where_nothing_varies(market, built):
    still = market in ("flat_and_silent", "frozen")
    assert [name for name in UNDEFINED_WHEN_STILL if not still and _gaps(built[market], name)] == []
    allowed = {name for name in ANCHORED if built[market][name].isna().all()}  # half a day has no month
    allowed |= set(UNDEFINED_WHEN_STILL) if market == "frozen" else set()
    found = missing(built[market], features.definitions())
    assert [finding for finding in found if finding.feature not in allowed] == []


def _gaps(frame: pd.DataFrame, name: str) -> bool:
    return bool(frame[name].iloc[parse(features.definitions()[name]).warmup :].isna().any())


@pytest.mark.parametrize("market", MARKETS)
def test_no_value_is_infinite_or_outside_its_stated_range(market, built):
    for feature in FULL:
        values = built[market][feature.name].dropna()
        assert np.isfinite(values).all()
        bounds = re.match(r"[\[(](-?[\d.]+|-inf), (-?[\d.]+|inf)[\])]", feature.range)
        if bounds:
            low, high = map(float, bounds.groups())
            slack = 1e-9 * max(1.0, abs(high) if np.isfinite(high) else 1.0)
            assert ((values >= low - slack) & (values <= high + slack)).all(), feature.name


def test_a_frozen_market_reads_as_neutral(built):
    last = built["frozen"].iloc[-1]
    assert last.isna().sum() == len(UNDEFINED_WHEN_STILL) > 0
    neutral = {
        "rsi_14": 50,
        "stochastic_14": 50,
        "mfi_14": 50,
        "bollinger_position_20": 0.5,
        "volume_ratio_20": 1,
    }
    neutral |= {
        "return_20": 0,
        "sma_ratio_200": 0,
        "zscore_close_50": 0,
        "macd_12_26": 0,
        "adx_9": 0,
        "cci_20": 0,
    }
    for name, value in neutral.items():
        assert last[name] == value, name


@pytest.mark.parametrize("skipped", [1, 17, 1024, 3000])
def test_windowed_features_do_not_depend_on_where_history_begins(skipped, markets, built):
    later = features.build(markets["sp500"].iloc[skipped:])
    for name, warmup in zip(NAMES, compiled().warmups, strict=True):
        start = int(later[name].notna().argmax()) if name in ANCHORED else warmup
        full = built["sp500"][name].iloc[skipped + start :]
        if name in RECURSIVE:
            np.testing.assert_allclose(later[name].iloc[start:], full, rtol=1e-3, atol=1e-3, err_msg=name)
        else:
            assert (bits(later[name].iloc[start:]) == bits(full)).all(), name


def test_scale_free_features_do_not_change_with_the_currency(markets):
    bars = markets["calm"]
    scaled = bars.copy()
    scaled.iloc[:, :4] *= 1024.0
    scaled["volume"] *= 0.5
    pd.testing.assert_frame_equal(features.build(scaled), features.build(bars), rtol=1e-9, atol=1e-9)


def test_all_faults_of_definitions_are_reported_together():
    with pytest.raises(ConfigurationError) as caught:
        features.warmup({"a": "mean(close, -1)", "b": "mean(close, 5)", "c": "eval(close)"})
    assert len(caught.value.faults) == 2
    assert "'a'" in str(caught.value)
    assert "'c'" in str(caught.value)


def test_definitions_are_canonical_and_rebuild_the_same_features(markets, built):
    definitions = features.definitions()
    assert all(parse(text).text == text for text in definitions.values())
    subset = {name: definitions[name] for name in ("adx_9", "return_1", "cci_20")}
    rebuilt = features.build(markets["calm"], subset)
    assert list(rebuilt.columns) == list(subset)
    assert differing(rebuilt, built["calm"][list(subset)]) == []
