"""kill -9 under load, again and again: nothing answered is lost, and the state is that of one long run."""

import http.client
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pandas as pd

from monitoring.prediction_log import read
from serving.bar import Bar
from serving.checkpoints import read as read_state
from serving.client import connect
from serving.metrics import Metrics
from serving.resolver import DirectoryResolver
from serving.slot import Slot
from tests.serving.kit import Service, as_body, make_bars

KILLS = 20
FIRST = 601
RESTART_SECONDS = 5.0


class Load:
    """Sends one bar after another and notes what was answered, until the service dies."""

    def __init__(self, service: Service, bodies: list[dict[str, object]], answered: int) -> None:
        self.answered = answered
        self._service, self._bodies = service, bodies
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        connection = connect(self._service.url)
        try:
            while self.answered < len(self._bodies):
                body = msgspec.json.encode(self._bodies[self.answered])
                connection.request("POST", "/v1/bars", body, {"content-type": "application/json"})
                response = connection.getresponse()
                response.read()
                # 409: it was used, and the process died before it could say so
                assert response.status in (200, 409), response.status
                self.answered += 1
        except (OSError, http.client.HTTPException):
            return
        finally:
            connection.close()

    def join(self) -> int:
        self._thread.join(30)
        return self.answered


def test_kill_9_under_load_loses_no_bar_and_no_answered_prediction(
    new_service: Callable[..., Service], bundle: Path, tmp_path: Path
) -> None:
    bars = make_bars(60_000)
    hours = pd.date_range(bars.index[FIRST], periods=len(bars) - FIRST, freq="h")
    bars.index = bars.index[:FIRST].append(hours)
    bodies, answered, restarts = as_body(bars.iloc[FIRST:]), 0, []
    service = new_service(bundle=bundle)
    for kill in range(KILLS):
        load = Load(service, bodies, answered)
        # early kills find no checkpoint, later ones one of some bars ago
        time.sleep(0.05 + 0.3 * (kill % 4))
        service.process.kill()
        answered = load.join()
        service.stop()
        service = new_service(service.home, bundle=bundle)
        restarts.append(service.cold_start)
    load = Load(service, bodies[: answered + 50], answered)
    sent = load.join()
    assert sent == answered + 50
    assert service.stop() == 0
    assert max(restarts) < RESTART_SECONDS

    logged = {row.timestamp() for row in read(service.log_dir)["bar_time"].to_pylist()}
    assert {bars.index[FIRST + i].timestamp() for i in range(sent)} <= logged
    saved = read_state(service.home / "var" / "state" / "sp500-1d" / "sp500.state")
    assert saved == _straight(bundle, bars.iloc[FIRST : FIRST + sent], tmp_path)


def _straight(bundle: Path, bars: pd.DataFrame, tmp_path: Path) -> object:
    """The state of a run that nothing interrupted."""
    slot = Slot(DirectoryResolver(bundle), log_root=tmp_path / "straight", metrics=Metrics())
    slot.start()
    state = slot.require().states.open("sp500")
    for moment, values in zip(bars.index, bars.to_numpy().tolist(), strict=True):
        state.push(Bar("sp500", moment.timestamp(), *values))
    slot.close()
    return state.snapshot()
