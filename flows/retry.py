"""When a failed task is worth another try."""

from typing import Any

from core.errors import BellwetherError, ConfigurationError, GateRefused, UsageError

_FINAL_CODES = (ConfigurationError.exit_code, GateRefused.exit_code)


def is_final(error: BaseException | None) -> bool:
    """True for a refusal or a wrong setting: the same input would fail the same way.

    A stage that runs in a subprocess reports these by its exit code.
    """
    if isinstance(error, ConfigurationError | GateRefused | UsageError):
        return True
    return isinstance(error, BellwetherError) and error.exit_code in _FINAL_CODES


def worth_another_try(_task: Any, _run: Any, state: Any) -> bool:
    """Prefect's `retry_condition_fn`: every failure but a final one."""
    error = state.result(raise_on_failure=False)
    return not is_final(error if isinstance(error, BaseException) else None)
