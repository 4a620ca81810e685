"""Where things stand in the arrays that the program fills and the engine's loop reads."""

COLUMNS = ("open", "high", "low", "close", "volume", "time")

# a row of `code`: the operator's place in the table of addresses, how many rows from here on are the same
# operator by the same clock, its result row, its state, the feature that it is (-1: none), its warm-up, the
# clock that it runs on, the clock that it drives (0: none), inputs
OP, ALIKE, OUT, STATE, EMIT, WARMUP, CLOCK, DRIVES, FIRST_INPUT = range(9)
MAX_INPUTS = 6
CODE_WIDTH = FIRST_INPUT + MAX_INPUTS
MAX_PARAMS = 2

# the engine's one argument: addresses, sizes, and from TICKS on the bars of each clock in this block
(
    CODE_AT,
    PARAMS_AT,
    KERNELS_AT,
    BUF_AT,
    WORK_AT,
    STATE_AT,
    COLUMNS_AT,
    OUT_AT,
    INPUTS_AT,
    INPUTS,
    OPERATIONS,
    WIDTH,
    BARS,
    COLUMNS_STRIDE,
    OUT_STRIDE,
    TICKS,
) = range(16)

# what reads numbers from text: its one argument besides the text
VALUES_AT, CAPACITY, LENGTH, START, COUNT, END, DEPTH, SIZES = range(8)
DEEPEST = 3
NUMERALS = SIZES + DEEPEST
