"""Shorthands of the expression language: text that the parser expands, so that definitions stay short.

The canonical text of an expression is always the expanded one.
"""

NAMES = {
    "typical": "(high + low + close) / 3",
    "median_price": "(high + low) / 2",
    "returns": "log(close / delay(close, 1))",
    "gain": "max(close - delay(close, 1), 0)",
    "loss": "max(delay(close, 1) - close, 0)",
    "true_high": "max(high, delay(close, 1))",
    "true_low": "min(low, delay(close, 1))",
    "true_range": "max(high, delay(close, 1)) - min(low, delay(close, 1))",
    "up_move": "high - delay(high, 1)",
    "down_move": "delay(low, 1) - low",
    "plus_dm": "where(up_move > down_move, max(up_move, 0), 0)",
    "minus_dm": "where(down_move > up_move, max(down_move, 0), 0)",
    "money_flow": "sign(typical - delay(typical, 1)) * typical * volume",
    "close_location": "ratio(close - low - (high - close), high - low, 0)",
    "buying_pressure": "close - true_low",
    "signed_volume": "sign(close - delay(close, 1)) * volume",
}

FUNCTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "lag": (("x", "n"), "delay(x, n)"),
    "delta": (("x", "n"), "x - delay(x, n)"),
    "roc": (("x", "n"), "x / delay(x, n) - 1"),
    "zscore": (("x", "n"), "ratio(x - mean(x, n), std(x, n), 0)"),
    "position": (("x", "low_", "high_"), "ratio(x - low_, high_ - low_, 0.5)"),
    "atr": (("n",), "wilder(true_range, n)"),
    "in_atr": (("x", "n"), "ratio(x, wilder(true_range, n), 0)"),
    "rsi": (("x", "n"), "ratio(wilder(max(delta(x, 1), 0), n), wilder(abs(delta(x, 1)), n), 0.5) * 100"),
    "macd": (("x", "fast", "slow"), "ema(x, fast) - ema(x, slow)"),
    "plus_di": (("n",), "ratio(wilder(plus_dm, n), wilder(true_range, n), 0) * 100"),
    "minus_di": (("n",), "ratio(wilder(minus_dm, n), wilder(true_range, n), 0) * 100"),
    "dx": (("n",), "ratio(abs(plus_di(n) - minus_di(n)), plus_di(n) + minus_di(n), 0) * 100"),
    "stochastic": (("n",), "position(close, lowest(low, n), highest(high, n)) * 100"),
    "cci": (("n",), "ratio(typical - mean(typical, n), 0.015 * deviation(typical, mean(typical, n), n), 0)"),
    "forecast": (("x", "n"), "mean(x, n) + slope(x, n) * ((n - 1) / 2)"),
    "autocorrelation": (("x", "lag", "n"), "corr(x, delay(x, lag), n)"),
    "ultimate": (("n",), "ratio(sum(buying_pressure, n), sum(true_range, n), 0.5)"),
    "cycle_sin": (("x", "period"), "sin(x * (6.283185307179586 / period))"),
    "cycle_cos": (("x", "period"), "cos(x * (6.283185307179586 / period))"),
    "lt": (("a", "b"), "b > a"),
    "le": (("a", "b"), "b >= a"),
}
