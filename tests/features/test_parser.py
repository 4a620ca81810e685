import contextlib

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from core.errors import ConfigurationError
from core.timeframe import Timeframe
from features.expression import LONGEST, Call, Column, Constant, Expression, on, operators_of
from features.operators import CROSS_SECTIONS, OPERATORS
from features.parser import callables, parse

FAULTS = [
    ("", 0, "invalid"),
    ("close +", 7, "invalid"),
    ("mean(close, 5", 4, "never closed"),
    ("clos", 0, "unknown name 'clos'"),
    ("mean", 0, "mean is a function"),
    ("close + foo(close)", 8, "unknown function 'foo'"),
    ("1 + delay(close, -1)", 4, "read the future"),
    ("delay(close, 0)", 0, "lag 0 must be >= 1"),
    ("mean(close, 2.5)", 0, "whole number"),
    ("mean(close, volume)", 0, "must be a number"),
    ("mean(close)", 0, r"mean takes \(input 1, window\)"),
    ("mean(close, 1, 2)", 0, "not 3 arguments"),
    ("rsi(close)", 0, r"rsi takes \(x, n\)"),
    ("mean(close, window=5)", 0, "expression language"),
    ("close.shift", 0, "expression language"),
    ("close[0]", 0, "expression language"),
    ("__import__('os')", 11, "expression language"),
    ("lambda: 1", 0, "expression language"),
    ("close if close else open", 0, "expression language"),
    ("close > open > low", 0, "expression language"),
    ("close ** 3", 0, "expression language"),
    ("close and open", 0, "expression language"),
    ("[close]", 0, "expression language"),
    ("'close'", 0, "expression language"),
    ("True", 0, "expression language"),
    ("close + 1e999", 8, "finite"),
    ("close / (1 - 1) + 10 / 0", 18, "division of a number by 0"),
    ("std(close, 1)", 0, "window 1 must be >= 2"),
    ("mean(close, 1000000)", 0, "<= 100000"),
    ("sar(high, low, 2, 2)", 0, "acceleration 2 must be <= 1"),
    ("roc(close, 5 - 9)", 0, "read the future"),
    ("add(close, open)", 0, "unknown function 'add'"),
    ("close\0", 6, "null bytes"),
    ("\n  close +\n  clos", 10, "unknown name"),
    ("é + clos", 0, "unknown name"),
    ("close / on", 8, "on is a function"),
    ("1 + on('4h')", 4, "on takes \\(timeframe, x\\)"),
    ("on('4h', close, 14)", 0, "on takes \\(timeframe, x\\)"),
    ("on('4h', x=close)", 0, "on takes \\(timeframe, x\\)"),
    ("on(close, '4h')", 3, "timeframe in quotes"),
    ("on(4, close)", 3, "timeframe in quotes"),
    ("on(b'4h', close)", 3, "timeframe in quotes"),
    ("on(4h, close)", 3, "invalid decimal"),
    ("on('fast', close)", 3, "timeframe 'fast': expected a count and a unit"),
    ("on('0d', close)", 3, "expected a count and a unit"),
    ("on('53w', close)", 0, "timeframe 53w must be at most 52w"),
    ("close + on('4h', clos)", 17, "unknown name 'clos'"),
    ("on('4h', 3 * 5)", 0, "a number is the same on every timeframe"),
    ("2 * on('1d', mean(on('4h', close), 5))", 4, "one `on` inside another"),
    ("on('1d', cs_rank(close))", 0, "take it outside"),
    ("mean('4h', close)", 5, "expression language"),
    ("mean(close, '4h')", 12, "expression language"),
]


@pytest.mark.parametrize(("text", "column", "message"), FAULTS)
def test_a_fault_has_a_caret_under_it(text, column, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        parse(text)
    *_, shown, caret = str(caught.value).split("\n")
    assert shown.strip() or not text
    assert caret == " " * (column + 2) + "^"


def test_a_fault_inside_a_shorthand_points_at_its_call():
    with pytest.raises(ConfigurationError, match="window 1 must be >= 2"):
        parse("close + zscore(close, 1)")


@pytest.mark.parametrize(
    "text", ["(" * 300 + "close" + ")" * 300, "-" * 90 + "close", "+".join(["close"] * 90)]
)
def test_deep_nesting_is_refused(text):
    with pytest.raises(ConfigurationError, match=r"nested|cannot be read"):
        parse(text)


def test_an_endless_text_is_refused():
    with pytest.raises(ConfigurationError, match="at most"):
        parse("close + " * 1000 + "1")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("close/ema( close,20 )-1", "close / ema(close, 20) - 1"),
        ("open-(high-low)", "open - (high - low)"),
        ("(open-high)-low", "open - high - low"),
        ("-(-close)", "-(-close)"),
        ("-close**2", "-square(close)"),
        ("2*(close+1.50)", "2 * (close + 1.5)"),
        ("close * -1", "close * -1"),
        ("mean(close, 2*10)", "mean(close, 20)"),
        ("close < open", "open > close"),
        ("(close > open) > 0", "(close > open) > 0"),
        ("rsi(close, 2)", parse("rsi(close, 2)").text),
        ('on( "240m",close+1 )', "on('4h', close + 1)"),
        ("-on('7d', -close) * 2", "-on('1w', -close) * 2"),
        ("zscore(on('90s', close), 5)", parse("zscore(on('90s', close), 5)").text),
    ],
)
def test_canonical_text(text, canonical):
    assert parse(text).text == canonical
    assert parse(canonical) == parse(text)


def _expressions() -> st.SearchStrategy[Expression]:
    leaves = st.sampled_from([Column("close"), Column("volume")]) | st.floats(
        allow_nan=False, allow_infinity=False
    ).map(Constant)

    def calls(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        def build(name: str, inputs: list[Expression], window: int) -> Expression:
            spec = OPERATORS[name]
            return Call(
                name,
                tuple(inputs[: spec.inputs]),
                tuple(min(float(window), each.maximum) for each in spec.params),
            )

        # the parser folds arithmetic on numbers, so one column is in every call
        inputs = st.lists(inner, min_size=3, max_size=3).map(lambda nodes: [Column("high"), *nodes])
        names = st.sampled_from(sorted(OPERATORS.keys() - {"on"}))
        return st.builds(build, names, inputs, st.integers(4, 500))

    return st.recursive(leaves, calls, max_leaves=12).filter(lambda node: isinstance(node, Call))


@given(_expressions(), st.none() | st.integers(1, LONGEST.seconds).map(Timeframe))
@settings(max_examples=200, deadline=None)
def test_canonical_text_reads_back_to_the_same_expression(expression, timeframe):
    whole = expression
    if timeframe and not operators_of(expression) & CROSS_SECTIONS:
        whole = Call("sub", (on(timeframe, expression), Column("close")))
    again = parse(whole.text)
    assert again == whole
    assert (again.warmup, again.waits) == (whole.warmup, whole.waits)


@given(st.text(alphabet="close()+-*/.,0159<>= \n'[]{}:éab_", max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_an_expression_or_a_configuration_error(text):
    with contextlib.suppress(ConfigurationError):
        assert isinstance(parse(text), Expression)


def test_every_callable_is_listed():
    assert {"mean", "rsi", "where", "delay"} <= set(callables())
    assert "add" not in callables()
