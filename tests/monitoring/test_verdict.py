import json

import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from monitoring.decision import Severity
from monitoring.outcomes import performance
from monitoring.page import banner
from monitoring.verdict import DriftRules, DriftVerdict, assess

QUIET = [
    ("2004-12-31", "2005-01-03", "2006-06-30"),
    ("2005-12-30", "2006-01-03", "2006-12-29"),
    ("2012-12-31", "2013-01-02", "2014-12-31"),
    ("2016-12-30", "2017-01-03", "2017-12-29"),
]
WHOLE = DriftRules(window_rows=10_000, reference_rows=1000)


def judge_span(rows: pd.DataFrame, as_of: str, start: str, end: str, rules: DriftRules) -> DriftVerdict:
    features = [c for c in rows.columns if c != "probability"]
    return assess(rows[start:end], rows[:as_of], columns=features, rules=rules)


def test_the_crash_of_2008_is_flagged(feature_rows: pd.DataFrame) -> None:
    for rules in (DriftRules(), WHOLE):
        verdict = judge_span(feature_rows, "2007-06-29", "2007-07-02", "2009-03-09", rules)
        assert verdict.drifted
        assert "features" in verdict.signals
        assert verdict.severity >= Severity.HIGH
        assert "retrain" in verdict.action


@pytest.mark.parametrize(("as_of", "start", "end"), QUIET)
def test_a_quiet_stretch_is_not_flagged(feature_rows: pd.DataFrame, as_of: str, start: str, end: str) -> None:
    verdict = judge_span(feature_rows, as_of, start, end, DriftRules())
    assert not verdict.drifted
    assert verdict.severity < Severity.HIGH
    assert verdict.degradation == 0


@pytest.mark.parametrize(
    ("as_of", "start", "end", "flagged"),
    [("2007-06-29", "2007-07-02", "2009-03-09", True), *((*span, False) for span in QUIET)],
)
def test_the_shipped_features_tell_the_crash_from_quiet_years(
    catalogue_rows: pd.DataFrame, as_of: str, start: str, end: str, flagged: bool
) -> None:
    verdict = assess(catalogue_rows[start:end], catalogue_rows[:as_of], columns=list(catalogue_rows.columns))
    assert verdict.drifted == flagged
    assert (verdict.severity >= Severity.HIGH) == flagged


def test_false_alarms_outside_the_crash(feature_rows: pd.DataFrame) -> None:
    """Every quarter a model, then its first 250 bars: none of them asks for a retrain but the crash's."""
    found = {False: [], True: []}
    for end in range(1000, len(feature_rows) - 250, 63):
        rows = feature_rows.iloc[: end + 250]
        verdict = assess(rows.iloc[end:], rows.iloc[:end], columns=list(feature_rows.columns[:-1]))
        crash = verdict.window_end > "2007-12-31" and verdict.window_start < "2009-03-09"
        found[crash].append(verdict.severity >= Severity.HIGH)
    assert len(found[False]) >= 40
    assert np.mean(found[False]) <= 0.05
    assert np.mean(found[True]) >= 0.7


def test_two_sample_p_values_would_flag_a_quiet_year(feature_rows: pd.DataFrame) -> None:
    from scipy.stats import ks_2samp

    now, past = feature_rows["2006-01-03":"2006-12-29"], feature_rows[:"2005-12-30"].tail(1000)
    rejected = [ks_2samp(now[c], past[c]).pvalue < 0.05 for c in feature_rows.columns]
    assert np.mean(rejected) > 0.5


def test_independent_rows_without_drift_are_calm_and_a_shift_is_not(noise: pd.DataFrame) -> None:
    features = list(noise.columns[:-1])
    rules = DriftRules(window_rows=200)
    calm = assess(noise.iloc[800:], noise.iloc[:800], columns=features, rules=rules)
    moved = assess(noise.iloc[800:] + 1.0, noise.iloc[:800], columns=features, rules=rules)
    assert calm.severity is Severity.NONE
    assert moved.signals == ("features", "prediction")
    assert moved.share == 1.0
    assert moved.severity is Severity.HIGH


def test_verdict_is_json_and_says_its_sample_size(noise: pd.DataFrame) -> None:
    verdict = assess(noise.iloc[800:], noise.iloc[:800], columns=["x0"], subject="s-1h", version="3")
    content = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    assert content["severity"] == verdict.severity.name
    assert content["rows"] == 200
    assert content["window_end"] == noise.index[-1].isoformat()
    assert "fewer than 1000" in verdict.remark
    assert content["columns"][0]["name"] == "x0"


def test_a_feature_that_went_silent_is_a_signal_of_its_own(noise: pd.DataFrame) -> None:
    now = noise.iloc[800:].assign(x3=np.nan)
    verdict = assess(now, noise.iloc[:800], columns=list(noise.columns[:-1]))
    assert verdict.missing == ("x3",)
    assert verdict.signals == ("missing",)
    assert "x3" not in [c.name for c in verdict.columns]


def test_without_reference_predictions_the_verdict_says_so(noise: pd.DataFrame) -> None:
    verdict = assess(noise.iloc[800:], noise.iloc[:800, :10], columns=["x0"])
    assert verdict.prediction is None
    assert any("not compared" in reason for reason in verdict.reasons)


def test_a_short_reference_shortens_the_window_and_says_so(noise: pd.DataFrame) -> None:
    verdict = assess(noise.iloc[800:], noise.iloc[:300], columns=["x0", "x1"])
    assert verdict.rows == 150
    assert "cut from 200 to 150 bars" in verdict.remark
    with pytest.raises(DataError, match="100 rows, at least 120"):
        assess(noise.iloc[800:], noise.iloc[:100], columns=["x0"])


def test_bars_the_model_was_trained_on_are_named(noise: pd.DataFrame) -> None:
    verdict = assess(noise.iloc[700:], noise.iloc[:800], columns=["x0", "x1"])
    assert "50 of the bars do not come after the reference" in verdict.remark


def test_inputs_are_not_mutated(noise: pd.DataFrame) -> None:
    now, past = noise.iloc[800:].copy(), noise.iloc[:800].copy()
    assess(now, past, columns=["x0", "x1"])
    pd.testing.assert_frame_equal(now, noise.iloc[800:])
    pd.testing.assert_frame_equal(past, noise.iloc[:800])


def test_live_performance_raises_the_severity(noise: pd.DataFrame) -> None:
    verdict = assess(noise.iloc[800:], noise.iloc[:800], columns=["x0", "x1", "x2"])
    raised = verdict.observation(extra=("performance", "concept"), degradation=0.1)
    assert raised.severity is Severity.HIGH
    assert raised.signals == ("performance", "concept")


def test_a_verdict_with_live_outcomes_tells_of_them_everywhere(noise: pd.DataFrame) -> None:
    verdict = assess(noise.iloc[800:], noise.iloc[:800], columns=["x0", "x1", "x2"])
    wrong = np.tile([0.65, 0.35], 60)
    index = noise.index[:120]
    outcomes = pd.DataFrame(
        {"probability": wrong, "label": 1 - np.round(wrong), "t1": index + pd.Timedelta(hours=1)}, index=index
    )
    live = performance(outcomes)
    told = verdict.with_performance(live)
    assert live.degraded
    assert told.severity >= Severity.HIGH
    assert told.severity is verdict.observation(live.signals, live.degradation).severity
    assert "retrain" in told.action
    assert live.reasons[0] in told.reasons
    assert live.reasons[0] in banner(told)
    assert banner(told) != banner(verdict)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda now: now.drop(columns="x1"), "lacks 1 of 2 features.*x1"),
        (lambda now: now.iloc[:59], "59 rows, at least 60"),
        (lambda now: now.iloc[::-1], "ascending"),
        (lambda now: now.tz_localize(None), "UTC"),
        (lambda now: now * np.nan, "no feature is finite"),
    ],
)
def test_unusable_samples_are_refused(noise: pd.DataFrame, change, message: str) -> None:
    with pytest.raises(DataError, match=message):
        assess(change(noise.iloc[800:]), noise.iloc[:800], columns=["x0", "x1"])
