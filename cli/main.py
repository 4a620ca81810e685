"""The `bellwether` command. Every verb imports what it needs when it runs, so `--help` stays fast."""

import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from core.errors import BellwetherError, ConfigurationError

app = typer.Typer(
    name="bellwether",
    help="Market bars into signals one can trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 refused by a gate, 130 ctrl-C.",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="BLOCK.KEY=VALUE", help="Override a parameter for this run; repeatable."),
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="Registry name such as sp500-1d; default: the only one there is."),
]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in the registry.")]
Day = Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="A day, UTC.")]


@app.command()
def run(
    set_: Set = None,
    isolated: Annotated[
        bool, typer.Option("--isolated", help="Run in a worktree even without overrides.")
    ] = False,
    json: Json = False,
) -> None:
    """Run the main job: every stage, the gate, registration, reports."""
    from cli import run as verb

    verb.run(set_ or [], isolated=isolated, as_json=json)


@app.command()
def serve(
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only this model, such as sp500-1d; default: every champion."),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="This bundle directory instead of the registry's champions."),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Default BELLWETHER_HOST, or 127.0.0.1; one that is not loopback needs BELLWETHER_TOKEN.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Default BELLWETHER_PORT, or 8080; 0 takes a free one."),
    ] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Speak gRPC too, on this port; default BELLWETHER_GRPC_PORT; needs the extra 'grpc'.",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="PEM certificate: all is encrypted; default BELLWETHER_TLS_CERT."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its PEM private key; default BELLWETHER_TLS_KEY.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Start without a champion and wait for one.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin at the bundle's feature state and keep none.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of text, once ready.")
    ] = False,
) -> None:
    """Serve the champions, or one bundle, until interrupted."""
    from cli import serve as verb

    asked = verb.Asked(model, bundle, host, port, grpc_port, tls_cert, tls_key, wait, fresh)
    verb.serve(asked, as_json=json)


@app.command()
def up() -> None:
    """Start Prefect server and worker, MLflow UI and the service on loopback; ctrl-C ends all."""
    from cli import stack as verb

    verb.up()


@app.command()
def replay(
    from_: Annotated[str | None, typer.Option("--from", metavar="YYYY-MM-DD", help="First day, UTC.")] = None,
    until: Day = None,
    model: Model = None,
    url: Annotated[str | None, typer.Option(help="A running service; default: one of its own.")] = None,
    set_: Set = None,
    json: Json = False,
) -> None:
    """Feed stored bars to the service as if they were live."""
    from cli import replay as verb

    verb.replay(from_, until, model, url, set_ or [], as_json=json)


@app.command()
def drift(
    model: Model = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="YYYY-MM-DD", help="First day of the window.")
    ] = None,
    until: Day = None,
    last: Annotated[int | None, typer.Option(min=2, help="Only the last N logged bars.")] = None,
    json: Json = False,
) -> None:
    """Compare the logged predictions with the training reference; write HTML and JSON."""
    from cli import drift as verb

    verb.drift(model, from_, until, last, as_json=json)


@app.command()
def tune(
    family: Annotated[
        list[str] | None,
        typer.Option(help="Tune this family; repeatable; default: all trained ones that can be."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, those of before included.")] = 30,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds per family after which no further trial begins.")
    ] = None,
    metric: Annotated[
        Literal["log_loss", "brier"], typer.Option(help="What is made small: mean over folds, weighted.")
    ] = "log_loss",
    folds: Annotated[
        Literal["early", "all"],
        typer.Option(
            help="early: only rows before the first block that the evaluation judges, so that its record "
            "stays out of sample. all: every block; the record of what is chosen then flatters."
        ),
    ] = "early",
    space: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=LOW:HIGH[:log]",
            help="Range of a parameter of the one --family, or NAME=A,B; repeatable.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--new", help="Go on with the trials of before, or begin again.")
    ] = True,
    write: Annotated[
        bool,
        typer.Option("--write", help="Set train.<family> in params.yaml, if better on the judged blocks."),
    ] = False,
    json: Json = False,
) -> None:
    """Search better parameters of the model families; every trial counts against luck."""
    from cli import tune as verb

    asked = verb.Asked(family or [], trials, timeout, metric, folds, space or [], resume, write)
    verb.tune(asked, as_json=json)


@app.command()
def backtest(json: Json = False) -> None:
    """Show the out-of-sample backtest of every model of the last run, net of costs."""
    from cli import backtest as verb

    verb.backtest(as_json=json)


@app.command()
def models(
    versions: Annotated[list[str] | None, typer.Argument(help="Only these, such as 3 5.")] = None,
    model: Model = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="A column per version, also of more than four.")
    ] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Who was champion when, and why, instead.")
    ] = False,
    json: Json = False,
) -> None:
    """Show registered versions with their evidence side by side, and challenger against champion."""
    from cli import registry as verb

    verb.models(verb.Request(model, tuple(versions or ()), compare, history), as_json=json)


@app.command()
def promote(
    version: Annotated[str | None, typer.Argument(help="Version; default: the challenger.")] = None,
    model: Model = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overrule the gate; needs --reason, recorded with your name.")
    ] = False,
    reason: Reason = "",
    json: Json = False,
) -> None:
    """Make a version the champion, if the gate agrees (exit 3 when it does not)."""
    from cli import registry as verb

    verb.promote(version, model, force=force, reason=reason, as_json=json)


@app.command()
def rollback(model: Model = None, reason: Reason = "", json: Json = False) -> None:
    """Give the champion's alias back to the version before, if its files are whole (exit 3 when not)."""
    from cli import registry as verb

    verb.rollback(model, reason=reason, as_json=json)


@app.command()
def features(
    search: Annotated[
        str | None, typer.Argument(help="Only what has these words in name, formula, group or source.")
    ] = None,
    catalog: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="core, full or alpha158 as it comes, instead of params.yaml's."),
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Formula, warm-up, operators; writes a page with a plot."),
    ] = None,
    compute: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.parquet",
            help="Write the features of the bars to this file (--universe: directory).",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Look for leaks and unusable values; exit 1 names the offender.")
    ] = False,
    name: Annotated[
        list[str] | None, typer.Option(help="Compute or check only this feature; repeatable.")
    ] = None,
    bars: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="CSV or parquet of bars instead of the configured source."),
    ] = None,
    universe: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Every CSV and parquet file there is the bars of a symbol."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Symbols computed at a time; default train.processes.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Where --explain writes; default var/features/.")
    ] = None,
    set_: Set = None,
    json: Json = False,
) -> None:
    """List the features, your own included; explain one, compute them, or look for leaks."""
    from cli import features as verb

    request = verb.Request(
        search, explain, compute, check, name or [], bars, page, set_ or [], catalog, universe, processes
    )
    verb.features(request, as_json=json)


@app.command()
def doctor(json: Json = False) -> None:
    """Check the installation and the stores, and say how to mend what is wrong."""
    from cli import health as verb

    verb.doctor(as_json=json)


def main() -> None:
    """Entry point: one message per failure, the documented exit code, never a traceback."""
    _end_in_order()
    try:
        app()
    except ConfigurationError as error:
        several = "\n".join(["", *error.faults]).replace("\n", "\n  ")  # a caret stays under its fault
        _fail("configuration", several if len(error.faults) > 1 else str(error))
        sys.exit(error.exit_code)
    except BellwetherError as error:
        _fail("refused" if error.exit_code == 3 else "error", str(error))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as stop:
        # typer makes a plain exit of ctrl-C
        code = 130 if isinstance(stop, KeyboardInterrupt) else stop.code
        if code in _STOPPED:
            _fail(_STOPPED[code], "what was finished is kept; run the command again to go on")
        sys.exit(code)
    except Exception as error:  # noqa: BLE001  the edge of the process
        _fail("error", _explain(error))
        sys.exit(1)


_STOPPED = {130: "interrupted", 143: "terminated", 129: "hung up"}


def _end_in_order() -> None:
    """Make SIGTERM and SIGHUP unwind as ctrl-C does, so that what was started is ended."""

    def stop(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, stop)


def _explain(error: Exception) -> str:
    from core.faults import explain
    from core.settings import load_settings

    try:
        return explain(error, load_settings().var_dir)
    except ConfigurationError:
        return explain(error, Path("var").absolute())


def _fail(kind: str, message: str) -> None:
    print(f"bellwether: {kind}: {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
