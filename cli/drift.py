"""`bellwether drift`: has the market left what the model was trained on?"""

from rich.markup import escape

from cli.output import console, emit_json
from core.settings import disable_telemetry, load_settings


def drift(
    model: str | None, start: str | None, until: str | None, last: int | None, *, as_json: bool
) -> None:
    """Judge the log and say what follows."""
    disable_telemetry()
    settings = load_settings()
    from pipelines.drift import check_drift

    with console.status("comparing the log with the training reference (about 20 s) …"):
        outcome = check_drift(settings, model, start=start, until=until, last=last)
    verdict = outcome.verdict
    if as_json:
        emit_json({**verdict, "html": str(outcome.html), "json": str(outcome.json), "as_of": outcome.as_of})
        return
    word = "[red]drift[/red]" if verdict["drifted"] else "[green]no drift[/green]"
    window = f"{verdict['window_start'][:10]} … {verdict['window_end'][:10]}, {verdict['rows']} bars"
    console.print(
        f"{outcome.model} version {outcome.version}, {window}: {word}, severity {verdict['severity']}"
    )
    # of a judged performance the verdict's own reasons tell
    live = () if verdict["performance"]["judged"] else verdict["performance"]["reasons"]
    for reason in (*verdict["reasons"], *live, *verdict["decision"]["reasons"]):
        console.print(f"  {escape(reason)}")
    console.print(f"[dim]{escape(verdict['remark'])}[/dim]")
    console.print(f"action    {outcome.action}")
    console.print(f"report    {outcome.html}\nverdict   {outcome.json}")
    if outcome.retrain:
        console.print(f"next      bellwether run --set data.until={outcome.as_of}")
