"""Damage to the files of a bundle, bit by bit, and a registry that does not answer."""

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from core.bundle import GOLDEN, MANIFEST, MODEL, REFERENCE, REGISTRATION, STATE
from core.errors import ArtifactError
from core.files import sha256_file
from serving.last_good import RECORD, LastGood
from serving.metrics import Metrics
from serving.resolver import Pointer, RegistryResolver
from serving.slot import Slot
from tests.serving.kit import FakeRegistry, make_bundle

FILES = [MODEL, GOLDEN, STATE, REFERENCE, MANIFEST, REGISTRATION]
FLIPS, CUTS = 200, 50


class Shelf:
    """Says that what lies in `directory` is a new version each time, with the hashes it had when whole."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.version = directory, 0
        self.hashes = [sha256_file(directory / name) for name in (MANIFEST, REGISTRATION)]

    def resolve(self) -> Pointer:
        self.version += 1
        return Pointer(str(self.version), self.directory, *self.hashes)


def damaged(data: bytes, flips: int = FLIPS, cuts: int = CUTS) -> Iterator[bytes]:
    draw = random.Random(7)
    for _ in range(flips):
        changed = bytearray(data)
        changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        yield bytes(changed)
    yield from (data[: draw.randrange(len(data))] for _ in range(cuts))


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_and_every_cut_is_found_while_the_old_model_serves(
    bundle: Path, tmp_path: Path, bars: pd.DataFrame, name: str
) -> None:
    shelf = Shelf(Path(shutil.copytree(bundle, tmp_path / "b")))
    slot = Slot(shelf, log_root=tmp_path / "predictions", metrics=Metrics())
    slot.start()
    file = shelf.directory / name
    whole = file.read_bytes()
    found = 0
    for data in damaged(whole):
        file.write_bytes(data)
        assert slot.look() is None
        assert name in str(slot.status.refused)
        found += 1
    assert found == FLIPS + CUTS
    assert slot.require().model.version == "1"
    assert slot.require().model.score(slot.require().states.open("sp500").window[None]) is not None
    file.write_bytes(whole)
    assert slot.look() is not None
    assert slot.status.refused is None
    slot.close()


@pytest.mark.parametrize("name", [*FILES, RECORD])
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
