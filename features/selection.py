"""Which features a run builds: a catalogue, less what is left out, and the user's own expressions."""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping

from core.errors import ConfigurationError
from features.catalogue import definitions, names
from features.expression import Call, operators_of
from features.layout import COLUMNS
from features.operators import CROSS_SECTIONS
from features.parser import parse
from features.program import ALONE

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
# columns that stand beside the features in the matrix, in a bundle's reference or in the prediction log
RESERVED = frozenset(COLUMNS) | {
    *("timestamp", "bar_time", "logged_at", "latency_ms", "symbol", "side", "data_hash"),
    *("model", "model_version", "probability", "confidence", "base_probabilities"),
    *("features", "feature_set", "label", "ret", "t1", "weight"),
}


def select(
    catalog: str, user: Mapping[str, str], exclude: Collection[str], *, universe: bool = False
) -> dict[str, str]:
    """Canonical expression per name: `catalog` in its order without `exclude`, then `user` by name.

    ConfigurationError lists every fault of the three, each under the parameter that has it, with a caret
    where an expression is wrong. The order in which a file lists its features so shapes nothing. What
    compares symbols is a fault but for a `universe`.
    """
    catalogue: dict[str, str] = {}
    faults: list[str] = []
    try:
        catalogue = definitions(catalog)
    except ConfigurationError as error:  # what is left out of an unknown catalogue is not judged
        faults.append(f"features.catalog: {error}")
    else:
        faults += _exclusion_faults(exclude, catalog)
    chosen = {name: text for name, text in catalogue.items() if name not in exclude}
    meaning = {text: name for name, text in chosen.items()}
    for name in sorted(user):
        text, found = _read(name, user[name], catalogue, universe)
        if text in meaning:
            found.append(f"{_place(name)}: means the same as feature {meaning[text]!r}: drop one of them")
        elif text is not None:
            chosen[name] = text
            meaning[text] = name
        faults += found
    if not faults and not chosen:
        faults.append("features.exclude leaves no feature: keep one, or define one under features.user")
    if faults:
        raise ConfigurationError(faults)
    return chosen


def _read(name: str, expression: str, taken: Collection[str], universe: bool) -> tuple[str | None, list[str]]:
    """The canonical text, None when it cannot be read, and every fault of name and text."""
    faults = list(_name_faults(name, taken))
    try:
        root = parse(expression)
    except ConfigurationError as error:
        return None, [*faults, f"{_place(name)}: {error}"]
    if not isinstance(root, Call):
        faults.append(f"{_place(name)}: {root.text!r} is a column or a number: apply an operator to it")
    if not universe and (comparing := operators_of(root) & CROSS_SECTIONS):
        faults.append(f"{_place(name)}: {min(comparing)} {ALONE}")
    return root.text, faults


def _name_faults(name: str, taken: Collection[str]) -> Iterator[str]:
    if not NAME.fullmatch(name):
        yield f"{_place(name)}: name {name!r} must be a letter, then at most 63 letters, digits and _"
    elif name in RESERVED:
        yield f"{_place(name)}: {name!r} is the name of a column beside the features: choose another"
    elif name in taken:
        yield f"{_place(name)}: the catalogue has a feature {name!r}: choose another name"


def _exclusion_faults(exclude: Collection[str], catalog: str) -> Iterator[str]:
    known = names(catalog)
    for name in exclude:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f"did you mean {close[0]}?" if close else "`bellwether features` lists them"
            yield f"features.exclude: {name!r} is not in catalogue {catalog}: {hint}"


def _place(name: str) -> str:
    return f"features.user.{name}"
