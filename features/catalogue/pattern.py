"""The candlestick patterns of TA-Lib with its default settings: 1 bullish, -1 bearish, 0 none.

A value is TA-Lib's over 100: 0.8 where the bodies share an end, 2 where the latest pattern is confirmed.
What a pattern says of an earlier candle is a delay of what was said when that candle was the newest.
Conditions that follow from the others are left out.
"""

from features.catalogue.entry import Feature, group

Line = tuple[str, str, str, str]


def _bullish(name: str, code: str, condition: str) -> Line:
    return f"cdl_{name}", condition, "{0, 1}", f"TA-Lib CDL{code}"


def _bearish(name: str, code: str, condition: str) -> Line:
    return f"cdl_{name}", f"where({condition}, -1, 0)", "{-1, 0}", f"TA-Lib CDL{code}"


def _colored(name: str, code: str, condition: str) -> Line:
    return f"cdl_{name}", f"where({condition}, color, 0)", "{-1, 0, 1}", f"TA-Lib CDL{code}"


def _either(name: str, code: str, up: str, down: str, values: str = "{-1, 0, 1}") -> Line:
    return f"cdl_{name}", f"{up} - {down}", values, f"TA-Lib CDL{code}"


def _confirmed(name: str, code: str, pattern: str) -> Line:
    expression = f"confirmed({pattern}, close, delay(high, 1), delay(low, 1), 3)"
    return f"cdl_{name}", expression, "{-2, -1, 0, 1, 2}", f"TA-Lib CDL{code}"


def _twice(condition: str) -> str:
    return f"(({condition}) * delay({condition}, 1))"


def _thrice(condition: str) -> str:
    return f"all3({condition}, delay({condition}, 1), delay({condition}, 2))"


_SHARED_ENDS = "{-1, -0.8, 0, 0.8, 1}"

# one candle
_BELT = "long_body * where(white, no_lower_wick, no_upper_wick)"
_HAMMER = "all3(short_body, long_lower_wick, no_upper_wick)"
_INVERTED_HAMMER = "all3(short_body, long_upper_wick, no_lower_wick)"
_BLACK_MARUBOZU = "all3(black, no_upper_wick, no_lower_wick)"

# the body beside the one before: on each side 1 is beyond it, 0 level with it, -1 short of it
_ABOVE = "sign(body_top - delay(body_top, 1))"
_BELOW = "sign(delay(body_bottom, 1) - body_bottom)"
_ENGULFS = f"({_ABOVE} + {_BELOW} > 1)"
_ENGULFING = f"where({_ENGULFS}, 1, ({_ABOVE} + {_BELOW} > 0) * 0.8)"
_WITHIN = f"(0 > max({_ABOVE}, {_BELOW}))"
_HARAMI = f"where({_WITHIN}, 1, (0 >= max({_ABOVE}, {_BELOW})) * 0.8)"

# two candles
_AFTER_WHITE, _AFTER_BLACK = "delay(long_white, 1)", "delay(long_black, 1)"
_WITHIN_WHITE = f"all3({_WITHIN}, small_body, {_AFTER_WHITE})"
_WITHIN_BLACK = f"all3({_WITHIN}, small_body, {_AFTER_BLACK})"
_STAR_ABOVE, _STAR_BELOW = f"body_gap_up * {_AFTER_WHITE}", f"body_gap_down * {_AFTER_BLACK}"
_SAME_OPEN = "beside(open, delay(open, 1), delay(equal_size, 1))"
_SAME_CLOSE = "beside(close, delay(close, 1), delay(equal_size, 1))"
_OPENS_AT_CLOSE = "beside(open, delay(close, 1), delay(equal_size, 1))"
_OPENS_LOWER = f"all3({_AFTER_BLACK}, white, delay(low, 1) > open)"
_OPENS_HIGHER = "open > delay(open, 1)"
_OPENS_NEAR = "(open >= delay(body_bottom - near_size, 1)) * (delay(body_top + near_size, 1) >= open)"
_OPENS_HIGHER_NEAR = f"({_OPENS_HIGHER}) * (delay(close + near_size, 1) >= open)"
_CLOSES_IN_OPENING_HALF = "between(close, delay(open, 1), delay(body_middle, 1))"
_SMALLER = "delay(real_body, 1) > real_body"
_FAR_SMALLER = "delay(real_body, 1) - delay(far_size, 1) > real_body"
_NOT_FAR_SMALLER = "real_body > delay(real_body, 1) - delay(far_size, 1)"
_BODY_CHANGE = "abs(real_body - delay(real_body, 1))"
_KICKS_UP = "all3(marubozu * delay(marubozu, 1), turns_white, bar_gap_up)"
_KICKS_DOWN = "all3(marubozu * delay(marubozu, 1), turns_black, bar_gap_down)"

# three candles
_CLOSES_IN_FIRST = "between(close, delay(open, 2), delay(close, 2))"
_PUSHES_UP = "(long_white * (close > delay(close + real_body * 0.3, 2)))"
_PUSHES_DOWN = "(long_black * (delay(close - real_body * 0.3, 2) > close))"
_CROWS = f"{_thrice('black * no_lower_wick')}, {_twice('falls')}"
_ADVANCE = f"all3(three_white, {_twice('rises')}, {_twice(_OPENS_HIGHER_NEAR)})"
_WICKED = "upper_wick > usual_wick"
_WEAK_BODIES = (
    f"max({_FAR_SMALLER}, delay({_FAR_SMALLER}, 1) * (delay(real_body, 1) + delay(near_size, 1) > real_body))"
)
_WEAK_WICKS = (
    f"({_SMALLER}) * max(long_upper_wick, delay({_SMALLER}, 1) * max({_WICKED}, delay({_WICKED}, 1)))"
)
_LARGEST_BODY = "max(real_body, max(delay(real_body, 1), delay(real_body, 2)))"
_THREE_DOJI = f"delay(doji_size, 2) >= {_LARGEST_BODY}"
_TWINS = f"all3(two_white, delay(near_size, 1) >= {_BODY_CHANGE}, {_SAME_OPEN})"
_TASUKI = f"opens_in_body, delay(near_size, 1) > {_BODY_CHANGE}"

# four and five candles
_LOWEST_TOP = "min(body_top, min(delay(body_top, 1), delay(body_top, 2)))"
_HIGHEST_BOTTOM = "max(body_bottom, max(delay(body_bottom, 1), delay(body_bottom, 2)))"
_RESTS = f"((delay(high, 4) > delay({_HIGHEST_BOTTOM}, 1)) * (delay({_LOWEST_TOP}, 1) > delay(low, 4)))"
_SHORT_FALLS = f"delay(all3({_thrice('short_body')}, three_black, {_twice('falls')}), 1)"
_SHORT_RISES = f"delay(all3({_thrice('short_body')}, three_white, {_twice('rises')}), 1)"

FEATURES: tuple[Feature, ...] = group(
    "pattern",
    _bullish("doji", "DOJI", "doji_body"),
    _bullish("dragonfly_doji", "DRAGONFLYDOJI", "all3(doji_body, no_upper_wick, some_lower_wick)"),
    _bullish("gravestone_doji", "GRAVESTONEDOJI", "all3(doji_body, no_lower_wick, some_upper_wick)"),
    _bullish("long_legged_doji", "LONGLEGGEDDOJI", "doji_body * max(long_upper_wick, long_lower_wick)"),
    _bullish(
        "rickshaw_man",
        "RICKSHAWMAN",
        "all4(doji_body, long_upper_wick, long_lower_wick,"
        " near_size >= max(body_bottom - median_price, median_price - body_top))",
    ),
    _bullish("takuri", "TAKURI", "all3(doji_body, no_upper_wick, very_long_lower_wick)"),
    _colored("high_wave", "HIGHWAVE", "all3(short_body, very_long_upper_wick, very_long_lower_wick)"),
    _colored("spinning_top", "SPINNINGTOP", "all3(short_body, long_upper_wick, long_lower_wick)"),
    _colored("long_line", "LONGLINE", "all3(long_body, short_upper_wick, short_lower_wick)"),
    _colored("short_line", "SHORTLINE", "all3(short_body, short_upper_wick, short_lower_wick)"),
    _colored("marubozu", "MARUBOZU", "marubozu"),
    _colored("closing_marubozu", "CLOSINGMARUBOZU", "long_body * where(white, no_upper_wick, no_lower_wick)"),
    _colored("belt_hold", "BELTHOLD", _BELT),
    _bullish("hammer", "HAMMER", f"{_HAMMER} * (delay(low + near_size, 1) >= body_bottom)"),
    _bearish("hanging_man", "HANGINGMAN", f"{_HAMMER} * (body_bottom >= delay(high - near_size, 1))"),
    _bullish("inverted_hammer", "INVERTEDHAMMER", f"{_INVERTED_HAMMER} * body_gap_down"),
    _bearish("shooting_star", "SHOOTINGSTAR", f"{_INVERTED_HAMMER} * body_gap_up"),
    _either(
        "engulfing",
        "ENGULFING",
        f"{_ENGULFING} * turns_white",
        f"{_ENGULFING} * turns_black",
        _SHARED_ENDS,
    ),
    _either(
        "harami",
        "HARAMI",
        f"{_HARAMI} * small_body * {_AFTER_BLACK}",
        f"{_HARAMI} * small_body * {_AFTER_WHITE}",
        _SHARED_ENDS,
    ),
    _either(
        "harami_cross",
        "HARAMICROSS",
        f"{_HARAMI} * doji_body * {_AFTER_BLACK}",
        f"{_HARAMI} * doji_body * {_AFTER_WHITE}",
        _SHARED_ENDS,
    ),
    _bullish("homing_pigeon", "HOMINGPIGEON", f"{_WITHIN_BLACK} * black"),
    _bullish("matching_low", "MATCHINGLOW", f"two_black * {_SAME_CLOSE}"),
    _either(
        "counterattack",
        "COUNTERATTACK",
        f"all3({_SAME_CLOSE}, long_white, {_AFTER_BLACK})",
        f"all3({_SAME_CLOSE}, long_black, {_AFTER_WHITE})",
    ),
    _either(
        "separating_lines",
        "SEPARATINGLINES",
        f"all3({_SAME_OPEN}, {_BELT}, turns_white)",
        f"all3({_SAME_OPEN}, {_BELT}, turns_black)",
    ),
    _bearish(
        "dark_cloud_cover",
        "DARKCLOUDCOVER",
        f"all4({_AFTER_WHITE}, black, open > delay(high, 1), {_CLOSES_IN_OPENING_HALF})",
    ),
    _bullish("piercing", "PIERCING", f"all3({_OPENS_LOWER}, long_body, {_CLOSES_IN_OPENING_HALF})"),
    _bearish(
        "in_neck",
        "INNECK",
        f"all3({_OPENS_LOWER}, close >= delay(close, 1), delay(close + equal_size, 1) >= close)",
    ),
    _bearish("on_neck", "ONNECK", f"{_OPENS_LOWER} * beside(close, delay(low, 1), delay(equal_size, 1))"),
    _bearish(
        "thrusting",
        "THRUSTING",
        f"all3({_OPENS_LOWER}, close > delay(close + equal_size, 1), delay(body_middle, 1) >= close)",
    ),
    _either("doji_star", "DOJISTAR", f"{_STAR_BELOW} * doji_body", f"{_STAR_ABOVE} * doji_body"),
    _either("kicking", "KICKING", _KICKS_UP, _KICKS_DOWN),
    # the longer of the two decides; their colors differ
    (
        "cdl_kicking_by_length",
        f"where(delay(real_body, 1) >= real_body, {_KICKS_DOWN} - {_KICKS_UP}, {_KICKS_UP} - {_KICKS_DOWN})",
        "{-1, 0, 1}",
        "TA-Lib CDLKICKINGBYLENGTH",
    ),
    _bearish(
        "two_crows",
        "2CROWS",
        f"all4(delay({_STAR_ABOVE}, 1), two_black, opens_in_body, {_CLOSES_IN_FIRST})",
    ),
    _bearish(
        "upside_gap_two_crows",
        "UPSIDEGAP2CROWS",
        f"all4(delay({_STAR_ABOVE} * small_body, 1), two_black, {_OPENS_HIGHER},"
        " between(close, delay(close, 1), delay(close, 2)))",
    ),
    _bearish(
        "three_black_crows",
        "3BLACKCROWS",
        f"all4({_CROWS}, {_twice('opens_in_body')}, delay(turns_black * (delay(high, 1) > close), 2))",
    ),
    _bearish("identical_three_crows", "IDENTICAL3CROWS", f"all3({_CROWS}, {_twice(_OPENS_AT_CLOSE)})"),
    _either(
        "three_inside",
        "3INSIDE",
        f"all3(delay({_WITHIN_BLACK}, 1), white, close > delay(open, 2))",
        f"all3(delay({_WITHIN_WHITE}, 1), black, delay(open, 2) > close)",
    ),
    _either(
        "three_outside",
        "3OUTSIDE",
        f"delay({_ENGULFS} * turns_white, 1) * rises",
        f"delay({_ENGULFS} * turns_black, 1) * falls",
    ),
    _bullish(
        "three_white_soldiers",
        "3WHITESOLDIERS",
        f"all4({_ADVANCE}, {_thrice('no_upper_wick')}, {_twice(_NOT_FAR_SMALLER)}, long_body)",
    ),
    _bearish(
        "advance_block",
        "ADVANCEBLOCK",
        f"all3({_ADVANCE}, delay(long_body * short_upper_wick, 2), max({_WEAK_BODIES}, {_WEAK_WICKS}))",
    ),
    _bearish(
        "stalled_pattern",
        "STALLEDPATTERN",
        f"all4(three_white * {_twice('rises')}, short_body, delay(long_body, 2),"
        f" delay(all3(long_body, no_upper_wick, {_OPENS_HIGHER_NEAR}), 1))",
    ),
    _bullish(
        "three_stars_in_south",
        "3STARSINSOUTH",
        "all4(delay(long_black * long_lower_wick, 2), delay(all4("
        f"all4(black, {_SMALLER}, open > delay(close, 1), delay(high, 1) >= open),"
        " some_lower_wick, delay(close, 1) > low, low >= delay(low, 1)), 1),"
        f" {_BLACK_MARUBOZU} * short_body, inside_bar)",
    ),
    _bullish(
        "unique_three_river",
        "UNIQUE3RIVER",
        f"all4(delay(all4({_AFTER_BLACK}, black * rises, delay(open, 1) >= open, delay(low, 1) > low), 1),"
        " short_body, white, open > delay(low, 1))",
    ),
    _bullish(
        "stick_sandwich",
        "STICKSANDWICH",
        "all3(delay(turns_white * (low > delay(close, 1)), 1), black,"
        " beside(close, delay(close, 2), delay(equal_size, 2)))",
    ),
    _bullish("morning_star", "MORNINGSTAR", f"delay({_STAR_BELOW} * small_body, 1) * {_PUSHES_UP}"),
    _bullish("morning_doji_star", "MORNINGDOJISTAR", f"delay({_STAR_BELOW} * doji_body, 1) * {_PUSHES_UP}"),
    _bearish("evening_star", "EVENINGSTAR", f"delay({_STAR_ABOVE} * small_body, 1) * {_PUSHES_DOWN}"),
    _bearish("evening_doji_star", "EVENINGDOJISTAR", f"delay({_STAR_ABOVE} * doji_body, 1) * {_PUSHES_DOWN}"),
    _either(
        "abandoned_baby",
        "ABANDONEDBABY",
        f"all3(delay(all3(doji_body, bar_gap_down, {_AFTER_BLACK}), 1), {_PUSHES_UP}, bar_gap_up)",
        f"all3(delay(all3(doji_body, bar_gap_up, {_AFTER_WHITE}), 1), {_PUSHES_DOWN}, bar_gap_down)",
    ),
    _either(
        "tristar",
        "TRISTAR",
        f"all3({_THREE_DOJI}, delay(body_gap_down, 1), body_bottom > delay(body_bottom, 1))",
        f"all3({_THREE_DOJI}, delay(body_gap_up, 1), delay(body_top, 1) > body_top)",
    ),
    _either(
        "gap_side_side_white",
        "GAPSIDESIDEWHITE",
        f"all3({_TWINS}, delay(body_gap_up, 1), body_bottom > delay(body_top, 2))",
        f"all3({_TWINS}, delay(body_gap_down, 1), delay(body_bottom, 2) > body_top)",
    ),
    _either(
        "tasuki_gap",
        "TASUKIGAP",
        f"all4(delay(body_gap_up, 1) * turns_black, {_TASUKI},"
        " between(close, delay(open, 1), delay(body_top, 2)))",
        f"all4(delay(body_gap_down, 1) * turns_white, {_TASUKI},"
        " between(close, delay(open, 1), delay(body_bottom, 2)))",
    ),
    _either(
        "gap_three_methods",
        "XSIDEGAP3METHODS",
        f"all4(delay(two_white * body_gap_up, 1), black, opens_in_body, {_CLOSES_IN_FIRST})",
        f"all4(delay(two_black * body_gap_down, 1), white, opens_in_body, {_CLOSES_IN_FIRST})",
    ),
    _either(
        "three_line_strike",
        "3LINESTRIKE",
        f"all3(delay(all3(three_white, {_twice('rises')}, {_twice(_OPENS_NEAR)}), 1),"
        " open > delay(close, 1), delay(open, 3) > close)",
        f"all3(delay(all3(three_black, {_twice('falls')}, {_twice(_OPENS_NEAR)}), 1),"
        " delay(close, 1) > open, close > delay(open, 3))",
    ),
    _bullish(
        "concealing_baby_swallow",
        "CONCEALBABYSWALL",
        f"all4(delay({_twice(_BLACK_MARUBOZU)}, 2),"
        " delay(all4(black, body_gap_down, some_upper_wick, high > delay(close, 1)), 1), black, outside_bar)",
    ),
    _either(
        "breakaway",
        "BREAKAWAY",
        f"all4(delay({_STAR_BELOW} * black, 3), delay({_twice('lower_bar')}, 1), turns_white,"
        " between(close, delay(open, 3), delay(close, 4)))",
        f"all4(delay({_STAR_ABOVE} * white, 3), delay({_twice('higher_bar')}, 1), turns_black,"
        " between(close, delay(open, 3), delay(close, 4)))",
    ),
    _bullish(
        "ladder_bottom",
        "LADDERBOTTOM",
        f"all4(delay(all3(three_black, {_twice('falls')}, {_twice('delay(open, 1) > open')}), 2),"
        f" delay(black * some_upper_wick, 1), white * ({_OPENS_HIGHER}), close > delay(high, 1))",
    ),
    _bullish(
        "mat_hold",
        "MATHOLD",
        f"all4(all4(delay({_STAR_ABOVE} * (short_body * black), 3), delay({_twice('short_body')}, 1), white,"
        " open > delay(close, 1)),"
        " between(delay(body_bottom, 1), delay(close, 4), delay(body_middle, 4)),"
        " between(delay(body_bottom, 2), delay(close, 4), delay(body_middle, 4)),"
        " all3(delay(open, 3) > delay(body_top, 2), delay(body_top, 2) > delay(body_top, 1),"
        " close > delay(max(high, max(delay(high, 1), delay(high, 2))), 1)))",
    ),
    _either(
        "rise_fall_three_methods",
        "RISEFALL3METHODS",
        f"all3(all4(delay({_AFTER_WHITE}, 3), {_SHORT_FALLS}, long_white, {_RESTS}),"
        " open > delay(close, 1), close > delay(close, 4))",
        f"all3(all4(delay({_AFTER_BLACK}, 3), {_SHORT_RISES}, long_black, {_RESTS}),"
        " delay(close, 1) > open, delay(close, 4) > close)",
    ),
    _confirmed("hikkake", "HIKKAKE", "delay(inside_bar, 1) * (lower_bar - higher_bar)"),
    _confirmed(
        "hikkake_modified",
        "HIKKAKEMOD",
        f"delay({_twice('inside_bar')}, 1) * (lower_bar * delay(low + near_size >= close, 2)"
        " - higher_bar * delay(close >= high - near_size, 2))",
    ),
)
