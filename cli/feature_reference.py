"""docs/features.md, made from the catalogue, the operators and the grammar."""

import inspect
from collections.abc import Container, Iterable, Iterator

from cli.markdown import table
from core.errors import ConfigurationError
from features import catalogue
from features.catalogue import CATALOGUES, CORE, alpha158
from features.describe import Described, describe, signature
from features.expression import INFIX, LONGEST
from features.layout import COLUMNS
from features.operators import MODULES, OPERATORS, Operator, cross
from features.operators.spec import MAX_WINDOW
from features.parser import MAX_DEPTH, MAX_LENGTH, parse
from features.probes import PROBES
from features.vocabulary import FUNCTIONS, NAMES

EXAMPLES = {
    "open / lag(close, 1) - 1": "the gap from yesterday's close to today's open",
    "close / ema(close, 20) - 1": "distance from a moving average, as a fraction",
    "zscore(log(volume + 1), 60)": "how unusual today's volume is",
    "ratio(close - lowest(low, 20), highest(high, 20) - lowest(low, 20), 0.5)": (
        "place in the range of 20 bars, the middle where there is no range"
    ),
    "where(close > mean(close, 200), rsi(close, 2), 50)": "an oscillator that counts in an uptrend only",
    "mean(returns > 0, 10) - mean(returns > 0, 5 * 12)": (
        "share of rising bars, lately against before; numbers may be computed"
    ),
    "corr(returns, lag(returns, 1), 40) * (std(returns, 5) < std(returns, 40))": (
        "a comparison is 1 or 0, so it may weigh"
    ),
    "-(high - low) ** 2 / square(atr(14))": "`** 2` is the only power; it binds before the sign",
    "cycle_sin(hour_of_day(time), 24)": "where in the day the bar closes",
    "close / on('1w', mean(close, 10)) - 1": "distance from the mean of the last ten closed weeks",
    "rsi(close, 14) - on('2d', rsi(close, 14))": "an oscillator against itself on bars twice as long",
}
UNIVERSE_EXAMPLES = {
    "cs_rank(log_return(20))": "strength of a month among the symbols",
    "cs_zscore(log(mean(volume, 20) + 1))": "unusual activity, against the others instead of the past",
    "sum(cs_demean(returns), 5)": "what a symbol made in a week beyond the mean of all",
    "cs_rank(cs_demean(returns) / std(returns, 60))": "comparisons nest",
    "cs_rank(on('1w', log_return(4)))": "compared on coarser bars, as far as they are closed",
}
FAULTS = (
    "close / lag(close, -1)",
    "mean(close, 5) + rsi(clos, 14)",
    "close.shift(1)",
    "on('1d', mean(on('4h', close), 5))",
)
_TITLES = {
    "elementwise": "One bar at a time",
    "logic": "Conditions",
    "clock": "The clock",
    "window": "The last bars, this one included",
    "order": "Rank, quantile, places of extremes",
    "moments": "Moments, correlation, trend",
    "recursive": "All history, with fading weight",
    "information": "Covariance, entropy, long memory",
    "session": "Since an anchor",
    "adaptive": "Averages of varying weight",
    "swing": "Stops and swings",
    "circular": "Sine and cosine",
    "timeframe": "Coarser bars",
    "cross": "Across the symbols of a universe",
}


def render() -> str:
    """The whole page."""
    parts = [
        "# Features",
        "Made from the code by `python -m cli.reference`; a test keeps it true, and runs the examples.",
        f"A feature is a named expression over bars. {len(catalogue.FULL)} come with the package; your own "
        "stand in `params.yaml`. All of them run in one compiled engine, on a whole history and bar by bar "
        "alike, and no operator can read a later bar.",
        "## Your own",
        _own(),
        "## The language",
        _language(),
        table(
            ("expression", "warm-up", "what it is"),
            ((f"`{text}`", str(parse(text).warmup), meaning) for text, meaning in EXAMPLES.items()),
        ),
        "A fault has a caret under it, and all faults of all features are reported together:",
        "\n\n".join(f"```\n{fault(text)}\n```" for text in FAULTS),
        "## Operators",
        "Warm-up is in bars, for a window of 20; inputs add theirs. A window with a missing value in it "
        f"gives a missing value. Windows and lags are whole numbers up to {MAX_WINDOW}.",
        *_operators(),
        "### Shorthands",
        "The parser writes them out, so a definition in a bundle means the same for ever.",
        table(("shorthand", "stands for"), _shorthands()),
        "## Many symbols",
        _universe(),
        "## Catalogues",
        inspect.cleandoc(catalogue.__doc__ or ""),
        table(("`features.catalog`", "features", "warm-up"), map(_size, CATALOGUES)),
        "`features.exclude: [name, …]` leaves some out, `bellwether features --catalog NAME` shows another "
        "catalogue than the one chosen. In the lists that follow ● marks the features of `core`.",
        *_sections(),
    ]
    return "\n\n".join(parts) + "\n"


def fault(text: str) -> str:
    """What the parser says of a wrong expression."""
    try:
        parse(text)
    except ConfigurationError as error:
        return str(error)
    raise AssertionError(f"{text!r} is no fault")


def _own() -> str:
    probes = "\n".join(f"- **{name}**: {meaning}" for name, meaning in PROBES.items())
    return (
        "```yaml\nfeatures:\n  catalog: core\n  user:\n    my_gap: open / lag(close, 1) - 1\n"
        "    my_calm: std(returns, 5) / std(returns, 60)\n  exclude: [rsi_7]\n```\n\n"
        "For one run: `bellwether run --set 'features.user={my_gap: \"open / lag(close, 1) - 1\"}'`. "
        "A name is a letter, then letters, digits and `_`; it may not be a feature of the catalogue, a "
        "column, or stand for a formula that is there already. Own features follow the catalogue, by name. "
        "They become columns of the matrix, inputs of the model, and part of the bundle, from which the "
        "service computes them live.\n\n"
        "`bellwether features --explain NAME` shows one with a plot, `--compute FILE.parquet` writes them "
        "for the configured bars or those of `--bars FILE`, and `--check` runs the probes over your "
        f"expressions and bars, names the offender and exits 1:\n\n{probes}"
    )


def _language() -> str:
    signs = ", ".join(f"`{sign}`" for _, sign in INFIX.values())
    columns = ", ".join(f"`{name}`" for name in COLUMNS)
    return (
        "Python's own grammar cut down to a white list; nothing is evaluated. There are numbers, the columns "
        f"{columns} (the close of the bar in epoch seconds, UTC), {signs}, `<`, `<=`, a leading `-`, `** 2`, "
        "and calls of the operators and shorthands below, arguments in order. Windows and other parameters "
        "are numbers, not series. Division by 0 is a missing value; `ratio(a, b, otherwise)` states one "
        "instead. Spelling does not matter: `close+1.0` and `close + 1` are one formula. At most "
        f"{MAX_LENGTH} characters, nested {MAX_DEPTH} deep.\n\n"
        "`on('4h', x)` computes x, any expression, on bars of a coarser timeframe, `30s` to "
        f"`{LONGEST}`, and gives every bar its value at the last of them that is closed; another timeframe "
        "may stand beside it, not inside. A coarser bar holds the bars that close in (end - length, end], "
        "with ends counted from 1970 in UTC and weeks ending at Monday 00:00, as in resampled data. It is "
        "closed at the bar that closes at its end or, when there is none, at the first later bar: a session "
        "that closes at 21:00 ends its day, and a Friday its week, with the next session's first bar, later "
        "than a calendar of the exchange would say and never earlier. The bar in which history begins does "
        "not count. So the warm-up depends on the bars; what is shown here is the least, `--explain` shows "
        "what it was, and a run trains from the first row at which all is warm. A timeframe that is no "
        "multiple of the data's own is refused."
    )


def _universe() -> str:
    examples = table(
        ("expression", "warm-up", "what it is"),
        ((f"`{text}`", str(parse(text).warmup), meaning) for text, meaning in UNIVERSE_EXAMPLES.items()),
    )
    return (
        "Operators that begin with `cs_` compare symbols at one time: those that have a bar at that very "
        "time, and a value in it. One without a bar is not filled in, one that is not warm is left out, and "
        "neither the order of the symbols nor a symbol's future changes a bit of anybody's values. They may "
        "stand wherever a value may, also inside each other and inside windows, but not inside `on`. Where "
        "there is one symbol, as in a run, they are refused.\n\n"
        f"{examples}\n\n"
        "`bellwether features --universe DIR --compute OUT --set 'features.user={strength: "
        '"cs_rank(log_return(20))"}\'` takes every CSV and parquet file of DIR for the bars of a symbol, '
        "named by the file, and passes each through the gate of a run. Symbols may begin, end and pause as "
        "they like. OUT gets a parquet file per symbol and `manifest.json` with formulas, rows, times and "
        "hashes; it is replaced whole or, when a symbol is bad, which is then named, not at all. "
        "`--processes` symbols are computed at a time; neither their number nor the order of files changes "
        "a byte of the result. A process holds the bars of one symbol, and while symbols are compared a "
        "table of bounded size, however long the history. `--universe DIR --check` runs the probes over the"
        " last bars of "
        "all.\n\n"
        "In Python `features.build_universe({symbol: file}, directory, definitions)` does the same without "
        "the gate, and `features.UniverseStream(symbols, definitions).push(time, {symbol: (open, high, low, "
        "close, volume)})` returns the same bits live; a bad bar refuses the whole push, and nothing has "
        "changed."
    )


def _operators() -> Iterator[str]:
    for module in (*MODULES, cross):
        members = [each for each in OPERATORS.values() if each.module == module.__name__]
        stem = module.__name__.rsplit(".", 1)[1]
        yield f"### {_TITLES.get(stem, stem.capitalize())}"
        yield table(("operator", "warm-up", "meaning"), map(_operator, members))


def _operator(operator: Operator) -> tuple[str, str, str]:
    return f"`{signature(operator)}`", _warmup(operator), operator.meaning


def _warmup(operator: Operator) -> str:
    """Bars at a window of 20, unless they depend on a parameter that is no number of bars."""
    bars = {
        operator.warmup(*(20.0 if each.integer else real / 100**k for k, each in enumerate(operator.params)))
        for real in (0.25, 0.5)
        if operator.state
    }
    return str(max(bars, default=0)) if len(bars) < 2 else "varies"


def _shorthands() -> Iterator[tuple[str, str]]:
    for name, text in NAMES.items():
        yield f"`{name}`", f"`{text}`"
    for name, (arguments, text) in FUNCTIONS.items():
        yield f"`{name}({', '.join(arguments)})`", f"`{text}`"


def _size(catalog: str) -> tuple[str, str, str]:
    definitions = catalogue.definitions(catalog)
    return f"`{catalog}`", str(len(definitions)), f"{catalogue.warmup(definitions)} bars"


def _sections() -> Iterator[str]:
    """The full catalogue by group, core marked, then the one that is no part of it."""
    known = describe("full", {}, ())
    for group in dict.fromkeys(feature.group for feature in known):
        yield f"### {group.capitalize()}"
        yield _features((each for each in known if each.group == group), CORE)
    yield "## Alpha158"
    yield inspect.cleandoc(alpha158.__doc__ or "")
    yield _features(describe("alpha158", {}, ()), ())


def _features(known: Iterable[Described], marked: Container[str]) -> str:
    return table(
        ("feature", "formula", "range", "warm-up", "source"),
        (
            (
                f"`{f.name}`{' ●' if f.name in marked else ''}",
                f"`{f.expression}`",
                f.range,
                str(f.warmup),
                f.source,
            )
            for f in known
        ),
    )
