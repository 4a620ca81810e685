"""A checkout of its own with quick parameters, and its first run."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.checkout import Checkout, copy_checkout


@pytest.fixture(scope="session")
def make_checkout(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Checkout]:
    """A factory of fresh checkouts."""
    return lambda: Checkout(copy_checkout(tmp_path_factory.mktemp("checkout")))


@pytest.fixture(scope="session")
def first_run(make_checkout: Callable[[], Checkout]) -> tuple[Checkout, dict[str, Any]]:
    """A checkout after its first run, and that run's summary."""
    checkout = make_checkout()
    return checkout, checkout.json("run")
