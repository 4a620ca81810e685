"""What the engine does for expressions: every distinct part is one operation, on the clock that it runs by.

`mean(on('4h', rsi(close, 14)), 3)` becomes, in this order: `clock`, which says at every bar which bars of 4h
close there; `coarse_close`, which makes their closes; rsi, which runs once for each of them; `on`, which
gives every bar the last one's value; `mean`; and `settled`, which keeps it back until it is warm.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.timeframe import Timeframe
from features.expression import Call, Column, Constant, Expression, On, Wait


@dataclass(frozen=True)
class Node:
    """An expression by the clock of the bars, or of the closed bars of a coarser timeframe."""

    expression: Expression
    timeframe: Timeframe | None = None


@dataclass(frozen=True)
class Operation:
    """A kernel with its inputs and parameters, the clock that it runs by and the one that it `drives`."""

    kernel: str
    inputs: tuple[Node, ...]
    params: tuple[float, ...] = ()
    timeframe: Timeframe | None = None
    drives: Timeframe | None = None

    @property
    def needs(self) -> tuple[Node, ...]:
        """What must run before it: its inputs, and the clock that it runs by."""
        return self.inputs if self.timeframe is None else (Node(_CLOCK, self.timeframe), *self.inputs)


@dataclass(frozen=True)
class Settled(Expression):
    """An expression kept back until what it waits for has come."""

    inner: Expression
    wait: Wait

    @property
    def warmup(self) -> int:
        return self.inner.warmup


_CLOCK = Expression("clock")


def settled(root: Expression) -> Expression:
    """`root`, kept back for each of its waits."""
    for wait in sorted(root.waits):
        root = Settled(f"{root.text} after {wait.closed} of {wait.timeframe} and {wait.bars}", root, wait)
    return root


def operations(roots: Iterable[Expression], given: Sequence[str]) -> dict[Node, Operation]:
    """Every operation that `roots` need beyond what is given, inputs before users."""
    order: dict[Node, Operation] = {}

    def visit(node: Node) -> None:
        if node in order or isinstance(node.expression, Constant) or _is_given(node, given):
            return
        operation = _operation(node)
        for source in operation.needs:
            visit(source)
        order[node] = operation

    for root in roots:
        visit(Node(root))
    return order


def leaves(order: Mapping[Node, Operation]) -> list[Node]:
    """What the operations read and none of them makes, each once, in order of use."""
    sources = dict.fromkeys(source for operation in order.values() for source in operation.inputs)
    return [node for node in sources if node not in order]


def _is_given(node: Node, given: Sequence[str]) -> bool:
    return node.timeframe is None and node.expression.text in given


def _operation(node: Node) -> Operation:
    timeframe = node.timeframe
    match node.expression:
        case Settled(inner=inner, wait=wait):
            sources = (Node(inner), Node(_CLOCK, wait.timeframe))
            return Operation("settled", sources, (wait.closed, wait.bars))
        case On(inputs=(inner,), timeframe=coarser):
            return Operation("on", (Node(_CLOCK, coarser), _at(inner, coarser)))
        case Call(operator=name, inputs=inputs, params=params):
            return Operation(name, tuple(_at(each, timeframe) for each in inputs), params, timeframe)
    assert timeframe is not None
    ends = (float(timeframe.seconds), float(timeframe.anchor))
    match node.expression:
        case Column(text=name):
            sources = (Node(node.expression), Node(_CLOCK, timeframe))
            return Operation(f"coarse_{name}", sources, ends if name == "time" else ())
    return Operation("clock", (Node(Column("time")),), ends, drives=timeframe)


def _at(expression: Expression, timeframe: Timeframe | None) -> Node:
    return Node(expression) if isinstance(expression, Constant) else Node(expression, timeframe)
