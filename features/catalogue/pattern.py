"""The candlestick patterns of TA-Lib with its default settings: 1 bullish, -1 bearish, 0 none.

A value is TA-Lib's divided by 100: 2 is a confirmation, 0.8 a body whose one end only touches the other's.
Bars are counted back from the newest: what is said of an earlier candle is a delay of what was said then.
"""

from features.catalogue.entry import Feature, group

UP, DOWN, BOTH = "{0, 1}", "{-1, 0}", "{-1, 0, 1}"
ENDS_TOUCH = "{-1, -0.8, 0, 0.8, 1}"
CONFIRMED = "{-2, -1, 0, 1, 2}"


def _both(up: str, down: str) -> str:
    return f"{up} - {down}"


def _colored(condition: str) -> str:
    return f"where({condition}, color, 0)"


def _bearish(condition: str) -> str:
    return f"where({condition}, -1, 0)"


def _twice(condition: str) -> str:
    return f"({condition}) * delay({condition}, 1)"


# one candle
_OPENS_AT_ITS_END = "where(white, no_lower_wick, no_upper_wick)"
_CLOSES_AT_ITS_END = "where(white, no_upper_wick, no_lower_wick)"
_BELT = f"long_body * {_OPENS_AT_ITS_END}"
_HAMMER = "all3(short_body, long_lower_wick, no_upper_wick)"
_INVERTED_HAMMER = "all3(short_body, long_upper_wick, no_lower_wick)"
_DARK_MARUBOZU = "all3(black, no_upper_wick, no_lower_wick)"

# how the body reaches beyond the one before: 1 beyond, 0 level, -1 short of it
_ABOVE = "sign(body_top - delay(body_top, 1))"
_BELOW = "sign(delay(body_bottom, 1) - body_bottom)"
_ENGULFS = f"{_ABOVE} + {_BELOW} > 1"
_ENGULFS_OR_TOUCHES = f"where({_ENGULFS}, 1, ({_ABOVE} + {_BELOW} > 0) * 0.8)"
_WITHIN = f"0 > max({_ABOVE}, {_BELOW})"
_WITHIN_OR_TOUCHES = f"where({_WITHIN}, 1, (0 >= max({_ABOVE}, {_BELOW})) * 0.8)"
_AFTER_WHITE, _AFTER_BLACK = "delay(long_white, 1)", "delay(long_black, 1)"
_INSIDE_BLACK = f"all3({_WITHIN}, small_body, {_AFTER_BLACK})"
_INSIDE_WHITE = f"all3({_WITHIN}, small_body, {_AFTER_WHITE})"

# two candles
_STAR_ABOVE = f"body_gap_up * {_AFTER_WHITE}"
_STAR_BELOW = f"body_gap_down * {_AFTER_BLACK}"
_SMALL_STAR_ABOVE, _SMALL_STAR_BELOW = f"{_STAR_ABOVE} * small_body", f"{_STAR_BELOW} * small_body"
_DOJI_STAR_ABOVE, _DOJI_STAR_BELOW = f"{_STAR_ABOVE} * doji_body", f"{_STAR_BELOW} * doji_body"
_SAME_OPEN = "beside(open, delay(open, 1), delay(equal_size, 1))"
_SAME_CLOSE = "beside(close, delay(close, 1), delay(equal_size, 1))"
_OPENS_BELOW = f"all3({_AFTER_BLACK}, white, delay(low, 1) > open)"
_OPENS_AT_CLOSE = "beside(open, delay(close, 1), delay(equal_size, 1))"
_OPENS_HIGHER_IN_OR_NEAR = "(open > delay(open, 1)) * (delay(close + near_size, 1) >= open)"
_OPENS_IN_OR_NEAR = "(open >= delay(body_bottom - near_size, 1)) * (delay(body_top + near_size, 1) >= open)"
_SMALLER = "delay(real_body, 1) > real_body"
_FAR_SMALLER = "delay(real_body, 1) - delay(far_size, 1) > real_body"
_NOT_FAR_SMALLER = "real_body > delay(real_body, 1) - delay(far_size, 1)"
_BODY_CHANGE = "abs(real_body - delay(real_body, 1))"
_KICK = "marubozu * delay(marubozu, 1)"
_KICKS = _both(f"all3({_KICK}, turns_white, bar_gap_up)", f"all3({_KICK}, turns_black, bar_gap_down)")

# three candles
_PUSHES_DOWN = "long_black * (delay(close - real_body * 0.3, 2) > close)"
_PUSHES_UP = "long_white * (close > delay(close + real_body * 0.3, 2))"
_THREE_CROWS = "black * no_lower_wick"
_THREE_CROWS = f"all3({_THREE_CROWS}, delay({_THREE_CROWS}, 1), delay({_THREE_CROWS}, 2))"
_SOLDIER = "white * no_upper_wick"
_THREE_SOLDIERS = f"all3({_SOLDIER}, delay({_SOLDIER}, 1), delay({_SOLDIER}, 2))"
_ADVANCE = f"all3(three_white, {_twice('rises')}, {_twice(_OPENS_HIGHER_IN_OR_NEAR)})"
_LONGER_WICK = "upper_wick > usual_wick"
_WEAKENS = (
    f"max(max(delay({_FAR_SMALLER}, 1) * (delay(real_body, 1) + delay(near_size, 1) > real_body), {_FAR_SMALLER}), "
    f"({_SMALLER}) * max(delay({_SMALLER}, 1) * max({_LONGER_WICK}, delay({_LONGER_WICK}, 1)), long_upper_wick))"
)
_THREE_DOJI = "delay(doji_size, 2) >= max(real_body, max(delay(real_body, 1), delay(real_body, 2)))"
_TWINS = f"all3(two_white, delay(near_size, 1) >= {_BODY_CHANGE}, {_SAME_OPEN})"
_CLOSES_IN_FIRST = "between(close, delay(open, 2), delay(close, 2))"
_NEARLY_AS_LARGE = f"delay(near_size, 1) > {_BODY_CHANGE}"

# four and five candles
_SHORT_BLACKS = "all3({0}, delay({0}, 1), delay({0}, 2))".format("short_body * black")
_SHORT_WHITES = "all3({0}, delay({0}, 1), delay({0}, 2))".format("short_body * white")
_IN_RANGE = (
    "(delay(high, 4) > delay(max(body_bottom, max(delay(body_bottom, 1), delay(body_bottom, 2))), 1))"
    " * (delay(min(body_top, min(delay(body_top, 1), delay(body_top, 2))), 1) > delay(low, 4))"
)
_HOLDS = (
    "between(delay(body_bottom, 1), delay(close, 4), delay(body_middle, 4))"
    " * between(delay(body_bottom, 2), delay(close, 4), delay(body_middle, 4))"
)
_HIKKAKE = "delay(inside_bar, 1) * (lower_bar - higher_bar)"
_HIKKAKE_MODIFIED = (
    f"delay({_twice('inside_bar')}, 1)"
    " * (lower_bar * delay(low + near_size >= close, 2) - higher_bar * delay(close >= high - near_size, 2))"
)

FEATURES: tuple[Feature, ...] = group(
    "pattern",
    *(
        (f"cdl_{name}", expression, values, f"TA-Lib CDL{code}")
        for name, code, values, expression in (
            ("doji", "DOJI", UP, "doji_body"),
            ("dragonfly_doji", "DRAGONFLYDOJI", UP, "all3(doji_body, no_upper_wick, some_lower_wick)"),
            ("gravestone_doji", "GRAVESTONEDOJI", UP, "all3(doji_body, no_lower_wick, some_upper_wick)"),
            ("long_legged_doji", "LONGLEGGEDDOJI", UP, "doji_body * max(long_upper_wick, long_lower_wick)"),
            (
                "rickshaw_man",
                "RICKSHAWMAN",
                UP,
                "all4(doji_body, long_upper_wick, long_lower_wick, "
                "near_size >= max(body_bottom - median_price, median_price - body_top))",
            ),
            ("takuri", "TAKURI", UP, "all3(doji_body, no_upper_wick, very_long_lower_wick)"),
            (
                "high_wave",
                "HIGHWAVE",
                BOTH,
                _colored("all3(short_body, very_long_upper_wick, very_long_lower_wick)"),
            ),
            (
                "spinning_top",
                "SPINNINGTOP",
                BOTH,
                _colored("all3(short_body, long_upper_wick, long_lower_wick)"),
            ),
            ("long_line", "LONGLINE", BOTH, _colored("all3(long_body, short_upper_wick, short_lower_wick)")),
            (
                "short_line",
                "SHORTLINE",
                BOTH,
                _colored("all3(short_body, short_upper_wick, short_lower_wick)"),
            ),
            ("marubozu", "MARUBOZU", BOTH, _colored("marubozu")),
            ("closing_marubozu", "CLOSINGMARUBOZU", BOTH, _colored(f"long_body * {_CLOSES_AT_ITS_END}")),
            ("belt_hold", "BELTHOLD", BOTH, _colored(_BELT)),
            ("hammer", "HAMMER", UP, f"{_HAMMER} * (delay(low + near_size, 1) >= body_bottom)"),
            (
                "hanging_man",
                "HANGINGMAN",
                DOWN,
                _bearish(f"{_HAMMER} * (body_bottom >= delay(high - near_size, 1))"),
            ),
            ("inverted_hammer", "INVERTEDHAMMER", UP, f"{_INVERTED_HAMMER} * body_gap_down"),
            ("shooting_star", "SHOOTINGSTAR", DOWN, _bearish(f"{_INVERTED_HAMMER} * body_gap_up")),
            (
                "engulfing",
                "ENGULFING",
                ENDS_TOUCH,
                _both(f"{_ENGULFS_OR_TOUCHES} * turns_white", f"{_ENGULFS_OR_TOUCHES} * turns_black"),
            ),
            (
                "harami",
                "HARAMI",
                ENDS_TOUCH,
                _both(
                    f"{_WITHIN_OR_TOUCHES} * small_body * {_AFTER_BLACK}",
                    f"{_WITHIN_OR_TOUCHES} * small_body * {_AFTER_WHITE}",
                ),
            ),
            (
                "harami_cross",
                "HARAMICROSS",
                ENDS_TOUCH,
                _both(
                    f"{_WITHIN_OR_TOUCHES} * doji_body * {_AFTER_BLACK}",
                    f"{_WITHIN_OR_TOUCHES} * doji_body * {_AFTER_WHITE}",
                ),
            ),
            ("homing_pigeon", "HOMINGPIGEON", UP, f"{_INSIDE_BLACK} * black"),
            ("matching_low", "MATCHINGLOW", UP, f"two_black * {_SAME_CLOSE}"),
            (
                "counterattack",
                "COUNTERATTACK",
                BOTH,
                _both(
                    f"all3({_SAME_CLOSE}, long_white, {_AFTER_BLACK})",
                    f"all3({_SAME_CLOSE}, long_black, {_AFTER_WHITE})",
                ),
            ),
            (
                "dark_cloud_cover",
                "DARKCLOUDCOVER",
                DOWN,
                _bearish(
                    f"all4({_AFTER_WHITE}, black, open > delay(high, 1),"
                    " between(close, delay(open, 1), delay(body_middle, 1)))"
                ),
            ),
            (
                "piercing",
                "PIERCING",
                UP,
                f"all3({_OPENS_BELOW}, long_body, between(close, delay(open, 1), delay(body_middle, 1)))",
            ),
            (
                "in_neck",
                "INNECK",
                DOWN,
                _bearish(
                    f"all3({_OPENS_BELOW}, close >= delay(close, 1), delay(close + equal_size, 1) >= close)"
                ),
            ),
            (
                "on_neck",
                "ONNECK",
                DOWN,
                _bearish(f"{_OPENS_BELOW} * beside(close, delay(low, 1), delay(equal_size, 1))"),
            ),
            (
                "thrusting",
                "THRUSTING",
                DOWN,
                _bearish(
                    f"all3({_OPENS_BELOW}, close > delay(close + equal_size, 1),"
                    " delay(body_middle, 1) >= close)"
                ),
            ),
            ("doji_star", "DOJISTAR", BOTH, _both(_DOJI_STAR_BELOW, _DOJI_STAR_ABOVE)),
            ("kicking", "KICKING", BOTH, _KICKS),
            (
                "kicking_by_length",
                "KICKINGBYLENGTH",
                BOTH,
                f"where({_KICKS}, where({_SMALLER.replace('>', '>=')}, delay(color, 1), color), 0)",
            ),
            (
                "separating_lines",
                "SEPARATINGLINES",
                BOTH,
                _both(
                    f"all3({_SAME_OPEN}, {_BELT}, turns_white)", f"all3({_SAME_OPEN}, {_BELT}, turns_black)"
                ),
            ),
            (
                "two_crows",
                "2CROWS",
                DOWN,
                _bearish(f"all4(delay({_STAR_ABOVE}, 1), two_black, opens_in_body, {_CLOSES_IN_FIRST})"),
            ),
            (
                "upside_gap_two_crows",
                "UPSIDEGAP2CROWS",
                DOWN,
                _bearish(
                    f"all4(delay({_SMALL_STAR_ABOVE}, 1), two_black, open > delay(open, 1),"
                    " between(close, delay(close, 1), delay(close, 2)))"
                ),
            ),
            (
                "three_black_crows",
                "3BLACKCROWS",
                DOWN,
                _bearish(
                    f"all4({_THREE_CROWS}, {_twice('falls')}, {_twice('opens_in_body')},"
                    " delay(turns_black * (delay(high, 1) > close), 2))"
                ),
            ),
            (
                "identical_three_crows",
                "IDENTICAL3CROWS",
                DOWN,
                _bearish(f"all3({_THREE_CROWS}, {_twice('falls')}, {_twice(_OPENS_AT_CLOSE)})"),
            ),
            (
                "three_inside",
                "3INSIDE",
                BOTH,
                _both(
                    f"all3(delay({_INSIDE_BLACK}, 1), white, close > delay(open, 2))",
                    f"all3(delay({_INSIDE_WHITE}, 1), black, delay(open, 2) > close)",
                ),
            ),
            (
                "three_outside",
                "3OUTSIDE",
                BOTH,
                _both(
                    f"delay(({_ENGULFS}) * turns_white, 1) * rises",
                    f"delay(({_ENGULFS}) * turns_black, 1) * falls",
                ),
            ),
            (
                "three_white_soldiers",
                "3WHITESOLDIERS",
                UP,
                f"all4({_ADVANCE}, {_THREE_SOLDIERS}, {_twice(_NOT_FAR_SMALLER)}, long_body)",
            ),
            (
                "advance_block",
                "ADVANCEBLOCK",
                DOWN,
                _bearish(f"all3({_ADVANCE}, delay(long_body * short_upper_wick, 2), {_WEAKENS})"),
            ),
            # TA-Lib's last condition, that the third opens near the second's close or above its own body
            # below that, holds wherever the third closes higher
            (
                "stalled_pattern",
                "STALLEDPATTERN",
                DOWN,
                _bearish(
                    f"all4(three_white * {_twice('rises')}, delay(long_body, 2), delay(all3("
                    f"long_body, no_upper_wick, {_OPENS_HIGHER_IN_OR_NEAR}), 1), short_body)"
                ),
            ),
            (
                "three_stars_in_south",
                "3STARSINSOUTH",
                UP,
                "all4(delay(long_black * long_lower_wick, 2), delay(all4(black, some_lower_wick, "
                f"all3({_SMALLER}, open > delay(close, 1), delay(high, 1) >= open), "
                "(delay(close, 1) > low) * (low >= delay(low, 1))), 1), "
                f"{_DARK_MARUBOZU} * short_body, inside_bar)",
            ),
            (
                "unique_three_river",
                "UNIQUE3RIVER",
                UP,
                f"all4(delay(all4({_AFTER_BLACK}, black * rises, delay(open, 1) >= open, delay(low, 1) > low),"
                " 1), short_body, white, open > delay(low, 1))",
            ),
            (
                "stick_sandwich",
                "STICKSANDWICH",
                UP,
                "all3(delay(turns_white * (low > delay(close, 1)), 1), black, "
                "beside(close, delay(close, 2), delay(equal_size, 2)))",
            ),
            (
                "evening_star",
                "EVENINGSTAR",
                DOWN,
                _bearish(f"delay({_SMALL_STAR_ABOVE}, 1) * ({_PUSHES_DOWN})"),
            ),
            (
                "evening_doji_star",
                "EVENINGDOJISTAR",
                DOWN,
                _bearish(f"delay({_DOJI_STAR_ABOVE}, 1) * ({_PUSHES_DOWN})"),
            ),
            ("morning_star", "MORNINGSTAR", UP, f"delay({_SMALL_STAR_BELOW}, 1) * ({_PUSHES_UP})"),
            ("morning_doji_star", "MORNINGDOJISTAR", UP, f"delay({_DOJI_STAR_BELOW}, 1) * ({_PUSHES_UP})"),
            (
                "abandoned_baby",
                "ABANDONEDBABY",
                BOTH,
                _both(
                    f"all3(delay(all3(doji_body, bar_gap_down, {_AFTER_BLACK}), 1), {_PUSHES_UP}, bar_gap_up)",
                    f"all3(delay(all3(doji_body, bar_gap_up, {_AFTER_WHITE}), 1), {_PUSHES_DOWN}, bar_gap_down)",
                ),
            ),
            (
                "tristar",
                "TRISTAR",
                BOTH,
                _both(
                    f"all3({_THREE_DOJI}, delay(body_gap_down, 1), body_bottom > delay(body_bottom, 1))",
                    f"all3({_THREE_DOJI}, delay(body_gap_up, 1), delay(body_top, 1) > body_top)",
                ),
            ),
            (
                "gap_side_side_white",
                "GAPSIDESIDEWHITE",
                BOTH,
                _both(
                    f"all3({_TWINS}, delay(body_gap_up, 1), body_bottom > delay(body_top, 2))",
                    f"all3({_TWINS}, delay(body_gap_down, 1), delay(body_bottom, 2) > body_top)",
                ),
            ),
            (
                "tasuki_gap",
                "TASUKIGAP",
                BOTH,
                _both(
                    f"all4(delay(body_gap_up, 1) * turns_black, opens_in_body, {_NEARLY_AS_LARGE},"
                    " between(close, delay(open, 1), delay(body_top, 2)))",
                    f"all4(delay(body_gap_down, 1) * turns_white, opens_in_body, {_NEARLY_AS_LARGE},"
                    " between(close, delay(open, 1), delay(body_bottom, 2)))",
                ),
            ),
            (
                "gap_three_methods",
                "XSIDEGAP3METHODS",
                BOTH,
                _both(
                    f"all4(delay(two_white * body_gap_up, 1), black, opens_in_body, {_CLOSES_IN_FIRST})",
                    f"all4(delay(two_black * body_gap_down, 1), white, opens_in_body, {_CLOSES_IN_FIRST})",
                ),
            ),
            (
                "three_line_strike",
                "3LINESTRIKE",
                BOTH,
                _both(
                    f"all3(delay(all3(three_white, {_twice('rises')}, {_twice(_OPENS_IN_OR_NEAR)}), 1),"
                    " open > delay(close, 1), delay(open, 3) > close)",
                    f"all3(delay(all3(three_black, {_twice('falls')}, {_twice(_OPENS_IN_OR_NEAR)}), 1),"
                    " delay(close, 1) > open, close > delay(open, 3))",
                ),
            ),
            (
                "concealing_baby_swallow",
                "CONCEALBABYSWALL",
                UP,
                f"all4(delay({_twice(_DARK_MARUBOZU)}, 2), delay(all4("
                "black, body_gap_down, some_upper_wick, high > delay(close, 1)), 1), black, outside_bar)",
            ),
            (
                "breakaway",
                "BREAKAWAY",
                BOTH,
                _both(
                    f"all4(delay({_STAR_BELOW} * black, 3), delay({_twice('lower_bar')}, 1), turns_white,"
                    " between(close, delay(open, 3), delay(close, 4)))",
                    f"all4(delay({_STAR_ABOVE} * white, 3), delay({_twice('higher_bar')}, 1), turns_black,"
                    " between(close, delay(open, 3), delay(close, 4)))",
                ),
            ),
            (
                "ladder_bottom",
                "LADDERBOTTOM",
                UP,
                f"all4(delay(all3(three_black, {_twice('falls')}, {_twice('delay(open, 1) > open')}), 2), "
                "delay(black * some_upper_wick, 1), white * (open > delay(open, 1)), close > delay(high, 1))",
            ),
            (
                "mat_hold",
                "MATHOLD",
                UP,
                f"all4(delay({_STAR_ABOVE} * (short_body * black), 3), delay({_twice('short_body')}, 1), "
                f"all3({_HOLDS}, delay(open, 3) > delay(body_top, 2), delay(body_top, 2) > delay(body_top, 1)), "
                "all3(white, open > delay(close, 1), "
                "close > delay(max(high, max(delay(high, 1), delay(high, 2))), 1)))",
            ),
            (
                "rise_fall_three_methods",
                "RISEFALL3METHODS",
                BOTH,
                _both(
                    f"all4(delay({_AFTER_WHITE}, 3) * long_white, delay({_SHORT_BLACKS} * {_twice('falls')}, 1), "
                    f"{_IN_RANGE}, (open > delay(close, 1)) * (close > delay(close, 4)))",
                    f"all4(delay({_AFTER_BLACK}, 3) * long_black, delay({_SHORT_WHITES} * {_twice('rises')}, 1), "
                    f"{_IN_RANGE}, (delay(close, 1) > open) * (delay(close, 4) > close))",
                ),
            ),
            (
                "hikkake",
                "HIKKAKE",
                CONFIRMED,
                f"confirmed({_HIKKAKE}, close, delay(high, 1), delay(low, 1), 3)",
            ),
            (
                "hikkake_modified",
                "HIKKAKEMOD",
                CONFIRMED,
                f"confirmed({_HIKKAKE_MODIFIED}, close, delay(high, 1), delay(low, 1), 3)",
            ),
        )
    ),
)
