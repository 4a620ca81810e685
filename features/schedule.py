"""In which order operations run, and in which rows of the engine's buffer their results stand.

Rows are reused as soon as their last reader has run, so the working set stays in the processor's cache.
"""

from collections.abc import Mapping, Sequence

from core.timeframe import Timeframe
from features.expression import Constant
from features.operations import Node, Operation, leaves


def by_kernel(order: Mapping[Node, Operation]) -> dict[Node, Operation]:
    """The same operations, still inputs before users, each kernel as often in a row as can be.

    One call then runs them all, and the processor has its instructions at hand.
    """
    users: dict[Node, list[Node]] = {node: [] for node in order}
    missing = {
        node: len({each for each in operation.needs if each in order}) for node, operation in order.items()
    }
    for node, operation in order.items():
        for source in dict.fromkeys(operation.needs):
            if source in order:
                users[source].append(node)
    ready: dict[tuple[str, Timeframe | None], list[Node]] = {}

    def offer(node: Node) -> None:
        if missing[node] == 0:
            ready.setdefault((order[node].kernel, order[node].timeframe), []).append(node)

    for node in order:
        offer(node)
    arranged: dict[Node, Operation] = {}
    while ready:
        kind = max(ready, key=lambda each: len(ready[each]))
        for node in ready[kind]:  # grows while it is walked
            arranged[node] = order[node]
            for user in users[node]:
                missing[user] -= 1
                offer(user)
        del ready[kind]
    return arranged


def alike_in(order: Mapping[Node, Operation]) -> list[int]:
    """How many operations from each on are run by one call: the same kernel, by the same clock."""
    counts = [1] * len(order)
    operations = list(order.values())
    for k in range(len(order) - 2, -1, -1):
        one, other = operations[k], operations[k + 1]
        same = one.kernel == other.kernel and one.timeframe == other.timeframe
        if same and one.drives is None and other.drives is None:
            counts[k] += counts[k + 1]
    return counts


def allocate(
    order: Mapping[Node, Operation], given: Sequence[Node], alike: Sequence[int]
) -> tuple[list[dict[Node, int]], dict[int, float], list[int], int]:
    """Buffer rows: `given` first, then constants; these keep theirs, results share the rest.

    Returns the row of every input per operation, the constants' rows, the result rows and the row count.
    """
    numbers = {node: node.expression.value for node in leaves(order) if isinstance(node.expression, Constant)}
    rows: dict[Node, int] = {node: row for row, node in enumerate((*given, *numbers))}
    constants = {rows[node]: value for node, value in numbers.items()}
    kept = set(rows)
    last_use = {source: k for k, operation in enumerate(order.values()) for source in operation.inputs}
    free: list[int] = []
    spent: set[Node] = set()
    count = len(rows)
    inputs: list[dict[Node, int]] = []
    outs: list[int] = []
    for k, (node, operation) in enumerate(order.items()):
        # the result's row is taken before the inputs' rows are freed: kernels may not write over an input
        if free:
            slot = free.pop()
        else:
            slot, count = count, count + 1
        inputs.append({source: rows[source] for source in operation.inputs})
        rows[node] = slot
        outs.append(slot)
        spent |= {
            each for each in (*operation.inputs, node) if each not in kept and last_use.get(each, k) == k
        }
        if alike[k] == 1:  # features are copied out when all that are alike have run
            # a set of texts has no stable order: sort, so that a program is the same in every process
            free.extend(sorted(rows[each] for each in spent))
            spent = set()
    return inputs, constants, outs, count
