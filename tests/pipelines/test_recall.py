from hypothesis import given
from hypothesis import strategies as st

from pipelines.params import with_overrides
from pipelines.recall import differences

VALUES = st.one_of(st.none(), st.integers(), st.text(max_size=3), st.lists(st.integers(), max_size=2))
TREES = st.dictionaries(
    st.sampled_from(["data", "train"]), st.dictionaries(st.sampled_from("abc"), VALUES), max_size=2
)


@given(TREES, TREES)
def test_the_differences_applied_to_ours_give_theirs(
    ours: dict[str, dict[str, object]], theirs: dict[str, dict[str, object]]
) -> None:
    whole = with_overrides(ours, differences(ours, theirs))
    assert all(whole[block][key] == value for block in theirs for key, value in theirs[block].items())


def test_the_as_of_day_is_not_recalled() -> None:
    theirs = {"data": {"until": "2007-06-29", "symbol": "GOOG"}}
    assert differences({"data": {"until": None, "symbol": "sp500"}}, theirs) == {"data.symbol": "GOOG"}
