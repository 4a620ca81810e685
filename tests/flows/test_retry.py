"""Refusals and wrong settings are final; everything else is worth another try."""

from types import SimpleNamespace

import pytest

from core.errors import (
    ConfigurationError,
    DataError,
    GateRefused,
    QuarantineExceeded,
    ServiceError,
    StageFailed,
    UsageError,
)
from flows.retry import is_final, worth_another_try


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError("x"), UsageError("x"), GateRefused("x"), QuarantineExceeded("x"),
        StageFailed("x", exit_code=2), StageFailed("x", exit_code=3),
    ],
)  # fmt: skip
def test_final(error: Exception) -> None:
    assert is_final(error)


@pytest.mark.parametrize("error", [StageFailed("x"), DataError("x"), ServiceError("x"), OSError("x"), None])
def test_worth_another_try(error: Exception | None) -> None:
    state = SimpleNamespace(result=lambda raise_on_failure: error)
    assert worth_another_try(None, None, state)
    assert not is_final(error)
