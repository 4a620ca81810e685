"""Which models have a champion, read straight from the registry's database: no MLflow, no write."""

import sqlite3
from contextlib import closing
from pathlib import Path

from core.errors import RegistryError
from core.settings import Settings

_QUERY = "SELECT name, version FROM registered_model_aliases WHERE alias = 'champion' ORDER BY name"


def database(settings: Settings) -> Path:
    """The file behind `settings.tracking_uri`."""
    return Path(settings.tracking_uri.removeprefix("sqlite:///"))


def champions(settings: Settings) -> dict[str, str]:
    """Model name → champion's version; empty before the first run. RegistryError for a damaged store."""
    path = database(settings)
    if not path.exists():
        return {}
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            rows = connection.execute(_QUERY).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return {}
        raise _damaged(path, error) from error
    except sqlite3.DatabaseError as error:
        raise _damaged(path, error) from error
    return {name: str(version) for name, version in rows}


def _damaged(path: Path, error: sqlite3.Error) -> RegistryError:
    return RegistryError(
        f"{path} cannot be read ({error}): close what holds it, or restore it from a backup and see "
        "mlflow/README.md"
    )
