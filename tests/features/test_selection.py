import itertools

import pytest

import features
from core.errors import ConfigurationError
from features.catalogue import CATALOGUES
from features.selection import NAME, RESERVED, select
from monitoring.prediction_table import Prediction

OWN = {"my_gap": "open / lag(close, 1) - 1", "my_calm": "std(returns, 5) / std(returns, 20)"}


@pytest.mark.parametrize("catalog", CATALOGUES)
def test_nothing_asked_for_is_the_catalogue(catalog):
    assert select(catalog, {}, []) == features.definitions(catalog)


def test_own_features_follow_the_catalogue_by_name_and_are_canonical():
    chosen = select("full", OWN, [])
    assert list(chosen) == [*features.names(), "my_calm", "my_gap"]
    assert chosen["my_gap"] == "open / delay(close, 1) - 1"


def test_the_order_in_the_file_shapes_nothing():
    orders = [select("full", dict(order), []) for order in itertools.permutations(OWN.items())]
    assert len({tuple(chosen.items()) for chosen in orders}) == 1


def test_a_feature_left_out_is_gone_and_its_definition_free():
    chosen = select("full", {"wilder_rsi": "rsi(close, 14)"}, ["rsi_14", "rsi_7"])
    assert {"rsi_14", "rsi_7"}.isdisjoint(chosen)
    assert chosen["wilder_rsi"] == features.definitions()["rsi_14"]
    assert list(select("full", OWN, features.names())) == sorted(OWN)


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
        ({}, ["rsi_141"], "did you mean rsi_14"),
        ({}, ["nonsense!"], "`bellwether features` lists them"),
        ({}, features.names(), "leaves no feature"),
    ],
)
def test_a_fault_is_named(user, exclude, rule):
    with pytest.raises(ConfigurationError, match=rule):
        select("full", user, exclude)


def test_all_faults_come_together_each_with_its_caret():
    user = {"one": "close +", "two": "foo(close)", "rsi_14": "1 / bar", "ok": "close / open"}
    with pytest.raises(ConfigurationError) as caught:
        select("full", user, ["rsi_77"])
    faults = caught.value.faults
    assert [fault.split(": ")[0] for fault in faults] == [
        "features.exclude",
        "features.user.one",
        "features.user.rsi_14",
        "features.user.rsi_14",
        "features.user.two",
    ]
    assert faults[3].splitlines()[1:] == ["  1 / bar", "      ^"]


def test_what_is_left_out_must_be_of_the_chosen_catalogue():
    other = next(name for name in features.names("full") if name not in features.names("core"))
    assert other not in select("full", {}, [other])
    with pytest.raises(ConfigurationError, match=f"'{other}' is not in catalogue core"):
        select("core", {}, [other])


def test_a_feature_of_another_catalogue_may_be_added():
    other = next(name for name in features.names("full") if name not in features.names("core"))
    text = features.definitions("full")[other]
    assert list(select("core", {other: text}, [])) == [*features.names("core"), other]


def test_faults_come_together_with_that_of_an_unknown_catalogue():
    with pytest.raises(ConfigurationError) as caught:
        select("cor", {"one": "close +"}, ["rsi_77"])
    assert caught.value.faults[0] == "features.catalog: catalogue 'cor' is unknown: did you mean core?"
    assert [fault.split(": ")[0] for fault in caught.value.faults] == [
        "features.catalog",
        "features.user.one",
    ]


def test_columns_beside_the_features_are_reserved():
    assert set(Prediction.__struct_fields__) <= RESERVED
    named = {feature.name for catalogue in CATALOGUES.values() for feature in catalogue}
    assert not RESERVED & named
    assert all(NAME.fullmatch(name) for name in named)
