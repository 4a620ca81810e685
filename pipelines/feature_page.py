"""One feature as an offline HTML page: no script, no font, no address; equal bytes for equal input."""

from collections.abc import Mapping
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 1500
_BLUE, _GREY, _GRID = "#1f5fa8", "#8a95a1", "#dfe4e9"
_FIGURE: dict[str, Any] = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "bellwether-feature",
    "font.family": ["sans-serif"],
    "font.size": 9.5,
    "axes.edgecolor": _GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "text.color": _GREY,
    "axes.labelcolor": _GREY,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
}
_STYLE = """
:root{color-scheme:light dark;--ink:#1d2433;--soft:#667085;--line:#e4e7ec;--page:#f7f8fa;--card:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#98a2b3;--line:#2b3240;--page:#12161d;--card:#1a2029}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1040px;margin:0 auto;padding:32px 20px 64px}h1{font-size:26px;margin:0 0 4px}
h2{font-size:17px;margin:32px 0 10px}p{margin:0;color:var(--soft)}code{overflow-wrap:anywhere}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;overflow-x:auto}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:8px 14px;vertical-align:top;
border-bottom:1px solid var(--line)}tr:last-child th,tr:last-child td{border-bottom:0}
th{color:var(--soft);font-weight:500;white-space:nowrap;width:1%}td{font-variant-numeric:tabular-nums}
svg{display:block;width:100%;height:auto;padding:10px}
"""


def render(facts: Mapping[str, Any], values: pd.Series, close: pd.Series) -> str:
    """A whole HTML document of what `pipelines.feature_tools.explain` found; series by bar close, UTC."""
    name, missing = escape(facts["name"]), facts["statistics"]["missing"]
    about = {
        "formula": f"<code>{escape(facts['formula'])}</code>",
        "expanded": f"<code>{escape(facts['expanded'])}</code>",
        "group": escape(facts["group"]),
        "range": escape(facts["range"]),
        "source": escape(facts["source"]),
        "warm-up": f"{facts['warmup']} bars",
    }
    operators = {f"<code>{escape(k)}</code>": escape(v) for k, v in facts["operators"].items()}
    shown = {escape(k): "none" if v is None else f"{v:.6g}" for k, v in facts["statistics"].items()}
    absent = f", {missing} values missing after its warm-up" if missing else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{name}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{name}</h1><p>{escape(facts['bars'])}: {len(values)} bars{absent}</p>"
        f'<h2>On these bars</h2><div class="card">{plot(facts["name"], values, close)}</div>'
        f"<h2>Definition</h2>{_table(about)}"
        f"<h2>Operators</h2>{_table(operators)}"
        f"<h2>Values after its warm-up</h2>{_table(shown)}"
        "</main></body></html>\n"
    )


def plot(name: str, values: pd.Series, close: pd.Series) -> str:
    """Close (log) over the feature, and the feature's distribution, as one `<svg>`.

    Of a long series the lowest and the highest value of each stretch are drawn; the picture stays.
    """
    from matplotlib import style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, NullLocator

    # "default" first: a user's own matplotlibrc must not change the page
    with style.context(["default", _FIGURE]):
        figure = Figure(figsize=(10.4, 4.6), layout="constrained")
        FigureCanvasSVG(figure)
        grid = figure.add_gridspec(2, 2, height_ratios=(1, 2), width_ratios=(5, 1))
        price = figure.add_subplot(grid[0, 0])
        line = figure.add_subplot(grid[1, 0], sharex=price)
        _line(price, close, _GREY)
        price.set_yscale("log")
        price.yaxis.set_major_locator(MaxNLocator(4))
        price.yaxis.set_minor_locator(NullLocator())
        price.yaxis.set_major_formatter("{x:g}")
        price.set_ylabel("close, log")
        price.tick_params(labelbottom=False)
        _line(line, values, _BLUE)
        line.set_ylabel(name)
        _histogram(figure.add_subplot(grid[1, 1], sharey=line), values)
        buffer = StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].rstrip()


def _line(axes: "Axes", series: pd.Series, color: str) -> None:
    rows = _thinned(series)
    axes.plot(series.index[rows].tz_localize(None), series.to_numpy()[rows], color=color, linewidth=0.9)


def _histogram(axes: "Axes", values: pd.Series) -> None:
    axes.tick_params(labelleft=False, labelbottom=False)
    axes.set_xlabel("how often")
    axes.hist(values.dropna().to_numpy(), bins=60, orientation="horizontal", color=_BLUE, alpha=0.8)


def _thinned(series: pd.Series) -> list[int]:
    """Rows that keep the picture: the first, lowest and highest of each stretch."""
    if len(series) <= 2 * _POINTS:
        return list(range(len(series)))
    values, kept = series.to_numpy(), {0, len(series) - 1}
    for part in np.array_split(np.arange(len(series)), _POINTS):
        kept.add(int(part[0]))
        if not np.isnan(values[part]).all():
            kept |= {int(part[np.nanargmin(values[part])]), int(part[np.nanargmax(values[part])])}
    return sorted(kept)


def _table(rows: Mapping[str, str]) -> str:
    body = "".join(f"<tr><th>{key}</th><td>{value}</td></tr>" for key, value in rows.items() if value)
    return f'<div class="card"><table>{body}</table></div>'
