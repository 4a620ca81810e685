"""The report opens offline, says the verdict, and is the same bytes every time."""

import re
import subprocess
import sys
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from evaluation import readings
from evaluation.evidence import assemble
from evaluation.gates import judge
from evaluation.report import ReportInput, render
from evaluation.verdict import ServeRules, TradeRules, next_step

VOID = {"meta", "br", "link", "img", "input"}


class Balance(HTMLParser):
    """Collects ids and checks that tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def page_input(inputs, record, parity) -> ReportInput:
    rng = np.random.default_rng(0)
    return ReportInput(
        title="sp500 1d <test>",
        verdict=judge(record, parity, ServeRules(), TradeRules(), bundle_fault=None),
        pedigree={"source": "arch_sp500", "data hash": "3f" * 32, "note": "<script>alert(1)</script>"},
        evidence=record,
        times=pd.date_range("2007-01-03", periods=900, freq="D", tz="UTC"),
        returns=rng.normal(0.0003, 0.01, 900),
        benchmark=rng.normal(0.0003, 0.01, 900),
        y=inputs["y"],
        p=inputs["probabilities"]["ensemble"],
        thresholds=(0.45, 0.55),
    )


@pytest.fixture
def every_section(page_input, whole) -> ReportInput:
    return replace(page_input, evidence=assemble(**whole))


def test_page_is_deterministic_whatever_the_user_configured(every_section):
    import matplotlib as mpl

    page_input = every_section
    first = render(page_input)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.fonttype": "path"}):
        assert render(page_input) == first


def test_drawing_leaves_the_settings_alone(page_input):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    render(page_input)
    assert dict(mpl.rcParams) == before


def test_page_is_one_offline_document(every_section):
    page = render(every_section)
    assert not re.search(r'(?:src|href)="(?!#)', re.sub(r'xmlns[:\w]*="[^"]*"', "", page))
    assert "<script" not in page
    assert not re.search(r"url\((?!#)", page)
    assert page.count("<svg") == 12
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    # what the plots refer to is there
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', page))
    assert used
    assert used <= set(parser.ids)


def test_every_section_has_its_readings(every_section):
    page = unescape(render(every_section))
    evidence = every_section.evidence
    for reading in [
        *readings.luck(evidence),
        *readings.intervals(evidence["intervals"]),
        *readings.regimes(evidence["regimes"]),
        *readings.paths(evidence["paths"]),
        readings.importance(evidence["importance"]),
        readings.leaks(evidence["leaks"]),
        next_step(every_section.verdict),
    ]:
        assert reading in page


def test_three_classes_and_a_signal_of_their_own(page_input, record):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 400)
    y = rng.integers(0, 3, 400)
    classes = [
        {"name": name, "share": share} for name, share in (("stop", 0.3), ("flat", 0.3), ("profit", 0.4))
    ]
    shown = replace(
        page_input, y=y, p=p, signal=p[:, 2] + p[:, 1] / 2, evidence={**record, "classes": classes}
    )
    page = render(shown)
    assert "predicted probability of profit" in page
    assert "40.0% profit" in page
    assert "log-loss 1.0986" in page
    assert page != render(replace(shown, signal=None))


def test_text_is_escaped(page_input):
    page = render(page_input)
    assert "&lt;script&gt;alert(1)" in page
    assert "sp500 1d &lt;test&gt;" in page


def test_headline_and_reasons_follow_the_verdict(page_input, record, parity):
    assert "Tradable: serves" in render(page_input)
    for rules, fault, headline in [
        ((ServeRules(), TradeRules(min_dsr=1.0)), None, "its signal is always hold"),
        ((ServeRules(max_skill_p=0.0), TradeRules()), None, "not good enough"),
        ((ServeRules(), TradeRules()), "model.onnx differs", "failed its integrity checks"),
    ]:
        verdict = judge(record, parity, *rules, bundle_fault=fault)
        page = render(replace(page_input, verdict=verdict))
        assert headline in page
        assert "FAILED" in page


def test_every_model_and_rule_is_listed(page_input, record):
    page = render(page_input)
    for name in record["models"]:
        assert f">{name}</td>" in page
    for check in page_input.verdict.checks:
        assert f">{check.rule}</td>" in page


def test_page_without_what_was_not_measured(page_input, record):
    """Neither accounts bar by bar, nor importance, paths, leak checks or trades."""
    bare = {**record, "importance": None, "leaks": None}
    bare["backtest"] = {**record["backtest"], "sharpe": None, "trades": 0}
    page = render(replace(page_input, returns=np.zeros(900), evidence=bare))
    assert page.count("<svg") == 5
    assert "<b>–</b>" in page
    assert "No leak check was run." in page


def test_long_histories_stay_small_and_keep_the_extremes(page_input):
    n = 200_000
    rng = np.random.default_rng(1)
    returns = rng.normal(0, 1e-4, n)
    times = pd.date_range("2020-01-01", periods=n, freq="min", tz="UTC")
    page = render(replace(page_input, times=times, returns=returns, benchmark=returns[::-1]))
    assert len(page) < 1_500_000


def test_unequal_lengths_are_refused(page_input):
    with pytest.raises(DataError, match="same bars"):
        render(replace(page_input, returns=np.zeros(5)))
    with pytest.raises(DataError, match="y and p differ"):
        render(replace(page_input, y=np.zeros(5)))


def test_report_is_light_to_import():
    code = "import sys, evaluation.report; print('matplotlib' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"


def test_an_account_that_never_moved_lost_nothing_rather_than_minus_nothing():
    still = {"estimate": 0.0, "low": 0.0, "high": 0.0}
    names = ("sharpe", "sharpe_excess", "log_loss_gain", "hit_rate", "max_drawdown")
    read = readings.intervals({"reason": None, "figures": dict.fromkeys(names, still)})
    assert read[-1] == "The largest drawdown was 0.0%; an equally likely history could have shown 0.0%."
