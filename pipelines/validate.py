"""Stage `validate`: Great Expectations decides which bars may be believed."""

from pathlib import Path

from core.errors import BellwetherError
from core.files import canonical_json, read_json, replace_directory, write_json, write_text
from core.timeframe import Timeframe
from data.parquet import write_bars
from data.quality import QualityReport, enforce, validate
from data.quality_page import render
from data.versions import bars_hash
from pipelines import stage
from pipelines.params import Params
from pipelines.tables import read_table, write_table
from pipelines.workspace import REPORTS, STORE


def work(root: Path, params: Params) -> str:
    """Validate raw bars; more bad rows than allowed leave everything as it was."""
    facts = read_json(root / STORE / "ingest" / "source.json")
    rules = params.validate_
    timeframe = Timeframe.parse(facts["timeframe"])
    report = validate(
        read_table(root / STORE / "ingest" / "bars.parquet"),
        timeframe=timeframe,
        calendar=facts["calendar"],
        min_rows=rules.min_rows,
        max_jump=rules.max_jump,
        stale_bars=rules.stale_bars,
        repair=params.data.repair,
    )
    page = render(
        report,
        symbol=facts["symbol"],
        max_quarantined=rules.max_quarantined,
        description=facts["description"],
        data_hash=bars_hash(report.clean),
    )
    _enforce(root, report, rules.max_quarantined, page)
    clean = report.clean
    described = {
        **facts,
        "data_hash": bars_hash(clean),
        "rows": len(clean),
        "first": clean.index[0].isoformat(),
        "last": clean.index[-1].isoformat(),
    }
    with replace_directory(root / STORE / "validate") as out:
        write_bars(out / "bars", clean, facts["symbol"], timeframe)
        write_table(out / "quarantine.parquet", report.quarantine)
        write_json(out / "bars.json", described)
        write_text(out / "expectations.json", canonical_json(report.expectations))
    write_json(root / REPORTS / "validation.json", report.metrics())
    write_text(root / REPORTS / "validation.html", page)
    warned = ", ".join(rule.id for rule in report.warnings)
    found = f"{len(report.rules)} rules, {len(report.quarantine)} rows quarantined"
    return f"{found}; warnings: {warned}" if warned else f"{found}, no warnings"


def _enforce(root: Path, report: QualityReport, limit: int, page: str) -> None:
    try:
        enforce(report, limit)
    except BellwetherError as error:
        refused = root / "var" / "validation-refused.html"
        write_text(refused, page)
        error.args = (f"{error}; every rule and bad row is in {refused}",)
        raise


if __name__ == "__main__":
    stage.run("validate", work)
