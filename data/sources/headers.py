"""Which column of a user's file means what."""

import re
from collections.abc import Iterable, Mapping

from core.errors import DataError

_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "close_time": ("timestamp", "datetime", "closetime", "timeclose", "barclose"),
    "open_time": ("opentime", "timeopen", "baropen", "starttime"),
    "date": ("date", "day", "tradedate", "index", "indexlevel0"),
    "time": ("time", "ts", "t", "unix", "unixtime", "epoch"),
    "open": ("open", "o", "openprice", "priceopen", "openingprice"),
    "high": ("high", "h", "highprice", "pricehigh", "max"),
    "low": ("low", "l", "lowprice", "pricelow", "min"),
    "close": ("close", "c", "last", "closeprice", "priceclose", "closelast", "closingprice"),
    "adjusted": ("adjclose", "adjustedclose", "closeadj", "adjcloseprice", "adjclosing"),
    "volume": ("volume", "v", "vol", "tickvolume", "tickvol", "quantity"),
}
_REQUIRED = ("open", "high", "low", "close", "volume")


def plain(header: object) -> str:
    """A header without case, blanks and punctuation: "<Adj. Close>" and "adj_close" are both "adjclose"."""
    return re.sub(r"[^a-z0-9]", "", str(header).lower())


def find_roles(headers: Iterable[object]) -> dict[str, object]:
    """Role → header as spelled in the file.

    Roles: close_time, open_time, date, time, open, high, low, close, adjusted, volume. Where several headers
    fit a role, the one nearest the front of its list of spellings wins. DataError names what is missing and
    lists the columns found.
    """
    found = list(headers)
    by_plain: dict[str, object] = {}
    for header in found:
        by_plain.setdefault(plain(header), header)
    roles = {
        role: by_plain[spelling]
        for role, spellings in _SPELLINGS.items()
        if (spelling := next((s for s in spellings if s in by_plain), None)) is not None
    }
    missing = [role for role in _REQUIRED if role not in roles]
    if not roles.keys() & {"close_time", "open_time", "date", "time"}:
        missing.insert(0, "timestamp")
    if missing:
        raise DataError(
            f"missing {_plural(missing)} among those found ({', '.join(map(str, found)) or 'none'}): "
            "bars need timestamp, open, high, low, close, volume; rename the columns"
            + (", and fill volume with zeros where there is none" if "volume" in missing else "")
        )
    return roles


def _plural(names: list[str]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {', '.join(names)}"
