"""The study of honesty, small: worlds are what they say, leaks are caught, killed studies go on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from benchmarks.honesty import page, study, worlds
from benchmarks.honesty.leaks import LEAKS, examine
from benchmarks.honesty.study import Task
from benchmarks.honesty.worlds import Edge, Floats


def kalman(returns: Floats, edge: Edge) -> Floats:
    """Forecasts of each return from those before it, by the textbook recursion, in units of SIGMA."""
    noise = (1 - edge.share) / edge.share
    mean, variance, told = 0.0, 1.0, np.empty(len(returns))
    for i, seen in enumerate(returns / worlds.SIGMA / np.sqrt(edge.share)):
        told[i] = mean
        gain = variance / (variance + noise)
        mean, variance = mean + gain * (seen - mean), variance * (1 - gain)
        mean, variance = edge.persistence * mean, edge.persistence**2 * variance + 1 - edge.persistence**2
    return told


class TestWorlds:
    @pytest.mark.parametrize("edge", list(study.EDGES.values()))
    def test_the_best_forecast_reaches_what_the_edge_says(self, edge: Edge) -> None:
        returns = worlds.drifting(np.random.default_rng(3), 300_000, edge)
        told = kalman(returns, edge)
        two = returns[:-1] + returns[1:]
        assert np.corrcoef(told, returns)[0, 1] == pytest.approx(edge.r, abs=0.006)
        assert (np.sign(told[:-1]) == np.sign(two)).mean() == pytest.approx(edge.hit_rate(2), abs=0.004)
        accounts = [np.sign(told) * (np.abs(told) > c * told.std()) * returns for c in np.arange(0, 2, 0.1)]
        sharpe = max(earned.mean() / earned.std() for earned in accounts) * np.sqrt(worlds.PERIODS)
        assert sharpe == pytest.approx(edge.sharpe(), abs=0.1)

    @pytest.mark.parametrize("edge", list(study.EDGES.values()))
    def test_an_honest_edge_is_not_too_good_to_be_true(self, edge: Edge) -> None:
        assert edge.sharpe() < 3
        assert edge.hit_rate(2) < 0.6

    def test_noise_is_noise(self) -> None:
        rng = np.random.default_rng(4)
        walk, garch = worlds.random_walk(rng, 200_000), worlds.garch(rng, 200_000)
        for returns in (walk, garch):
            assert abs(np.corrcoef(returns[1:], returns[:-1])[0, 1]) < 0.02
            assert returns.std() == pytest.approx(worlds.SIGMA, rel=0.1)
        clusters = [np.corrcoef(np.abs(r[1:]), np.abs(r[:-1]))[0, 1] for r in (walk, garch)]
        assert abs(clusters[0]) < 0.01
        assert clusters[1] > 0.1

    def test_bars_are_sound_and_open_where_they_closed(self) -> None:
        rng = np.random.default_rng(5)
        returns = worlds.random_walk(rng, 1000)
        bars = worlds.bars(rng, returns)
        body = bars[["open", "close"]]
        assert (bars["high"] >= body.max(axis=1)).all()
        assert (bars["low"] <= body.min(axis=1)).all()
        np.testing.assert_allclose(bars["open"][1:], bars["close"][:-1])
        np.testing.assert_allclose(np.log(bars["close"] / bars["open"]), returns)
        assert (bars["date"].dt.dayofweek < 5).all()


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.name)
def test_a_leak_is_caught_and_its_honest_twin_is_not(leak: Any) -> None:
    line = examine(leak)
    assert line["caught"]
    assert line["clean_passes"]
    assert line["found"]["detail"]
    better = line["without"] - line["with_leak"] if leak.measure == "log-loss" else line["with_leak"]
    assert better > 0, "a planted leak that scores nothing was not planted"


def test_there_are_ten() -> None:
    assert len({leak.name for leak in LEAKS}) == study.LEAKS == 10


class TestStudy:
    """Through the real stages, in a process of its own."""

    TASKS = (Task("random_walk", 0), Task("large", 0), Task("leak", 9))

    def test_a_killed_study_goes_on(self, tmp_path: Path) -> None:
        path = tmp_path / "results.jsonl"
        told: list[str] = []
        first = study.conduct(self.TASKS[:2], path, processes=1, tell=told.append)
        assert not first[self.TASKS[0]]["tradable"]
        assert first[self.TASKS[1]]["servable"]
        assert first[self.TASKS[1]]["sharpe"] > 1
        assert "minutes left" in told[-1]
        with path.open("a") as file:
            file.write('{"group": "leak", "num')  # killed while it wrote
        second = study.conduct(self.TASKS, path, processes=1, tell=told.append)
        assert {task: second[task] for task in first} == first
        assert len(path.read_text().splitlines()) == 3
        assert "2 of 3 results" in told[3]

    def test_the_plan_holds_what_the_study_promises(self) -> None:
        tasks = study.plan()
        counts = {group: sum(task.group == group for task in tasks) for group in {t.group for t in tasks}}
        assert counts == {
            "leak": 10, "random_walk": 200, "garch": 200, "small": 60, "middle": 60, "large": 60
        }  # fmt: skip


def made_up(tradable: int) -> list[study.Line]:
    """Results in which so many of ten data sets of each group may trade."""
    lines: list[study.Line] = []
    for task in study.plan(10, 10):
        own: study.Line = {"group": task.group, "number": task.number}
        if task.group == "leak":
            told = {"leak": f"leak {task.number}", "planted": "so", "check": "a.b", "measure": "Sharpe"}
            lines.append(
                {**own, **told, "caught": True, "clean_passes": True, "with_leak": 2.0, "without": 0.1}
            )
            continue
        passed = task.number < tradable
        verdict = {"tradable": passed, "servable": passed, "failed": [] if passed else ["deflated_sharpe"]}
        figures = {"sharpe": None if task.number == 9 else 0.1, "trades": 30, "rows": 99, "hit_rate": 0.51}
        lines.append({**own, **verdict, **figures, "cpu_seconds": 2.0})
    return lines


class TestPage:
    def test_equal_results_equal_bytes(self) -> None:
        lines = made_up(3)
        assert page.render(lines) == page.render(lines[::-1])
        assert page.plot(lines) == page.plot(lines[::-1])
        assert page.plot(lines) != page.plot(made_up(4))

    def test_targets(self) -> None:
        noisy = page.shortfalls(made_up(10))
        assert [text.split(":")[0] for text in noisy] == ["random_walk", "garch"]
        assert page.shortfalls(made_up(0))[0].startswith("large edge: 0 of 10")
        missed = [line | ({"caught": False} if line["group"] == "leak" else {}) for line in made_up(0)]
        assert len(page.shortfalls(missed)) == 11

    def test_the_interval_is_scipys(self) -> None:
        for count, of in ((0, 200), (3, 200), (57, 60), (60, 60)):
            low, high = page.Share(count, of).interval
            expected = binomtest(count, of).proportion_ci(0.95, method="wilson")
            assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)

    def test_both_files_are_written(self, tmp_path: Path) -> None:
        page.write(tmp_path, made_up(3))
        text = (tmp_path / "honesty.md").read_text()
        assert "3 of 10, 30.0%" in text
        assert "`deflated_sharpe` 7" in text
        assert (tmp_path / "honesty.svg").read_text().count("<svg") == 1
