"""What people read about features: how operators are called, and the facts of one feature."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from features.catalogue import Feature, entries
from features.expression import INFIX, operators_of
from features.operators import OPERATORS, Operator
from features.parser import parse

USER_GROUP = "user"


@dataclass(frozen=True)
class Described:
    """A feature with what follows from its expression.

    `expanded` is the canonical text, free of shorthands; `warmup` is the index of the first row with a
    value; `operators` are names in order.
    """

    name: str
    expression: str
    expanded: str
    group: str
    range: str
    source: str
    warmup: int
    operators: tuple[str, ...]
    excluded: bool


def describe(catalog: str, user: Mapping[str, str], exclude: Collection[str]) -> list[Described]:
    """A catalogue in its order, then the user's own by name; what is left out is marked."""
    own = [Feature(name, user[name], USER_GROUP, "", "params.yaml") for name in sorted(user)]
    return [_described(feature, feature.name in exclude) for feature in (*entries(catalog), *own)]


def signature(operator: Operator) -> str:
    """How an operator is written: `mean(x, window)`, `a + b`."""
    if operator.name in INFIX:
        left, right = operator.arguments
        return f"{left} {INFIX[operator.name][1]} {right}"
    if operator.name == "neg":
        return f"-{operator.arguments[0]}"
    return f"{operator.name}({', '.join(operator.arguments)})"


def _described(feature: Feature, excluded: bool) -> Described:
    root = parse(feature.expression)
    return Described(
        name=feature.name,
        expression=feature.expression,
        expanded=root.text,
        group=feature.group,
        range=feature.range,
        source=feature.source,
        warmup=root.warmup,
        operators=tuple(sorted(operators_of(root), key=list(OPERATORS).index)),
        excluded=excluded,
    )
