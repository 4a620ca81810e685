"""What the soak calls flat, and a few seconds of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.figure import Figure
from benchmarks.serving_soak import Plan, Sample, growth, judge, soak
from tests.serving.kit import make_bundle

Leak = Callable[[float], float]
QUIET = Sample(0.0, 160.0, threads=4, descriptors=18)
RISE = "resident memory, rise of its line"


def run_of(leak: Leak) -> list[Sample]:
    """Eight minutes, a second apart: noise of 1 MB, 30 MB more for a second at every hot swap, and a leak."""
    noise = np.random.default_rng(0).normal(0, 1, 480)
    return [
        Sample(float(at), 100 + noise[at] + 30 * (at % 30 == 7) + leak(at / 480), 9, 40) for at in range(480)
    ]


def missed(figures: list[Figure]) -> list[str]:
    return [figure.what for figure in figures if figure.met is False]


@pytest.mark.parametrize("leak", [lambda share: 0.0, lambda share: 3 * share, lambda share: -40 * share])
def test_noise_swaps_and_memory_given_back_are_flat(leak: Leak) -> None:
    assert missed(list(judge(run_of(leak), QUIET, QUIET))) == []


@pytest.mark.parametrize(
    "leak",
    [lambda share: 8 * share, lambda share: 10 * (share > 0.5), lambda share: 30 * (share > 0.9)],
    ids=["steady", "step", "late"],
)
def test_a_leak_is_not(leak: Leak) -> None:
    assert missed(list(judge(run_of(leak), QUIET, QUIET))) == [RISE]


def test_growth_is_of_the_whole_span_whatever_the_spacing() -> None:
    samples = [Sample(at, 100 + at / 50, 4, 18) for at in (0.0, 1.0, 7.0, 100.0, 500.0)]
    assert growth(samples) == pytest.approx(10)


@pytest.mark.parametrize("kind", ["threads", "descriptors"])
def test_one_more_thread_or_descriptor_is_missed(kind: str) -> None:
    after = replace(QUIET, **{kind: getattr(QUIET, kind) + 1})
    assert missed(list(judge(run_of(lambda _: 0.0), QUIET, after))) == [f"{kind}, more at the end"]
    assert missed(list(judge(run_of(lambda _: 0.0), after, QUIET))) == []


def test_a_process_too_large_is_missed() -> None:
    large = [replace(sample, megabytes=sample.megabytes + 90) for sample in run_of(lambda _: 0.0)]
    assert missed(list(judge(large, QUIET, QUIET))) == ["resident memory, most"]


@pytest.mark.e2e
def test_a_few_seconds_of_it(tmp_path: Path, bars: pd.DataFrame) -> None:
    bundles = [make_bundle(tmp_path / v, bars, bias=int(v) / 10, version=v) for v in ("1", "2")]
    figures = soak(bundles, tmp_path / "home", Plan(5.0, rate=150, swap_seconds=1.0, quiet_seconds=0.5))
    values = {figure.what: figure.value for figure in figures}
    # a second of warm-up leaves memory and threads still growing into their size
    assert set(missed(figures)) <= {RISE, "threads, more at the end"}
    assert values["requests answered"] > 300
    assert values["of them refused as they should be"] > 10
    assert values["hot swaps that came"] >= 3
