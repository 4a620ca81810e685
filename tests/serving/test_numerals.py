"""Numbers that machine code reads against the ones that Python and numpy make of the same text."""

import json
import random
from collections.abc import Callable, Iterator
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serving.numerals import numbers_at


def told(text: str) -> np.ndarray | None:
    """What the machine code makes of a list that is the whole text."""
    found = numbers_at(text.encode(), 0)
    if found is None:
        return None
    values, end = found
    assert end == len(text.rstrip(" \t\n\r"))
    return values


def general(text: str) -> np.ndarray:
    """The same by way of Python: float32 of the nearest double, ValueError for what is not strict JSON."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    read = json.loads(text, parse_constant=refuse, parse_int=float)
    with np.errstate(over="ignore"):
        return np.array(read, dtype=np.float64).astype(np.float32)


def same(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Equal bits in equal shapes; NaN has many, of which any will do."""
    if found.shape != wanted.shape:
        return False
    missing = np.isnan(wanted)
    return bool(
        np.array_equal(np.isnan(found), missing)
        and np.array_equal(found[~missing].view(np.uint32), wanted[~missing].view(np.uint32))
    )


def decimals(random: random.Random) -> str:
    """Digits around a point, as nobody would print them."""
    whole = random.choice(["0", str(random.randrange(1, 10 ** random.randrange(1, 7)))])
    digits = "".join(random.choices("0123456789", k=random.randrange(1, 14)))
    power = random.choice(["", "", f"e{random.randrange(-20, 9)}", f"E+{random.randrange(3)}"])
    return f"{random.choice(['', '-'])}{whole}.{digits}{power}"


def middle(random: random.Random) -> str:
    """Next to the middle between two floats, from either side, or on it, by as many digits as are read."""
    low = np.float32(random.uniform(1e-3, 2.0) * 10.0 ** random.randrange(-6, 9))
    exact = (Decimal(float(low)) + Decimal(float(np.nextafter(low, np.float32(np.inf))))) / 2
    digits = random.randrange(14, 20)
    places = digits - 1 - exact.adjusted()
    shown = int(exact.scaleb(places)) + random.randrange(-2, 3)
    return f"{shown}e{-places}"


KINDS: dict[str, tuple[Callable[[random.Random], str], float]] = {
    # how a number is made, and the least share of them that must not need the general way
    "floats": (lambda r: repr(float(np.float32(r.gauss(0, 3)))), 1.0),
    "doubles": (lambda r: repr(r.gauss(0, 3)), 0.999),
    "shortest floats": (lambda r: str(np.float32(r.gauss(0, 1e-3))), 1.0),
    "large and small": (lambda r: repr(r.gauss(0, 1) * 10.0 ** r.randrange(-25, 15)), 0.999),
    "integers": (lambda r: str(r.randrange(-(10**9), 10**9)), 1.0),
    "decimals": (decimals, 0.999),
    "middles": (middle, 0.0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_is_the_nearest_float_of_the_nearest_double(kind: str) -> None:
    make, share = KINDS[kind]
    numbers = random.Random(kind)
    texts = [make(numbers) for _ in range(20_000)]
    found = [numbers_at(f"[{text}]".encode(), 0) for text in texts]
    assert np.mean([each is not None for each in found]) >= share
    read = [(each[0][0], float(text)) for each, text in zip(found, texts, strict=True) if each is not None]
    values, wanted = (np.array(column) for column in zip(*read, strict=True))
    assert same(values, wanted.astype(np.float32))


def test_a_long_list_is_that_of_its_numbers() -> None:
    values = np.random.default_rng(1).standard_normal((2, 300, 89))
    found = told(json.dumps(values.tolist()))
    assert found is not None
    assert same(found, values.astype(np.float32))


number = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**25), 10**25).map(str),
    st.sampled_from(["null", "-0", "0.0", "-0.0e0", "0e5", "1E2", "1e+2", "9007199254740993", "1e-45"]),
)
space = st.sampled_from(["", " ", "\n\t\r "])


@st.composite
def lists(draw: st.DrawFn, depth: int) -> str:
    """Lists as JSON has them, mostly even."""
    sizes = st.integers(1, 3)
    size = draw(sizes)
    items = [draw(number) if depth == 1 else draw(lists(depth - 1)) for _ in range(size)]
    between = [draw(space) for _ in range(2 * size + 2)]
    inner = ",".join(a + item + b for a, item, b in zip(between[::2], items, between[1::2], strict=False))
    return f"[{inner}]{between[-1]}"


@given(st.integers(1, 3).flatmap(lists))
@example("[[1,2],[3]]")
@example("[[[1]],[[2],[3]]]")
@example("[1,[2]]")
@example("[[1],2]")
def test_lists_have_their_shape_or_are_left_alone(text: str) -> None:
    found = told(text)
    if found is not None:
        assert same(found, general(text))


@given(st.text(alphabet="[]0123456789.,-+eE nul\t", max_size=40).map(lambda rest: "[" + rest))
@example("[1.]")
@example("[.5]")
@example("[01]")
@example("[-01]")
@example("[+1]")
@example("[-]")
@example("[1e]")
@example("[1e+]")
@example("[1.e3]")
@example("[1,]")
@example("[,1]")
@example("[]")
@example("[[]]")
@example("[1 2]")
@example("[nul]")
@example("[nulll]")
@example("[1")
@example("[1.5")
@example("[1.00000000")
@example("[[1]")
@example("[[[[1]]]]")
@example("[1]]")
@example("[" + "1" * 30 + "]")
@example("[0." + "0" * 30 + "1]")
@example("[1e999]")
@example("[1e-999]")
@example("[1e38]")
@example("[3.5e38]")
@example("[1e99999999999999999999999]")
def test_what_is_not_json_is_left_alone(text: str) -> None:
    found = numbers_at(text.encode(), 0)
    if found is not None:
        values, end = found
        assert same(values, general(text[:end]))


def prefixes(text: str) -> Iterator[str]:
    """Each shorter one."""
    return (text[:end] for end in range(1, len(text)))


def test_a_list_that_ends_early_is_left_alone() -> None:
    text = "[[0.123456789012345, -1.5e-7, null], [3, 1234567.25, 0.0]]"
    assert told(text) is not None
    assert [told(part) for part in prefixes(text)] == [None] * (len(text) - 1)


def test_zeros_keep_their_sign_and_null_is_missing() -> None:
    found = told("[-0.0, 0, -0, null]")
    assert found is not None
    assert np.signbit(found[:3]).tolist() == [True, False, True]
    assert np.isnan(found[3])


def test_beyond_a_float_is_left_to_the_general_way() -> None:
    assert told("[34028234663852880e22]") is not None
    assert told("[34028237000000000e22]") is None
    # a subnormal one has fewer bits: its middles lie elsewhere
    assert told("[1e-40]") is None


@pytest.mark.parametrize("start", [1, 5, 9])
def test_a_list_begins_where_it_is_said_to(start: int) -> None:
    text = b" " * start + b"[1.25,2]}" + b"7" * 9
    found = numbers_at(text, start)
    assert found is not None
    assert (found[0].tolist(), found[1]) == ([1.25, 2.0], start + 8)
