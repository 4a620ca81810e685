"""Stage `ingest`: rows from the source, as they are."""

from pathlib import Path

from core.errors import ConfigurationError
from core.files import replace_directory, write_json
from data.sources import SourceRequest, open_source
from pipelines import stage
from pipelines.params import Params
from pipelines.tables import write_table
from pipelines.workspace import INBOX, STORE


def work(root: Path, params: Params) -> str:
    """Fetch and store raw bars."""
    data = params.data
    raw = open_source(data.source).fetch(
        SourceRequest(
            symbol=data.symbol,
            path=_watched(root, data.path),
            timeframe=data.timeframe,
            calendar=data.calendar,
            start=data.start,
            until=data.until,
        )
    )
    facts = {
        "source": data.source,
        "description": raw.description,
        "symbol": raw.symbol,
        "timeframe": str(raw.timeframe),
        "calendar": raw.calendar,
    }
    with replace_directory(root / STORE / "ingest") as out:
        write_table(out / "bars.parquet", raw.bars)
        write_json(out / "source.json", facts)
    return f"{len(raw.bars)} rows of {raw.symbol} {raw.timeframe} from {raw.description}"


def _watched(root: Path, path: str | None) -> Path | None:
    """A file that DVC watches; any other would change unseen."""
    if path is None:
        return None
    file = root / path
    if not file.resolve().is_relative_to((root / INBOX).resolve()):
        raise ConfigurationError(
            f"data.path {path}: DVC watches only {INBOX}/; put the file there, or pass it for one run with "
            f"`bellwether run --set data.path={path}`, which copies it"
        )
    return file


if __name__ == "__main__":
    stage.run("ingest", work)
