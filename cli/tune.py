"""`bellwether tune`: a bar per family, then what was found and whether it holds where nobody looked."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from cli.output import console, emit_json, notes, number
from core.settings import Settings, disable_telemetry, load_settings

if TYPE_CHECKING:
    from pipelines.tuning import Progress, Request, Tuned

_WIDTH, _SHOWN_REASONS = 15, 3


@dataclass(frozen=True)
class Asked:
    """The options as they were given; `space` are texts."""

    families: list[str]
    trials: int
    timeout: float | None
    metric: Literal["log_loss", "brier"]
    scope: Literal["early", "all"]
    space: list[str]
    resume: bool
    write: bool


def tune(asked: Asked, *, as_json: bool) -> None:
    """Search parameters and say what came of it; an interrupted search keeps its trials."""
    disable_telemetry()
    settings = load_settings()
    from pipelines.tuning import Request, parse_space

    given = {**vars(asked), "families": tuple(asked.families), "space": parse_space(asked.space)}
    found = _search(settings, Request(**given))
    if as_json:
        emit_json([asdict(each) for each in found])
        return
    for each in found:
        _show(each)


def _search(settings: Settings, request: "Request") -> "list[Tuned]":
    from pipelines.tuning import tune as search

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    seen: list[Progress] = []
    with Bars(*columns, console=notes, transient=True) as bars:

        def tell(progress: "Progress") -> None:
            if not seen or seen[-1].family != progress.family:
                bars.add_task(progress.family, total=progress.total)
            seen.append(progress)
            said = f"{progress.family}, best {number(progress.best, 5)}"
            bars.update(bars.task_ids[-1], completed=progress.done, description=said)

        try:
            return search(settings, request, tell, lambda note: notes.print(escape(note)))
        except (KeyboardInterrupt, SystemExit):
            for last in seen[-1:]:
                notes.print(f"{last.family}: {last.done} of {last.total} trials are kept in {last.journal}")
            raise


def _show(found: "Tuned") -> None:
    metric = found.metric.replace("_", "-")
    states = f"{found.finished} finished, {found.pruned} given up early, {found.failed} failed"
    where = "before the first judged block" if found.scope == "early" else "of every block, judged ones too"
    console.print()
    _line(found.family, f"{found.trials} trials, {found.added} of them new: {states}")
    for reason, times in list(found.reasons.items())[:_SHOWN_REASONS]:
        _line("", f"{times} failed: {reason}")
    _line("searched", f"{found.searched_rows} rows until {found.searched_until[:10]}, {where}")
    if found.trial == 0:
        _line("best", f"the parameters in force, {metric} {number(found.best_loss, 5)}: no trial is better")
    else:
        values = ", ".join(f"{name} {value}" for name, value in found.best.items())
        losses = f"{number(found.best_loss, 5)} against {number(found.in_force_loss, 5)} in force"
        _line("best", f"trial {found.trial}: {values}")
        _line("", f"{metric} {losses} on the rows it was chosen on, which flatters it")
        _line("held out", _held_out(found, metric))
    _line("counted", f"{found.counted} trials now count against {found.model}")
    _line("kept", found.journal)
    _line("next", _next(found))


def _held_out(found: "Tuned", metric: str) -> str:
    judged = found.comparison
    if judged is None:
        return "not compared: one of the two cannot be fitted on the blocks that the evaluation judges"
    how = "" if found.scope == "early" else ", each block with the best of those before it"
    word = "better than" if found.improved else "no better than"
    return (
        f"{metric} {judged.best:.5f} against {judged.in_force:.5f} in force on {judged.rows} rows of "
        f"{judged.folds} blocks{how}; one-sided p {judged.p_better:.2g}: {word} the parameters in force"
    )


def _next(found: "Tuned") -> str:
    if found.written:
        return f"params.yaml has the new train.{found.family}: `bellwether run`"
    if found.trial == 0:
        return "keep the parameters in force"
    if not found.improved:
        return f"keep the parameters in force; to see for yourself: {found.command}"
    return f"{found.command}; --write keeps them in params.yaml"


def _line(name: str, text: str) -> None:
    console.print(f"[bold]{name:<{_WIDTH}}[/bold]{escape(text)}")
