"""The plots of the evaluation report as SVG text, the same bytes for the same data.

No global state: figures are made without pyplot, and settings hold only while a figure is drawn.
matplotlib is imported when a plot is drawn, not with this module.
"""

from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evaluation import classification, performance

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Vector = npt.NDArray[np.float64]
INK, MUTED, GRID = "#1c2733", "#6b7785", "#e4e8ec"
BLUE, GREY, RED = "#1f5fa8", "#9aa5b1", "#b3392f"
PALETTE = (BLUE, "#c77d19", "#2c8a63", "#7d4fa3", RED, "#3b8fa8", "#8a6d3b", GREY)
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": ["sans-serif"],
    "font.size": 9.5,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
}


def equity(times: npt.NDArray[np.datetime64], returns: Vector, benchmark: Vector) -> str:
    """Wealth from 1, logarithmic, of strategy and buy and hold; all [n]."""
    ours, other = performance.equity(returns), performance.equity(benchmark)
    rows = _thin(ours, other)

    def draw(axes: "Axes") -> None:
        axes.plot(times[rows], other[rows], color=GREY, label="buy and hold")
        axes.plot(times[rows], ours[rows], color=BLUE, label="strategy, after costs")
        axes.set_yscale("log")
        _plain_log_ticks(axes)
        axes.legend(loc="upper left")

    return _svg("equity", draw, width=10.4)


def drawdown(times: npt.NDArray[np.datetime64], returns: Vector, benchmark: Vector) -> str:
    """Loss from the highest wealth so far, in percent; all [n]."""
    ours, other = 100 * performance.drawdown(returns), 100 * performance.drawdown(benchmark)
    rows = _thin(ours, other)

    def draw(axes: "Axes") -> None:
        axes.plot(times[rows], other[rows], color=GREY, label="buy and hold")
        axes.fill_between(times[rows], ours[rows], 0.0, color=RED, alpha=0.35, linewidth=0)
        axes.plot(times[rows], ours[rows], color=RED, linewidth=1.0, label="strategy, after costs")
        axes.set_ylabel("%")
        axes.legend(loc="lower left")

    return _svg("drawdown", draw, width=10.4, height=2.3)


def calibration(y: Vector, p: Vector, name: str = "up") -> str:
    """Observed share of class `name` against the predicted, ten bins of equal rows, 95 % bars; y in 0, 1."""
    table = classification.reliability(y, p)
    share = table.observed
    error = 1.96 * np.sqrt(np.maximum(share * (1 - share), 1e-12) / table.rows)

    def draw(axes: "Axes") -> None:
        low = min(table.predicted.min(), (share - error).min()) - 0.02
        high = max(table.predicted.max(), (share + error).max()) + 0.02
        axes.plot([low, high], [low, high], color=GREY, linestyle="--", label="perfect")
        axes.errorbar(
            table.predicted, share, yerr=error, color=BLUE, marker="o", markersize=4, linewidth=1, capsize=2
        )
        axes.set_xlabel(f"predicted probability of {name}")
        axes.set_ylabel(f"observed share of {name}")
        axes.legend(loc="upper left")

    return _svg("calibration", draw)


def histogram(p: Vector, thresholds: Sequence[float]) -> str:
    """How the probabilities are spread, with the thresholds that trade marked; p [n]."""

    def draw(axes: "Axes") -> None:
        reach = [p.min(), p.max(), *thresholds]
        edges = np.linspace(min(reach) - 0.005, max(reach) + 0.005, 41)
        axes.hist(p, bins=edges.tolist(), color=BLUE, alpha=0.8)
        for threshold in thresholds:
            axes.axvline(threshold, color=RED, linestyle="--", linewidth=1)
        axes.set_xlabel("probability of up that the signal states (dashed: thresholds)")
        axes.set_ylabel("bars")

    return _svg("histogram", draw)


def importance(features: Sequence[Mapping[str, Any]], top: int = 14) -> str:
    """The `top` features: by how much permuting each raises the log-loss, one deviation to both sides."""
    ranked = list(features[:top])[::-1]

    def draw(axes: "Axes") -> None:
        rows = np.arange(len(ranked))
        rise = [feature["permutation"] for feature in ranked]
        spread = [feature["permutation_std"] or 0.0 for feature in ranked]
        axes.barh(rows, rise, xerr=spread, color=BLUE, ecolor=INK, error_kw={"lw": 1}, height=0.7)
        axes.set_yticks(rows, [feature["feature"] for feature in ranked])
        axes.axvline(0, color=GREY, linewidth=1)
        axes.set_xlabel("rise of log-loss when permuted")
        axes.grid(visible=False, axis="y")
        axes.margins(y=0.02)

    return _svg("importance", draw, height=0.9 + 0.2 * max(len(ranked), 4))


def regimes(kind: str, parts: Sequence[Mapping[str, Any]]) -> str:
    """Log-loss saved against the baseline in each regime of one kind: above zero is better."""

    def draw(axes: "Axes") -> None:
        gains = [part["log_loss_gain"] for part in parts]
        axes.bar(np.arange(len(parts)), gains, color=[BLUE if g > 0 else RED for g in gains], width=0.7)
        axes.set_xticks(np.arange(len(parts)), [part["label"] for part in parts])
        axes.tick_params(axis="x", rotation=45 if len(parts) > 8 else 0)
        axes.axhline(0, color=GREY, linewidth=1)
        axes.set_ylabel("log-loss saved")
        axes.grid(visible=False, axis="x")

    return _svg(f"regime-{kind}", draw, height=2.6)


def paths(families: Mapping[str, Mapping[str, Any]], figure: str, label: str) -> str:
    """One dot per path and family, and the median of each family as a bar across; `figure` in the paths."""

    def draw(axes: "Axes") -> None:
        for row, of in enumerate(families.values()):
            values = of[figure]["values"]
            axes.plot(values, np.full(len(values), row), "o", color=BLUE, markersize=5, alpha=0.6)
            axes.plot([of[figure]["median"]] * 2, [row - 0.3, row + 0.3], color=RED)
        axes.set_yticks(np.arange(len(families)), list(families))
        axes.set_ylim(len(families) - 0.5, -0.5)
        axes.set_xlabel(f"{label} (dots: paths, red: their median)")
        axes.grid(visible=False, axis="y")

    return _svg(f"paths-{figure}", draw, height=1.2 + 0.25 * max(len(families), 3))


def sharpe_intervals(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Sharpe of strategy, of buy and hold, and their difference, each with its bootstrap interval."""
    rows = (("sharpe", "strategy"), ("benchmark_sharpe", "buy and hold"), ("sharpe_excess", "difference"))

    def draw(axes: "Axes") -> None:
        axes.axvline(0, color=GREY, linestyle="--")
        for row, ((name, _), color) in enumerate(zip(rows, (BLUE, GREY, INK), strict=True)):
            of = figures[name]
            axes.plot([of["low"], of["high"]], [row, row], color=color, linewidth=3, alpha=0.5)
            axes.plot([of["estimate"]], [row], "o", color=color, markersize=6)
        axes.set_yticks(range(len(rows)), [words for _, words in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel("Sharpe a year, with its 95 % interval")
        axes.grid(visible=False, axis="y")

    return _svg("sharpe-interval", draw, height=2.0)


def fold_losses(losses: Mapping[str, Sequence[float]], baseline: str) -> str:
    """Log-loss of each model less the baseline's, per test block: below zero is better."""
    reference = np.array(losses[baseline])

    def draw(axes: "Axes") -> None:
        blocks = np.arange(1, len(reference) + 1)
        axes.axhline(0, color=GREY, linestyle="--", label=baseline)
        others = [name for name in losses if name != baseline]
        for name, color in zip(others, PALETTE * (1 + len(others)), strict=False):
            axes.plot(
                blocks, np.array(losses[name]) - reference, marker="o", markersize=3, color=color, label=name
            )
        axes.set_xticks(blocks)
        axes.set_xlabel("test block, oldest first")
        axes.set_ylabel(f"log-loss less {baseline}'s")
        axes.legend(fontsize=8, ncols=2)

    return _svg("folds", draw)


def _thin(*series: Vector, buckets: int = 1500) -> npt.NDArray[np.intp]:
    """Rows that keep the picture: first, lowest and highest of each bucket of a long series."""
    n = len(series[0])
    if n <= 4 * buckets:
        return np.arange(n)
    kept = [0, n - 1]
    for part in np.array_split(np.arange(n), buckets):
        kept.append(part[0])
        for values in series:
            kept += [part[values[part].argmin()], part[values[part].argmax()]]
    return np.unique(kept)


def _plain_log_ticks(axes: "Axes") -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _svg(name: str, draw: Callable[["Axes"], None], width: float = 5.1, height: float = 3.2) -> str:
    """One `<svg>` element. Its ids carry the name: several share one page, and must not clash."""
    from matplotlib import style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # "default" first: a user's own matplotlibrc must not change the page
    with style.context(["default", {**_STYLE, "svg.hashsalt": f"bellwether-{name}"}]):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        buffer = StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    for mark in (' id="', "url(#", 'href="#'):
        text = text.replace(mark, f"{mark}{name}-")
    return text[text.index("<svg") :].rstrip()
