"""Parameters that any store accepts."""

import pytest

from evaluation.trials import TrialSet
from models.run_record import RunRecord, chunks, param_items


def record(**changes: object) -> RunRecord:
    facts: dict[str, object] = {
        "model": "test-1d",
        "symbol": "test",
        "timeframe": "1d",
        "as_of": "2018-12-31T21:00:00Z",
        "data_hash": "d",
        "params_hash": "p",
        "commit": "c",
        "dirty": True,
        "dvc_lock_sha256": "l",
        "tried": TrialSet("", 7),
    }
    return RunRecord(**{**facts, **changes})  # type: ignore[arg-type]


def test_nested_parameters_become_dotted_names() -> None:
    params = {
        "train": {"families": ["a", "b"], "seed": 1, "none": None},
        "data": {"path": "x y.csv"},
        "e": {},
    }
    assert dict(param_items(params)) == {
        "train.families": '["a", "b"]',
        "train.seed": "1",
        "train.none": "null",
        "data.path": "x y.csv",
        "e": "{}",
    }


def test_no_parameters_are_no_items() -> None:
    assert param_items({}) == []


def test_long_values_keep_head_and_hash() -> None:
    (_, value), (_, other) = param_items({"a": "z" * 9000, "b": "z" * 9001})
    assert len(value) == 6000
    assert value.startswith("zzz")
    assert value != other


def test_names_are_cut_to_what_the_store_takes() -> None:
    ((name, _),) = param_items({"a(b)%" + "k" * 300: 1})
    assert name == "a_b__" + "k" * 245


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (100, [100]), (250, [100, 100, 50])])
def test_chunks(count: int, sizes: list[int]) -> None:
    parts = list(chunks(range(count), 100))
    assert [len(part) for part in parts] == sizes
    assert [k for part in parts for k in part] == list(range(count))


def test_tags_leave_empty_values_out() -> None:
    tags = record(tags={"note": "x", "empty": ""}).tag_items()
    assert tags["dirty"] == "true"
    assert tags["trials"] == "7"
    assert tags["note"] == "x"
    assert not {"empty", "manifest_sha256"} & set(tags)
