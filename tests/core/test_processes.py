import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from core.processes import end_marked, marked

MARK = "BELLWETHER_TEST_MARK"
SLEEP = "import time; time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); {SLEEP}"
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    started = []

    def begin(mark: str, code: str = SLEEP, **options: object) -> "subprocess.Popen[bytes]":
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", code],
                env={**os.environ, MARK: mark},
                stdout=subprocess.PIPE,
                **options,  # type: ignore[call-overload]
            )
        )
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def test_only_what_carries_the_mark_is_ended(start: Start) -> None:
    mine, below, other = start("/a"), start("/a:child", start_new_session=True), start("/ab")
    assert {process.pid for process in marked(MARK, "/a")} == {mine.pid, below.pid}
    assert end_marked(MARK, "/a") == 2
    assert [process.poll() is None for process in (mine, below, other)] == [False, False, True]


def test_one_that_ignores_the_request_is_killed(start: Start) -> None:
    process = start("/stubborn", STUBBORN)
    assert process.stdout is not None
    process.stdout.readline()
    assert end_marked(MARK, "/stubborn", seconds=0.2) == 1
    assert process.poll() is not None
