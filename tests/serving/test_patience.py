import asyncio
import threading
import time

import pytest

from core.errors import RegistryError
from serving.patience import Patience, in_thread


def test_results_and_errors_pass_through() -> None:
    patience = Patience(5.0)
    assert patience.call(lambda: 3, "it") == 3
    with pytest.raises(KeyError):
        patience.call(lambda: {}["a"], "it")


def test_a_call_that_hangs_is_left_behind_once() -> None:
    release, calls = threading.Event(), []

    def hang() -> int:
        calls.append(1)
        release.wait(10)
        return 1

    patience = Patience(0.05)
    for _ in range(3):
        with pytest.raises(RegistryError, match=r"the disk did not answer within 0\.05 s"):
            patience.call(hang, "the disk")
    assert len(calls) == 1
    release.set()
    time.sleep(0.05)
    assert patience.call(lambda: 2, "the disk") == 2


def test_a_store_that_comes_back_is_found_though_the_first_call_still_hangs() -> None:
    release = threading.Event()
    patience = Patience(0.02)
    with pytest.raises(RegistryError):
        patience.call(lambda: release.wait(10), "the disk")
    with pytest.raises(RegistryError):
        patience.call(lambda: 1, "the disk")
    time.sleep(0.25)
    assert patience.call(lambda: 1, "the disk") == 1
    assert patience.call(lambda: 1, "the disk") == 1
    release.set()


def test_a_thread_is_awaited_with_its_error() -> None:
    assert asyncio.run(in_thread(lambda: 4)) == 4
    with pytest.raises(ValueError, match="no"):
        asyncio.run(in_thread(lambda: int("no")))
