"""Champions, read without MLflow."""

from collections.abc import Callable

import pytest

from core.errors import RegistryError
from core.settings import Settings
from flows.find import champions, database

AddChampion = Callable[[str, str], None]


def test_no_store_means_no_champion(settings: Settings) -> None:
    assert champions(settings) == {}


def test_empty_store_means_no_champion(settings: Settings) -> None:
    settings.mlflow_dir.mkdir()
    database(settings).touch()
    assert champions(settings) == {}


def test_champions_by_name(settings: Settings, add_champion: AddChampion) -> None:
    add_champion("sp500-1d", "3")
    add_champion("GOOG-1d", "1")
    assert champions(settings) == {"GOOG-1d": "1", "sp500-1d": "3"}


def test_damaged_store_is_named(settings: Settings) -> None:
    settings.mlflow_dir.mkdir()
    database(settings).write_bytes(b"not a database" * 100)
    with pytest.raises(RegistryError, match=r"mlflow\.db cannot be read"):
        champions(settings)
