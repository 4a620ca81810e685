"""The engine's loop: runs a program over bars, in blocks, for batch and stream alike.

Compiled by `features.compiler`; everything that it needs to know stands in one array of integers, laid out
as `features.layout` says, so that calling it for one bar costs next to nothing.
"""

import math
from typing import Any

from features.compiler import call, floats_at, integers_at, shorts_at
from features.layout import (
    ALIKE,
    BARS,
    BUF_AT,
    CLOCK,
    CODE_AT,
    CODE_WIDTH,
    COLUMNS_AT,
    COLUMNS_STRIDE,
    DRIVES,
    EMIT,
    INPUTS,
    INPUTS_AT,
    KERNELS_AT,
    MAX_PARAMS,
    OP,
    OPERATIONS,
    OUT,
    OUT_AT,
    OUT_STRIDE,
    PARAMS_AT,
    STATE,
    STATE_AT,
    TICKS,
    WARMUP,
    WIDTH,
    WORK_AT,
)


def run(context: Any) -> None:
    """Advance the state over all bars and write the features.

    A value before a feature's warm-up is NaN, and so is any infinity. A block has one bar less than a row of
    the buffer: a bar can close two coarse ones, its own and one that a gap left open.
    """
    kernels, code = integers_at(context[KERNELS_AT]), shorts_at(context[CODE_AT])
    inputs = integers_at(context[INPUTS_AT])
    buf, state = floats_at(context[BUF_AT]), floats_at(context[STATE_AT])
    columns, out = floats_at(context[COLUMNS_AT]), floats_at(context[OUT_AT])
    width, total = context[WIDTH], context[BARS]
    start = 0
    while start < total:
        n = min(width - 1, total - start)
        for row in range(context[INPUTS]):
            source, target = inputs[row] * context[COLUMNS_STRIDE] + start, row * width
            for i in range(n):
                buf[target + i] = columns[source + i]
        context[TICKS] = n
        k = 0
        while k < context[OPERATIONS]:
            row = k * CODE_WIDTH
            ticks = context[TICKS + code[row + CLOCK]]
            if ticks > 0:
                call(
                    kernels[code[row + OP]],
                    floats_at(context[BUF_AT]),
                    floats_at(context[STATE_AT]),
                    floats_at(context[WORK_AT]),
                    shorts_at(context[CODE_AT] + 4 * row),
                    floats_at(context[PARAMS_AT] + 8 * MAX_PARAMS * k),
                    code[row + ALIKE],
                    ticks,
                    width,
                )
            if code[row + DRIVES] > 0:
                context[TICKS + code[row + DRIVES]] = int(state[code[row + STATE]])
            k += code[row + ALIKE]
            for each in range(row, k * CODE_WIDTH, CODE_WIDTH):
                feature = code[each + EMIT]
                if feature >= 0:
                    first = min(max(code[each + WARMUP] - int(state[0]), 0), n)
                    source, target = code[each + OUT] * width, feature * context[OUT_STRIDE] + start
                    for i in range(first):
                        out[target + i] = math.nan
                    for i in range(first, n):
                        value = buf[source + i]
                        # only a finite value less itself is 0
                        out[target + i] = value if value - value == 0.0 else math.nan
        state[0] += n
        start += n
