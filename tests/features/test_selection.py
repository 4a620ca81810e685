import itertools

import pytest

import features
from core.errors import ConfigurationError, DataError
from features.selection import NAME, RESERVED, require_history, select
from monitoring.prediction_table import Prediction

OWN = {"my_gap": "open / lag(close, 1) - 1", "calm": "std(returns, 5) / std(returns, 20)"}


def test_nothing_asked_for_is_the_catalogue():
    assert select({}, []) == features.definitions()


def test_own_features_follow_the_catalogue_by_name_and_are_canonical():
    chosen = select(OWN, [])
    assert list(chosen) == [*features.names(), "calm", "my_gap"]
    assert chosen["my_gap"] == "open / delay(close, 1) - 1"


def test_the_order_in_the_file_shapes_nothing():
    orders = [select(dict(order), []) for order in itertools.permutations(OWN.items())]
    assert len({tuple(chosen.items()) for chosen in orders}) == 1


def test_a_feature_left_out_is_gone_and_its_definition_free():
    chosen = select({"wilder_rsi": "rsi(close, 14)"}, ["rsi_14", "rsi_7"])
    assert {"rsi_14", "rsi_7"}.isdisjoint(chosen)
    assert chosen["wilder_rsi"] == features.definitions()["rsi_14"]
    assert list(select(OWN, features.names())) == sorted(OWN)


@pytest.mark.parametrize(
    ("user", "exclude", "rule"),
    [
        ({"rsi_14": "rsi(close, 13)"}, [], "catalogue has a feature 'rsi_14'"),
        ({"rsi_14": "rsi(close, 13)"}, ["rsi_14"], "catalogue has a feature 'rsi_14'"),
        ({"close": "close / open"}, [], "column beside the features"),
        ({"probability": "close / open"}, [], "column beside the features"),
        ({"": "close / open"}, [], "must be a letter"),
        ({"9x": "close / open"}, [], "must be a letter"),
        ({"a-b": "close / open"}, [], "must be a letter"),
        ({"ä": "close / open"}, [], "must be a letter"),
        ({"x" * 65: "close / open"}, [], "must be a letter"),
        ({"mine": "rsi(close, 7 * 2)"}, [], "means the same as feature 'rsi_14'"),
        ({"a": "close + 1", "b": "close + 1.0"}, [], "features.user.b: means the same as feature 'a'"),
        ({"mine": "close"}, [], "apply an operator"),
        ({"mine": "1 + 2"}, [], "apply an operator"),
        ({"mine": "delay(close, -1)"}, [], "read the future"),
        ({"mine": "__import__('os')"}, [], "expression language"),
        ({}, ["rsi_15"], "did you mean rsi_14"),
        ({}, ["nonsense!"], "`bellwether features` lists them"),
        ({}, features.names(), "leaves no feature"),
    ],
)
def test_a_fault_is_named(user, exclude, rule):
    with pytest.raises(ConfigurationError, match=rule):
        select(user, exclude)


def test_all_faults_come_together_each_with_its_caret():
    user = {"one": "close +", "two": "foo(close)", "rsi_14": "1 / bar", "ok": "close / open"}
    with pytest.raises(ConfigurationError) as caught:
        select(user, ["rsi_77"])
    faults = caught.value.faults
    assert [fault.split(": ")[0] for fault in faults] == [
        "features.exclude",
        "features.user.one",
        "features.user.rsi_14",
        "features.user.rsi_14",
        "features.user.two",
    ]
    assert faults[3].splitlines()[1:] == ["  1 / bar", "      ^"]


def test_columns_beside_the_features_are_reserved():
    assert set(Prediction.__struct_fields__) <= RESERVED
    assert not RESERVED & set(features.names())
    assert all(NAME.fullmatch(name) for name in features.names())


def test_history_shorter_than_a_warmup_is_refused_by_name():
    chosen = {"quick": "mean(close, 5)", "slow": "mean(close, 50)"}
    require_history(chosen, 50)
    with pytest.raises(DataError, match=r"49 bars.*slow after 49") as caught:
        require_history(chosen, 49)
    assert "quick" not in str(caught.value)
