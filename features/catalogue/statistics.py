"""Shape and memory of the return distribution; NaN where all returns of the window are equal."""

import math

from features.catalogue.entry import Feature, group

_SCALED = "ratio(returns, std(returns, 60), 0)"
# five bins that are equally likely for a normal
_QUINTILE = " + ".join(f"({_SCALED} > {edge})" for edge in (-0.8416, -0.2533, 0.2533, 0.8416))
# which of three closes in a row is above which: 6 of the 8 numbers can occur
_ORDER = "(returns > 0) * 4 + delay(returns > 0, 1) * 2 + (close > delay(close, 2))"
_SQUARES = "square(memory(returns, {lag}, 60)) / {left}"
_TAIL = "sum(max({side} - std(returns, 60), 0), 60)"
_DEVIATION = "std(log_return({lag}), 120)"

FEATURES: tuple[Feature, ...] = group(
    "statistics",
    *((f"skew_{n}", f"skew(returns, {n})", "G1", "") for n in (20, 60)),
    ("kurtosis_60", "kurt(returns, 60)", "G2, 0 for a normal", ""),
    *((f"autocorrelation_{n}_60", f"autocorrelation(returns, {n}, 60)", "[-1, 1]", "") for n in (1, 5)),
    *((f"autocorrelation_{n}_60", f"memory(returns, {n}, 60)", "[-1, 1]", "") for n in (2, 3, 10)),
    ("abs_autocorrelation_1_60", "memory(abs(returns), 1, 60)", "[-1, 1]", "Ding & Granger 1993"),
    (
        "ljung_box_3_60",
        "(" + " + ".join(_SQUARES.format(lag=lag, left=60 - lag) for lag in (1, 2, 3)) + ") * 3720",
        "[0, 196]; chi-square of 3 degrees if there is no memory",
        "Ljung & Box 1978",
    ),
    (
        "own_lag_beta_60",
        "ratio(cov(returns, delay(returns, 1), 60), square(delay(std(returns, 60), 1)), 0)",
        "return per return of the bar before",
        "",
    ),
    (
        "mean_reversion_60",
        "beta(returns, delay(log(close), 1), 60)",
        "per bar; -0.1 halves a deviation in 6.6 bars",
        "Dickey & Fuller 1979",
    ),
    *(
        (
            f"variance_ratio_{lag}_{n}",
            f"ratio(square(std(log_return({lag}), {n})), {lag} * square(std(returns, {n})), 1)",
            "ratio, 1 for a random walk",
            "Lo & MacKinlay 1988",
        )
        for lag, n in ((5, 60), (2, 120), (16, 120))
    ),
    (
        "hurst_120",
        # least-squares slope of the log deviation of returns over 1, 2, 4, 8 and 16 bars on the log of
        # their length: weights -2, -1, 0, 1, 2; a flat price reads as a random walk
        f"log(max(ratio(square({_DEVIATION.format(lag=16)}) * {_DEVIATION.format(lag=8)}, "
        f"square(std(returns, 120)) * {_DEVIATION.format(lag=2)}, 32), 1e-9)) / {10 * math.log(2)}",
        "exponent, 0.5 for a random walk",
        "Di Matteo 2007",
    ),
    (
        "sign_entropy_60",
        "entropy(returns > 0, 60, 2) / 0.6931471805599453",
        "[0, 1]; 1 if half of the bars rise",
        "Shannon 1948",
    ),
    (
        "return_entropy_60",
        f"entropy({_QUINTILE}, 60, 5) / 1.6094379124341003",
        "[0, 1]; of returns in 5 bins that a normal fills equally",
        "Shannon 1948",
    ),
    (
        "permutation_entropy_60",
        f"entropy({_ORDER}, 60, 8) / 1.791759469228055",
        "[0, 1]; of the orders of three closes in a row",
        "Bandt & Pompe 2002",
    ),
    (
        "fractional_difference_200",
        # the 200 weights sum to 0.03997: their share of the price level is taken out
        "fractional_difference(log(close), 0.5, 0.0001) - mean(log(close), 200) * 0.03996922502635885",
        "log price, order 0.5",
        "Hosking 1981, Lopez de Prado 2018",
    ),
    ("drawdown_60", "log(close) - highest(log(close), 60)", "(-inf, 0] log return", ""),
    ("max_drawdown_60", "largest_fall(log(close), 60)", "[0, inf) log return", ""),
    ("max_runup_60", "largest_fall(-log(close), 60)", "[0, inf) log return", ""),
    (
        "tail_balance_60",
        f"ratio({_TAIL.format(side='returns')} - {_TAIL.format(side='-returns')}, "
        f"{_TAIL.format(side='returns')} + {_TAIL.format(side='-returns')}, 0)",
        "[-1, 1]; gains against losses beyond one standard deviation",
        "after Biglova et al. 2004, Rachev ratio",
    ),
    ("largest_move_60", "ratio(highest(abs(returns), 60), std(returns, 60), 0)", "standard deviations", ""),
    (
        "jump_share_20",
        "max(1 - ratio(mean(abs(returns) * delay(abs(returns), 1), 20) * 1.5707963267948966, "
        "mean(square(returns), 20), 1), 0)",
        "[0, 1]",
        "Barndorff-Nielsen & Shephard 2004",
    ),
)
