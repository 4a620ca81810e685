from pathlib import Path

import pytest

from core.errors import ArtifactError, RegistryError
from serving.resolver import Pointer, RegistryResolver, models_with_alias
from tests.serving.kit import FakeRegistry


def test_the_alias_names_version_directory_and_hash(tmp_path: Path) -> None:
    registry = FakeRegistry(tmp_path / "mlflow.db")
    registry.promote(1, tmp_path / "one")
    registry.promote(2, tmp_path / "with space", manifest_hash="abc")
    resolver = RegistryResolver(registry.database, "sp500-1d")
    assert resolver.resolve() == Pointer("2", tmp_path / "with space", "abc")
    registry.alias(1)
    assert resolver.resolve() == Pointer("1", tmp_path / "one", None)
    assert models_with_alias(registry.database) == ["sp500-1d"]


def test_what_cannot_be_resolved_names_the_cause(tmp_path: Path) -> None:
    registry = FakeRegistry(tmp_path / "mlflow.db")
    with pytest.raises(RegistryError, match="no champion"):
        RegistryResolver(registry.database, "sp500-1d").resolve()
    with pytest.raises(RegistryError, match="cannot be read"):
        RegistryResolver(tmp_path / "missing.db", "sp500-1d").resolve()
    assert not (tmp_path / "missing.db").exists()


def test_a_remote_artifact_store_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = FakeRegistry(tmp_path / "mlflow.db")
    monkeypatch.setattr(Path, "as_uri", lambda self: "s3://bucket/model")
    registry.promote(1, tmp_path)
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match="only local files"):
        RegistryResolver(registry.database, "sp500-1d").resolve()


@pytest.mark.e2e
def test_a_real_mlflow_store_is_understood(tmp_path: Path) -> None:
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    database = tmp_path / "mlflow.db"
    store = SqlAlchemyStore(f"sqlite:///{database}")
    store.create_registered_model("sp500-1d")
    for name in ("one", "two"):
        store.create_model_version("sp500-1d", (tmp_path / name).as_uri())
    store.set_registered_model_alias("sp500-1d", "champion", "2")
    resolver = RegistryResolver(database, "sp500-1d")
    assert resolver.resolve() == Pointer("2", tmp_path / "two", None)
    from mlflow.entities.model_registry import ModelVersionTag

    store.set_model_version_tag("sp500-1d", "2", ModelVersionTag("bellwether.manifest_sha256", "abc"))
    assert resolver.resolve().manifest_hash == "abc"
    assert models_with_alias(database) == ["sp500-1d"]
    store.engine.dispose()
