"""Damage to the files of a bundle, bit by bit, and a registry or a disk that does not answer."""

import filecmp
import http.client
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pandas as pd
import pytest
from structlog.testing import capture_logs

from core.bundle import HASHED, MANIFEST, MODEL, REGISTRATION, SEAL, SEALED
from core.errors import ArtifactError, RegistryError, UsageError
from core.files import sha256_file
from core.settings import load_settings
from serving.client import connect, post
from serving.fleet import Fleet
from serving.last_good import RECORD, LastGood
from serving.metrics import Metrics
from serving.resolver import DirectoryResolver, Pointer, RegistryResolver, Resolver
from serving.slot import Slot
from tests.serving.kit import FakeRegistry, Service, as_body, eventually, make_bundle

FILES = [*SEALED, SEAL]
FLIPS = CUTS = 200


class Shelf:
    """Says that what lies in `directory` is a new version each time, with the hashes it had when whole."""

    what = "the shelf"

    def __init__(self, directory: Path) -> None:
        self.directory, self.version = directory, 0
        self.hashes = [sha256_file(directory / name) for name in (MANIFEST, REGISTRATION)]

    def resolve(self) -> Pointer:
        self.version += 1
        return Pointer(str(self.version), self.directory, *self.hashes)


def damaged(data: bytes, flips: int = FLIPS, cuts: int = CUTS) -> Iterator[bytes]:
    """Different single-bit flips, then truncations at different places, or all there are."""
    draw = random.Random(7)
    for bit in draw.sample(range(8 * len(data)), min(flips, 8 * len(data))):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)
    yield from (data[:place] for place in draw.sample(range(len(data)), min(cuts, len(data))))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("knows", [Shelf, DirectoryResolver])
def test_every_flipped_bit_and_every_cut_is_found_while_the_old_model_serves(
    bundle: Path, tmp_path: Path, name: str, knows: Callable[[Path], Resolver]
) -> None:
    directory = Path(shutil.copytree(bundle, tmp_path / "b"))
    slot = Slot(knows(directory), log_root=tmp_path / "predictions", metrics=Metrics())
    slot.start()
    file = directory / name
    whole = file.read_bytes()
    found = 0
    for data in damaged(whole):
        file.write_bytes(data)
        assert slot.look() is None
        assert name in str(slot.status.refused)
        found += 1
    assert found == FLIPS + min(CUTS, len(whole))
    file.unlink()
    # a registry that knows the hash of the manifest needs no seal
    if name != SEAL or knows is DirectoryResolver:
        assert slot.look() is None
        assert name in str(slot.status.refused)
    assert slot.require().model.version == "1"
    assert slot.require().model.score(slot.require().states.open("sp500").window[None]) is not None
    file.write_bytes(whole)
    slot.look()
    assert slot.status.complaints == []
    slot.close()


@pytest.mark.parametrize("first", range(len(FILES)))
def test_an_update_file_by_file_is_refused_until_it_is_whole(
    bundle: Path, tmp_path: Path, bars: pd.DataFrame, first: int
) -> None:
    live = Path(shutil.copytree(bundle, tmp_path / "live"))
    other = make_bundle(tmp_path / "other", bars, row=650, bias=0.4, version="2")
    slot = Slot(DirectoryResolver(live), log_root=tmp_path / "predictions", metrics=Metrics())
    slot.start()
    _, changing, _ = filecmp.cmpfiles(live, other, FILES[first:] + FILES[:first], shallow=False)
    assert len(changing) == len(FILES) - 1
    for name in changing[:-1]:
        shutil.copyfile(other / name, live / name)
        assert slot.look() is None
        assert "after export" in str(slot.status.refused)
    shutil.copyfile(other / changing[-1], live / changing[-1])
    _take(slot)
    assert slot.require().model.version == "2"
    assert slot.status.complaints == []
    slot.close()


def _take(slot: Slot) -> None:
    loaded = slot.look()
    assert loaded is not None
    slot.install(loaded)


def _flip_manifest(directory: Path) -> None:
    data = bytearray((directory / MANIFEST).read_bytes())
    data[data.index(b"0.52") + 3] ^= 1
    (directory / MANIFEST).write_bytes(data)


DAMAGE = {
    "manifest": _flip_manifest,
    "seal": lambda directory: (directory / SEAL).unlink(),
    "model": lambda directory: (directory / MODEL).write_bytes(b""),
    "all": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_directory_is_served_from_its_copy_after_a_restart(
    bundle: Path, tmp_path: Path, damage: str
) -> None:
    live, settings = Path(shutil.copytree(bundle, tmp_path / "live")), load_settings()

    def start() -> Slot:
        (slot,) = Fleet(settings, Metrics(), bundle=live).start()
        return slot

    before = start()
    before.close()
    DAMAGE[damage](live)
    slot = start()
    assert slot.status.from_copy
    assert str(live) in str(slot.status.refused)
    window = slot.require().states.open("sp500").window[None]
    expected = before.require().model.score(window).probability
    assert slot.require().model.score(window).probability == expected
    assert slot.require().model.version == "1"
    shutil.copytree(bundle, live, dirs_exist_ok=True)
    _take(slot)
    assert slot.status.complaints == []
    slot.close()


def test_a_copy_is_of_one_directory_and_of_no_model(bundle: Path, tmp_path: Path) -> None:
    settings, live = load_settings(), Path(shutil.copytree(bundle, tmp_path / "live"))
    (current := tmp_path / "current").symlink_to(bundle)
    Fleet.close(Fleet(settings, Metrics(), bundle=current).start())
    _flip_manifest(live)
    current.unlink()
    current.symlink_to(live)
    (linked,) = Fleet(settings, Metrics(), bundle=current).start()
    assert linked.status.from_copy
    linked.close()
    # a replay keeps no copy and uses none
    for directory, fresh in ((live, False), (current, True)):
        with pytest.raises(ArtifactError, match=r"manifest\.json has SHA-256"):
            Fleet(settings, Metrics(), bundle=directory, fresh=fresh).start()
    assert len(list((settings.var_dir / "serving").iterdir())) == 1
    with pytest.raises(RegistryError, match="cannot be read as a model registry"):
        Fleet(settings, Metrics()).start()


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir, Path.touch])
def test_a_directory_without_a_bundle_is_one_message_with_the_remedy(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "nope")
    with capture_logs() as logged, pytest.raises(UsageError) as caught:
        Fleet(load_settings(), Metrics(), bundle=tmp_path / "nope").start()
    assert caught.value.exit_code == 2
    for word in (str(tmp_path / "nope"), *HASHED, MANIFEST, SEAL, "`bellwether run`"):
        assert word in str(caught.value)
    assert logged == []


def test_a_service_of_a_directory_answers_as_before_after_a_restart_with_a_damaged_one(
    new_service: Callable[..., Service], bundle: Path, tmp_path: Path, bars: pd.DataFrame
) -> None:
    live = Path(shutil.copytree(bundle, tmp_path / "live"))
    service = new_service(bundle=live)
    connection = connect(service.url)
    for body in as_body(bars.iloc[601:605]):
        post(connection, "/v1/bars", body)
    connection.close()
    told = _get(service, "/v1/signal/sp500")
    _flip_manifest(live)
    assert eventually(lambda: b"manifest.json has SHA-256" in _get(service, "/v2/health/ready"))
    assert service.stop() == 0
    again = new_service(service.home, bundle=live)
    ready = _get(again, "/v2/health/ready")
    assert b"manifest.json has SHA-256" in ready
    assert b"serving the last good copy" in ready
    assert b'bellwether_serving_copy{model="sp500-1d"} 1.0' in _get(again, "/metrics")
    assert "serving_last_good" in again.stderr.read_text()
    assert _answer(_get(again, "/v1/signal/sp500")) == _answer(told)
    shutil.copyfile(bundle / MANIFEST, live / MANIFEST)
    assert eventually(lambda: _get(again, "/v2/health/ready") == b'{"ready":true,"degraded":[]}')
    assert _answer(_get(again, "/v1/signal/sp500")) == _answer(told)


def _get(service: Service, path: str) -> bytes:
    connection = http.client.HTTPConnection(service.address, timeout=10)
    connection.request("GET", path)
    body = connection.getresponse().read()
    connection.close()
    return body


def _answer(signal: bytes) -> dict[str, object]:
    return {key: value for key, value in msgspec.json.decode(signal).items() if key != "latency_ms"}


@pytest.mark.parametrize("name", [*SEALED, RECORD])
def test_a_damaged_copy_of_the_last_good_bundle_is_never_served(
    bundle: Path, tmp_path: Path, name: str
) -> None:
    copy = LastGood(tmp_path / "copy")
    copy.save(Pointer("3", bundle, None).read())
    assert copy.read().version == "3"
    file = copy.directory / name
    for data in damaged(file.read_bytes(), 40, 10):
        file.write_bytes(data)
        with pytest.raises(ArtifactError):
            copy.read()


def _black_hole(path: Path) -> None:
    """Opening it blocks for ever, as on a mount whose server is gone."""
    path.unlink()
    os.mkfifo(path)


def test_a_registry_that_never_answers_is_given_up_on(bundle: Path, tmp_path: Path) -> None:
    registry = FakeRegistry(tmp_path / "mlflow.db")
    registry.promote(1, bundle)
    resolver, copy = RegistryResolver(registry.database, "sp500-1d"), LastGood(tmp_path / "copy")
    slots = [
        Slot(resolver, log_root=tmp_path / str(i), last_good=copy, metrics=Metrics(), patience_seconds=0.2)
        for i in range(2)
    ]
    slots[0].start()
    _black_hole(registry.database)
    started = time.monotonic()
    assert [slots[0].look() for _ in range(5)] == [None] * 5
    slots[1].start()
    assert time.monotonic() - started < 2
    assert "did not answer within 0.2 s" in str(slots[0].status.registry_error)
    assert slots[1].require().model.version == "1"
    assert slots[1].status.from_copy
    for slot in slots:
        slot.close()


def test_a_bundle_on_a_dead_disk_leaves_the_old_model_serving(
    bundle: Path, tmp_path: Path, bars: pd.DataFrame
) -> None:
    registry = FakeRegistry(tmp_path / "mlflow.db")
    registry.promote(1, bundle)
    resolver = RegistryResolver(registry.database, "sp500-1d")
    slot = Slot(resolver, log_root=tmp_path / "p", metrics=Metrics(), patience_seconds=0.2)
    slot.start()
    hung = make_bundle(tmp_path / "two", bars)
    _black_hole(hung / MODEL)
    registry.promote(2, hung)
    assert slot.look() is None
    assert "did not answer" in str(slot.status.registry_error)
    assert slot.require().model.version == "1"
    slot.close()


def test_a_directory_on_a_dead_disk_is_served_from_its_copy(bundle: Path, tmp_path: Path) -> None:
    live, copy = Path(shutil.copytree(bundle, tmp_path / "live")), LastGood(tmp_path / "copy")
    slots = [
        Slot(
            DirectoryResolver(live),
            log_root=tmp_path / str(i),
            last_good=copy,
            metrics=Metrics(),
            patience_seconds=0.2,
        )
        for i in range(2)
    ]
    slots[0].start()
    _black_hole(live / MODEL)
    slots[1].start()
    for slot in slots:
        assert slot.look() is None
        assert f"{live} did not answer within 0.2 s" in str(slot.status.registry_error)
        assert slot.require().model.version == "1"
        slot.close()
    assert [slot.status.from_copy for slot in slots] == [False, True]
