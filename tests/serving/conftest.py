"""Fixtures of the serving tests; what they build is in kit.py."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from serving.http import Limits
from serving.metrics import Metrics
from serving.plane import Plane
from serving.resolver import DirectoryResolver
from serving.slot import Slot
from tests.serving.kit import Service, make_bars, make_bundle


@pytest.fixture(scope="session")
def bars() -> pd.DataFrame:
    return make_bars()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, bars: pd.DataFrame) -> Path:
    """A bundle nobody may change."""
    return make_bundle(tmp_path_factory.mktemp("bundle") / "sp500-1d", bars)


@pytest.fixture
def new_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    started: list[Service] = []

    def start(home: Path | None = None, **options: object) -> Service:
        service = Service(home or tmp_path / "service", **options)  # type: ignore[arg-type]
        started.append(service)
        return service

    yield start
    for service in started:
        service.stop()


@pytest.fixture
def new_plane(tmp_path: Path) -> Iterator[Callable[[Path], Plane]]:
    planes: list[Plane] = []

    def build(directory: Path) -> Plane:
        metrics = Metrics()
        slot = Slot(DirectoryResolver(directory), log_root=tmp_path / "predictions", metrics=metrics)
        slot.start()
        planes.append(Plane([slot], metrics))
        return planes[-1]

    yield build
    for plane in planes:
        for slot in plane.slots:
            slot.close()


@pytest.fixture
def limits() -> Limits:
    return Limits(body_bytes=1_000_000, body_seconds=0.5)
