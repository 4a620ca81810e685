"""docs/honesty.md and docs/honesty.svg from the results: equal results, equal bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from math import sqrt
from pathlib import Path
from statistics import NormalDist, median
from typing import Any

import numpy as np

from benchmarks.honesty import worlds
from benchmarks.honesty.pipeline import FEATURES, LIGHT
from benchmarks.honesty.study import BARS, EDGES, NOISE, SEED, Line
from core.files import write_text

MAX_FALSE, MIN_POWER = 0.05, 0.90
_TITLES = {
    "random_walk": "random walk",
    "garch": "GARCH(1,1)",
    **{name: f"{name} edge" for name in EDGES},
}


@dataclass(frozen=True)
class Share:
    """`count` of `of` data sets, with a 95 % Wilson interval."""

    count: int
    of: int

    @property
    def value(self) -> float:
        """The share itself."""
        return self.count / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson 1927, eq. for the score interval."""
        z, n, p = NormalDist().inv_cdf(0.975), self.of, self.value
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.count} of {self.of}, {self.value:.1%} [{low:.1%}, {high:.1%}]"


def share(lines: Sequence[Line], groups: Sequence[str], key: str) -> Share:
    """How many data sets of `groups` were declared `key`."""
    chosen = [line for line in lines if line["group"] in groups]
    return Share(sum(line[key] for line in chosen), len(chosen))


def shortfalls(lines: Sequence[Line]) -> list[str]:
    """What of the study's targets the results miss; nothing when all are met."""
    found = [
        f"{group}: {share(lines, [group], 'tradable')} declared tradable, at most {MAX_FALSE:.0%} may be"
        for group in NOISE
        if share(lines, [group], "tradable").value > MAX_FALSE
    ]
    power = share(lines, ["large"], "tradable")
    if power.value < MIN_POWER:
        found.append(f"large edge: {power} declared tradable, at least {MIN_POWER:.0%} must be")
    for line in _of(lines, "leak"):
        if not line["caught"]:
            found.append(f"{line['leak']}: not caught by {line['check']}")
        if not line["clean_passes"]:
            found.append(f"{line['leak']}: {line['check']} fires without the leak")
    return found


def write(folder: Path, lines: Sequence[Line]) -> None:
    """Both files."""
    write_text(folder / "honesty.md", render(lines))
    write_text(folder / "honesty.svg", plot(lines))


def render(lines: Sequence[Line]) -> str:
    """The page as Markdown."""
    return "\n".join([*_head(lines), *_noise(lines), *_edges(lines), *_leaks(lines), *_setup(lines)]) + "\n"


def _of(lines: Sequence[Line], group: str) -> list[Line]:
    return sorted((line for line in lines if line["group"] == group), key=lambda line: line["number"])


def _head(lines: Sequence[Line]) -> list[str]:
    noise, power = share(lines, NOISE, "tradable"), share(lines, ["large"], "tradable")
    leaks = _of(lines, "leak")
    caught = sum(line["caught"] and line["clean_passes"] for line in leaks)
    return [
        "# Honesty",
        "",
        "Made by `make honesty`; every figure below is a result of that study.",
        "",
        "Three questions to a pipeline that says whether a model may trade:",
        "",
        f"- Does it keep quiet on noise? Declared tradable: {noise}; at most {MAX_FALSE:.0%} may be.",
        f"- Does it find an edge that is there? Of the largest planted one: {power} declared tradable; "
        f"at least {MIN_POWER:.0%} must be.",
        f"- Does it see a leak? {caught} of {len(leaks)} planted leaks are caught by the check named for "
        "them, which passes on the honest twin.",
        "",
        "In brackets: 95 % Wilson intervals.",
        "",
        "![Out-of-sample Sharpe of every data set, by kind, with the verdict](honesty.svg)",
        "",
    ]


def _noise(lines: Sequence[Line]) -> list[str]:
    rows = [
        f"| {_TITLES[group]} | {share(lines, [group], 'tradable')} | {share(lines, [group], 'servable')} | "
        f"{_traded(lines, group)} | {_middle(lines, group, 'sharpe'):.2f} |"
        for group in NOISE
    ]
    return [
        "## Noise",
        "",
        "| world | declared tradable | may serve | trades 30 times or more | median Sharpe |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        "",
        "Random walk: independent normal returns without drift. GARCH: volatility clusters (alpha "
        f"{worlds.ALPHA}, beta {worlds.BETA}, Student innovations of {worlds.FREEDOM:g} degrees), and a "
        f"constant drift by which buying and holding has Sharpe {worlds.DRIFT}, which no forecast improves. "
        "A model may serve when its log-loss beats the recalibrated base rate's at p ≤ 0.05: on noise that "
        "rule alone passes up to 1 in 20.",
        "",
    ]


def _edges(lines: Sequence[Line]) -> list[str]:
    horizon, persistence = LIGHT["labels.horizon"], EDGES["large"].persistence
    rows = [
        f"| {name} | {edge.r:.3f} | {edge.sharpe():.2f} | {edge.hit_rate(horizon):.1%} | "
        f"{share(lines, [name], 'tradable')} | {share(lines, [name], 'servable')} | "
        f"{_middle(lines, name, 'sharpe'):.2f} | {_middle(lines, name, 'hit_rate'):.1%} |"
        for name, edge in EDGES.items()
    ]
    return [
        "## Edges of known size",
        "",
        "| edge | best correlation | best Sharpe | best hits | declared tradable | may serve | median Sharpe "
        "| median hits |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        f"Returns hold a hidden drift, an AR(1) with coefficient {persistence}. `best` is what the Kalman "
        "filter that knows the truth reaches, in closed form: its correlation with the next return, the best "
        "annual Sharpe before costs of holding its side where it exceeds a threshold, and its hits on the "
        "label's sign. The medians are of the calibrated ensemble out of sample, the Sharpe after costs. "
        f"Why models of the largest edge were turned down: {_reasons(lines, 'large')}.",
        "",
    ]


def _leaks(lines: Sequence[Line]) -> list[str]:
    rows = [
        f"| {line['leak']} | {line['planted']} | {'yes' if line['caught'] else '**no**'} | "
        f"`{line['check']}` | {'passes' if line['clean_passes'] else '**fires**'} | {line['measure']} | "
        f"{line['without']:.3f} | {line['with_leak']:.3f} |"
        for line in _of(lines, "leak")
    ]
    return [
        "## Ten leaks",
        "",
        "| leak | planted how | caught | by | on the honest twin | score | honest | with the leak |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        "Each is planted into a set-up on a random walk, beside a twin that does the same thing right; the "
        "same model scores both (log-loss: lower is better, ln 2 = 0.693 is a coin; Sharpe: annual, before "
        "costs). The models of the split leaks are forests deep enough to remember single rows, so their "
        "honest log-loss is worse than a coin's. `purged`, `in_order`, `distinct` and `audit_features` run "
        "in every training; a split that fails stops it, and a feature that fails keeps the model from "
        "serving. The others build, fit or trade again: `features.probes` runs by `bellwether features "
        "--check`, the rest in the test suite, on the project's own families and backtest.",
        "",
    ]


def _setup(lines: Sequence[Line]) -> list[str]:
    verdicts = [line for line in lines if line["group"] != "leak"]
    changed = ", ".join(f"`{name}: {value}`" for name, value in LIGHT.items() if not name.startswith("data."))
    rows = sorted({line["rows"] for line in verdicts})
    return [
        "## Set-up",
        "",
        f"{len(verdicts)} data sets of {BARS:,} daily bars each, five days a week, volatility "
        f"{worlds.SIGMA:.0%} a bar, no gap between close and open. Each goes through the stages ingest to "
        f"gate as a parquet file would, with `params.yaml` as shipped but for {changed}, and the features "
        f"{', '.join(f'`{name}`' for name in FEATURES)}. The rules of the gate are the shipped ones. "
        f"{' or '.join(f'{count:,}' for count in rows)} rows of each are judged out of sample. Models are "
        "tuned to be keener than the defaults, since one that never dares to trade cannot be declared "
        "tradable wrongly.",
        "",
        f"Seeds: `numpy.random.default_rng([{SEED}, group, number])`, groups counted in the order of the "
        "tables. Median processor time of a data set: "
        f"{median(line['cpu_seconds'] for line in verdicts):.1f} s. `make honesty` keeps each result in "
        "`var/honesty/`, in a file named by a digest of code and parameters, and goes on there after it was "
        "stopped.",
    ]


def _traded(lines: Sequence[Line], group: str) -> str:
    chosen = _of(lines, group)
    return f"{sum(line['trades'] >= 30 for line in chosen)} of {len(chosen)}"


def _middle(lines: Sequence[Line], group: str, key: str) -> float:
    return median(line[key] or 0.0 for line in _of(lines, group))


def _reasons(lines: Sequence[Line], group: str) -> str:
    failed = [rule for line in _of(lines, group) for rule in line["failed"]]
    counts = sorted(
        {rule: failed.count(rule) for rule in failed}.items(), key=lambda item: (-item[1], item[0])
    )
    return ", ".join(f"`{rule}` {count}" for rule, count in counts) or "none was"


def plot(lines: Sequence[Line]) -> str:
    """The Sharpe of every data set by group as SVG, coloured by the verdict."""
    from matplotlib import style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    groups = [*NOISE, *EDGES]
    looks: tuple[tuple[str, str, Any], ...] = (
        ("may not serve", "#9aa5b1", lambda line: not line["servable"]),
        ("may serve, not trade", "#c77d19", lambda line: line["servable"] and not line["tradable"]),
        ("may trade", "#1f5fa8", lambda line: line["tradable"]),
    )
    # "default" first: a user's own matplotlibrc must not change the plot
    with style.context(["default", {"svg.hashsalt": "honesty", "svg.fonttype": "none", "font.size": 9.5}]):
        figure = Figure(figsize=(8.6, 4.4), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for label, colour, belongs in looks:
            points = [
                (place + 0.7 * ((line["number"] * 0.6180339887) % 1 - 0.5), line["sharpe"] or 0.0)
                for place, group in enumerate(groups)
                for line in _of(lines, group)
                if belongs(line)
            ]
            x, y = np.array(points).reshape(-1, 2).T
            axes.scatter(x, y, s=9, color=colour, label=label, linewidths=0)
        for place, group in enumerate(groups):
            if group in EDGES:
                best = EDGES[group].sharpe()
                axes.plot([place - 0.4, place + 0.4], [best, best], color="#1c2733", linewidth=1.2)
        axes.set_xticks(range(len(groups)), [_tick(lines, group) for group in groups])
        axes.set_ylabel("annual Sharpe out of sample, after costs")
        axes.axhline(0, color="#e4e8ec", linewidth=0.8, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(
            loc="upper left",
            frameon=False,
            markerscale=2,
            title="line: best attainable before costs",
            alignment="left",
        )
        buffer = StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _tick(lines: Sequence[Line], group: str) -> str:
    tradable = share(lines, [group], "tradable")
    return f"{_TITLES[group]}\n{tradable.count} of {tradable.of} may trade"
