"""Children end with everything they started."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from core.errors import ServiceError
from flows.spawn import Child, Service, answers, end_marked, marked, run_once, spawn, tail

# A child that ignores SIGTERM, and whose own child has a session of its own and ignores it as well.
_STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
print("started", flush=True)
time.sleep(60)
"""


def _service(tmp_path: Path, code: str, seconds: float = 10.0) -> Service:
    command = (sys.executable, "-c", code)
    return Service("probe", command, {}, tmp_path, tmp_path / "probe.log", ready=bool, start_seconds=seconds)


def test_end_kills_grandchildren_in_other_sessions(tmp_path: Path) -> None:
    child = Child(_service(tmp_path, _STUBBORN), mark=f"{tmp_path}:probe")
    child.start()
    while "started" not in child.tail():
        threading.Event().wait(0.02)
    assert len(marked(str(tmp_path))) == 2
    assert child.process is not None
    child.process.kill()
    child.process.wait()
    assert end_marked(f"{tmp_path}:probe", seconds=0.2) == 1
    assert marked(str(tmp_path)) == []


def test_marks_match_whole_names_only(tmp_path: Path) -> None:
    process = spawn(_service(tmp_path, "import time; time.sleep(60)"), mark=f"{tmp_path}/home:probe")
    try:
        assert marked(f"{tmp_path}/ho") == []
        assert [found.pid for found in marked(f"{tmp_path}/home")] == [process.pid]
    finally:
        process.kill()
        process.wait()


def test_run_once_fails_with_the_last_lines(tmp_path: Path) -> None:
    service = _service(tmp_path, "import sys; print('no work pool'); sys.exit(3)")
    with pytest.raises(ServiceError, match=r"exit code 3.*\nno work pool"):
        run_once(service, str(tmp_path), threading.Event())


def test_run_once_is_cut_short_by_stop(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    run_once(_service(tmp_path, "import time; time.sleep(60)"), str(tmp_path), stop)
    assert marked(str(tmp_path)) == []


def test_run_once_has_a_deadline(tmp_path: Path) -> None:
    service = _service(tmp_path, "import time; time.sleep(60)", seconds=0.2)
    with pytest.raises(ServiceError, match="did not end in time"):
        run_once(service, str(tmp_path), threading.Event())


def test_command_that_is_not_there_is_a_service_error(tmp_path: Path) -> None:
    service = Service("probe", (str(tmp_path / "no"),), {}, tmp_path, tmp_path / "probe.log", ready=bool)
    with pytest.raises(ServiceError, match=r"probe: .*cannot be started"):
        spawn(service, str(tmp_path))


def test_tail_gives_the_last_lines_without_blanks(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    assert tail(log) == ""
    log.write_text("a\n\nb\nc\n")
    assert tail(log, 2) == "b\nc"


@pytest.mark.parametrize(("status", "there"), [(200, True), (401, True), (503, False)])
def test_answers_tells_a_live_server_from_a_sick_one(tmp_path: Path, status: int, there: bool) -> None:
    code = f"""
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({status}); self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.handle_request()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert answers(f"http://127.0.0.1:{port}/") is there


def test_answers_is_false_where_nobody_listens() -> None:
    assert not answers("http://127.0.0.1:1/")
