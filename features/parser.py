"""Text to expression by Python's own grammar, cut down to a white list; nothing is ever evaluated.

Allowed: numbers, the columns, + - * / on expressions, `>` `>=` `<` `<=` (1 or 0), `x ** 2`, and calls of
operators and shorthands with positional arguments, `on('4h', x)` among them: the only text in quotes.
Faults are ConfigurationError with a caret under them.
"""

import ast
import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from core.errors import ConfigurationError
from core.timeframe import Timeframe
from features.expression import Call, Column, Constant, Expression, on
from features.layout import COLUMNS
from features.operators import OPERATORS
from features.vocabulary import FUNCTIONS, NAMES

MAX_LENGTH = 4000
MAX_DEPTH = 60
_BINARY = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div"}
_COMPARE = {ast.Gt: ("gt", False), ast.GtE: ("ge", False), ast.Lt: ("gt", True), ast.LtE: ("ge", True)}
_KEYWORD_OPERATORS = {"add", "sub", "mul", "div", "gt", "ge", "neg"}


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> Expression:
    """The expression that `text` spells; ConfigurationError with a caret under the fault."""
    if len(text) > MAX_LENGTH:
        raise ConfigurationError(f"expression of {len(text)} characters: at most {MAX_LENGTH}")
    return _Reader(" ".join(text.splitlines()).strip()).read()


def parse_all(definitions: Mapping[str, str]) -> dict[str, Expression]:
    """The expression of every name; ConfigurationError lists the faults of all."""
    expressions, faults = {}, []
    for name, text in definitions.items():
        try:
            expressions[name] = parse(text)
        except ConfigurationError as error:
            faults.append(f"feature {name!r}: {error}")
    if faults:
        raise ConfigurationError(faults)
    return expressions


def callables() -> list[str]:
    """Every function that an expression may call."""
    return sorted((OPERATORS.keys() | FUNCTIONS.keys()) - _KEYWORD_OPERATORS)


@dataclass(frozen=True)
class _Reader:
    text: str
    bindings: Mapping[str, Expression] = field(default_factory=dict)
    depth: int = 0

    def read(self) -> Expression:
        try:
            tree = ast.parse(self.text, mode="eval")
        except SyntaxError as error:
            # "expected more" is reported at column 0: it means the end
            raise _fault(self.text, error.msg, (error.offset or len(self.text) + 1) - 1) from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise _fault(self.text, f"cannot be read: {error}", 0) from None
        return self._convert(tree.body, self.depth)

    def _convert(self, node: ast.expr, depth: int) -> Expression:
        if depth > MAX_DEPTH:
            raise self._fault(node, f"nested deeper than {MAX_DEPTH}")
        try:
            return self._dispatch(node, depth + 1)
        except ConfigurationError as error:
            if "\n" in str(error):
                raise
            raise self._fault(node, str(error)) from None

    def _dispatch(self, node: ast.expr, depth: int) -> Expression:
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return Constant(_number(value))
            case ast.Name(id=name):
                return self._name(name)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                inner = self._convert(operand, depth)
                return inner if isinstance(sign, ast.UAdd) else _fold("neg", inner)
            case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=2)):
                return _fold("square", self._convert(left, depth))
            case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
                return _fold(_BINARY[type(sign)], self._convert(left, depth), self._convert(right, depth))
            case ast.Compare(left=left, ops=[sign], comparators=[right]) if type(sign) in _COMPARE:
                name, swap = _COMPARE[type(sign)]
                sides = (self._convert(left, depth), self._convert(right, depth))
                return Call(name, sides[::-1] if swap else sides)
            case ast.Call(func=ast.Name(id="on"), args=[timeframe, inner], keywords=[]):
                return on(self._timeframe(timeframe), self._convert(inner, depth))
            case ast.Call(func=ast.Name(id="on")):
                raise ConfigurationError("on takes (timeframe, x), such as on('4h', rsi(close, 14))")
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._call(name, [self._convert(argument, depth) for argument in arguments], depth)
        raise ConfigurationError(
            "not part of the expression language: use columns, numbers, + - * / > >= < <=, ** 2, and calls"
        )

    def _timeframe(self, node: ast.expr) -> Timeframe:
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            raise self._fault(node, "on takes a timeframe in quotes first, such as on('4h', rsi(close, 14))")
        try:
            return Timeframe.parse(node.value)
        except ConfigurationError as error:
            raise self._fault(node, str(error)) from None

    def _name(self, name: str) -> Expression:
        if name in self.bindings:
            return self.bindings[name]
        if name in COLUMNS:
            return Column(name)
        if name in NAMES:
            return parse(NAMES[name])
        if name in callables():
            raise ConfigurationError(f"{name} is a function: give it its arguments in brackets")
        close = difflib.get_close_matches(name, (*COLUMNS, *NAMES), n=1)
        hint = f"did you mean {close[0]}?" if close else f"columns are {', '.join(COLUMNS)}"
        raise ConfigurationError(f"unknown name {name!r}: {hint}; docs/features.md lists all")

    def _call(self, name: str, arguments: list[Expression], depth: int) -> Expression:
        if name in FUNCTIONS:
            names, body = FUNCTIONS[name]
            if len(names) != len(arguments):
                raise ConfigurationError(f"{name} takes ({', '.join(names)}), not {len(arguments)} arguments")
            try:
                return _Reader(body, dict(zip(names, arguments, strict=True)), depth).read()
            except ConfigurationError as error:
                raise ConfigurationError(f"{str(error).splitlines()[0]} (in {name}: {body})") from None
        if name not in OPERATORS or name in _KEYWORD_OPERATORS:
            raise ConfigurationError(f"unknown function {name!r}: functions are {', '.join(callables())}")
        count = OPERATORS[name].inputs
        numbers = []
        for position, argument in enumerate(arguments[count:]):
            if not isinstance(argument, Constant):
                raise ConfigurationError(
                    f"{name}: argument {count + position + 1} is {argument.text!r}, it must be a number"
                )
            numbers.append(argument.value)
        return Call(name, tuple(arguments[:count]), tuple(numbers))

    def _fault(self, node: ast.expr, message: str) -> ConfigurationError:
        # ast counts bytes of UTF-8
        column = len(self.text.encode()[: node.col_offset].decode(errors="ignore"))
        return _fault(self.text, message, column)


def _fault(text: str, message: str, column: int) -> ConfigurationError:
    return ConfigurationError(f"{message}\n  {text}\n  {' ' * min(column, len(text))}^")


def _number(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ConfigurationError("number too large for a float") from None


def _fold(name: str, *inputs: Expression) -> Expression:
    """Arithmetic on numbers alone is done here, so that windows and weights may be computed."""
    values = [argument.value for argument in inputs if isinstance(argument, Constant)]
    if len(values) < len(inputs):
        return Call(name, inputs)
    match name, values:
        case "neg", [a]:
            return Constant(-a)
        case "square", [a]:
            return Constant(a * a)
        case "add", [a, b]:
            return Constant(a + b)
        case "sub", [a, b]:
            return Constant(a - b)
        case "mul", [a, b]:
            return Constant(a * b)
        case _, [a, b] if b:
            return Constant(a / b)
    raise ConfigurationError("division of a number by 0")
