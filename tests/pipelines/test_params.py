from datetime import date
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigurationError
from pipelines.params import check, check_names, known_names, load, parse_overrides, read_tree, with_overrides

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tree() -> dict[str, Any]:
    return read_tree(ROOT / "params.yaml")


def test_the_shipped_parameters_are_valid() -> None:
    assert load(ROOT / "params.yaml").data.symbol == "sp500"


def test_every_parameter_in_the_file_is_known_and_the_reverse(tree: dict[str, Any]) -> None:
    in_file = {
        f"{block}.{key}"
        for block, values in tree.items()
        for key in (values if isinstance(values, dict) else {})
    }
    assert in_file == set(known_names())


def test_all_faults_are_reported_together(tree: dict[str, Any]) -> None:
    bad = with_overrides(
        tree,
        {
            "labels.horizn": 3,
            "labels.horizon": 0,
            "splits.scheme": "sideways",
            "train.seed": "many",
            "gaet.x": 1,
        },
    )
    with pytest.raises(ConfigurationError) as caught:
        check(bad)
    faults = "\n".join(caught.value.faults)
    assert "labels.horizn is not a parameter: did you mean labels.horizon?" in faults
    assert "labels.horizon = 0: " in faults
    assert "splits.scheme = 'sideways'" in faults
    assert "train.seed = 'many'" in faults
    assert "gaet is not a parameter" in faults
    assert len(caught.value.faults) == 5


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        ({"data.start": "2010-01-01", "data.until": "2009-01-01"}, "must be before until"),
        ({"data.source": "csv"}, "needs path"),
        ({"data.path": "bars.csv"}, "set data.source=csv"),
        ({"backtest.buy": 0.7}, "sell < buy < strong_buy"),
        ({"train.families": ["logistic", "lightgbm"]}, "must hold base_rate"),
        ({"train.families": ["base_rate", "logistic", "logistic"]}, "names logistic twice"),
        ({"labels.classes": 3}, "needs kind triple_barrier"),
        (
            {"labels.kind": "triple_barrier", "labels.classes": 3, "labels.primary": "close"},
            "exclude each other",
        ),
        ({"labels.primary": "close", "features.user": {"primary_side": "open"}}, "taken by labels.primary"),
        ({"splits.groups": 2}, "more than test_groups 2"),
        ({"data.symbol": "../etc"}, "data.symbol"),
        ({"labels.horizon": 2.5}, "labels.horizon"),
        ({"labels.horizon": True}, "labels.horizon"),
        ({"validate.max_jump": float("nan")}, "validate.max_jump"),
        ({"data.timeframe": "fortnight"}, "data.timeframe"),
        ({"data.until": date(2007, 6, 29)}, "quote the day"),
        ({"data.until": "June 2007"}, "data.until"),
    ],
)
def test_rules_between_values(tree: dict[str, Any], overrides: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConfigurationError, match=rule):
        check(with_overrides(tree, overrides))


def test_overrides_are_yaml_values() -> None:
    parsed = parse_overrides(["a.b=1", "a.c=x=y", "a.d=2007-06-29", "a.e=[1, 2]", "a.f=null"])
    assert parsed == {"a.b": 1, "a.c": "x=y", "a.d": "2007-06-29", "a.e": [1, 2], "a.f": None}


def test_malformed_overrides_are_listed_together() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_overrides(["nothing", "flat=1", "a.b=[1", "a.c=2007-13-29"])
    assert len(caught.value.faults) == 4
    assert "month must be in 1..12" in caught.value.faults[-1]


def test_parameters_of_a_family_that_is_not_trained_are_checked_too(tree: dict[str, Any]) -> None:
    fewer = {"train.families": ["base_rate", "logistic"], "train.lightgbm": {"num_leafs": 3}}
    with pytest.raises(ConfigurationError, match="num_leafs"):
        check_names(check(with_overrides(tree, fewer)))


def test_overriding_leaves_the_tree_as_it_was(tree: dict[str, Any]) -> None:
    changed = with_overrides(tree, {"labels.horizon": 99})
    assert changed["labels"]["horizon"] == 99
    assert tree["labels"]["horizon"] != 99


def test_the_digest_follows_values_not_spelling(tree: dict[str, Any]) -> None:
    same = check(dict(reversed(tree.items())))
    assert same.digest == check(tree).digest
    assert check(with_overrides(tree, {"labels.horizon": 6})).digest != same.digest


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"params\.yaml"):
        load(tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["a: {b: 1, b: 2}", "a:\n  c: 1\nd: 2\na:\n  c: 2"])
def test_a_key_given_twice_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match="is given twice"):
        read_tree(tmp_path / "params.yaml")


def test_anchors_may_be_merged(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("a: &x {b: 1}\nc: {<<: *x, d: 2}")
    assert read_tree(tmp_path / "params.yaml")["c"] == {"b": 1, "d": 2}


def test_a_folder_in_the_files_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").mkdir()
    with pytest.raises(ConfigurationError, match=r"params\.yaml cannot be read"):
        read_tree(tmp_path / "params.yaml")


def test_labels_name_their_target_and_what_it_needs(tree: dict[str, Any]) -> None:
    def labels(**values: Any) -> Any:
        return check(with_overrides(tree, {f"labels.{key}": value for key, value in values.items()})).labels

    assert labels().target == "direction"
    assert labels().definition() == {"kind": "fixed_horizon", "horizon": 5}
    three = labels(kind="triple_barrier", classes=3)
    assert three.target == "barrier"
    assert three.definition()["classes"] == 3
    meta = labels(primary="close - ema(close, 20)")
    assert meta.target == "meta"
    assert meta.features == {"primary_side": "close - ema(close, 20)"}
    assert meta.definition()["primary"] == "close - ema(close, 20)"


def test_a_primary_signal_is_a_feature_that_is_checked(tree: dict[str, Any]) -> None:
    good = check(with_overrides(tree, {"labels.primary": "close - ema(close, 20)"}))
    check_names(good)
    assert good.all_features == {"primary_side": "close - ema(close, 20)"}
    with pytest.raises(ConfigurationError, match=r"^labels\.primary: unknown function 'emma'"):
        check_names(check(with_overrides(tree, {"labels.primary": "emma(close)"})))


def test_a_primary_that_the_catalogue_has_is_told_how_to_be_one(tree: dict[str, Any]) -> None:
    known = "log(close) - delay(log(close), 1)"
    with pytest.raises(ConfigurationError, match=r"^labels\.primary: .* 'return_1': wrap it in sign"):
        check_names(check(with_overrides(tree, {"labels.primary": known})))
    for remedy in ({"labels.primary": f"sign({known})"}, {"features.exclude": ["return_1"]}):
        check_names(check(with_overrides(tree, {"labels.primary": known, **remedy})))
