"""The command line. Parts are loaded where they are used: `--help` must not wait for them."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, Final, NoReturn

import typer

from api.cli.infra import infra_commands
from api.cli.output import Format
from api.cli.queries import QUERY_EXAMPLES, QUERY_HELP, answer_query
from domain.errors import InvalidValue

USED_WRONGLY: Final = 2
FOUND_WRONG: Final = 1
NOT_AVAILABLE: Final = 3

app = typer.Typer(
    name="daybook",
    help="A trading ledger: immutable events, exact books, provable replay.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # loading Rich for the help alone would double its time
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Home = Annotated[
    Path | None,
    typer.Option(help="Where the embedded servers and archives live (DAYBOOK_HOME)."),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(metavar="PORT", min=0, max=65535, help="Serve metrics; 0 takes a free port."),
]
MetricsHost = Annotated[str, typer.Option(metavar="ADDRESS", help="Serve them there.")]
_UNITS: Final = (
    "Amounts are in the currency of their row, quantities in units of the instrument, times in UTC."
)
_homes: list[Path] = []


@app.callback()
def _globals(home: Home = None) -> None:
    if home is not None:
        _homes.append(home)


def chosen_home(home: Path | None) -> Path | None:
    """Return the home that a command was given, or that was given before its name."""
    return home or (_homes[-1] if _homes else None)


@app.command("import", epilog="Example: daybook import deals.csv prices.parquet --zone UTC")
def import_files(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files to import.")],
    source: Annotated[
        str | None,
        typer.Option(help="csv, parquet, ibkr-flex, lobster or fix; recognised when not given."),
    ] = None,
    account: Annotated[str | None, typer.Option(help="The account, where files tell none.")] = None,
    date: Annotated[
        str | None, typer.Option(help="The day, as 2012-06-21, where a file has only times.")
    ] = None,
    zone: Annotated[
        str | None, typer.Option(help="The zone, as America/New_York, of times without one.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="Reject what would have to be assumed.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Answer, but record nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    home: Home = None,
) -> None:
    """Import files into the ledger; safe to run twice."""
    from api.cli.imports import run_import
    from api.importing.run import Told, check_told, source_from

    told = check_told(Told(source_from(source), account, date, zone, strict, dry_run))
    raise typer.Exit(run_import(chosen_home(home), files, told, as_json=as_json))


@app.command(epilog="Example: daybook submit commands.jsonl")
def submit(
    file: Annotated[str, typer.Argument(help="Commands as JSON Lines; - is standard input.")],
    strict: Annotated[bool, typer.Option(help="Refuse what would have to be assumed.")] = False,
    home: Home = None,
) -> None:
    """Submit commands; prints one answer a line."""
    from api.cli.imports import run_submit

    raise typer.Exit(run_submit(chosen_home(home), file, strict=strict))


def _query(name: str) -> Callable[..., None]:
    def query(
        account: Annotated[str | None, typer.Option(help="One account.")] = None,
        portfolio: Annotated[
            str | None, typer.Option(help="The accounts of one, and of those below it.")
        ] = None,
        instrument: Annotated[str | None, typer.Option(help="One instrument.")] = None,
        as_of: Annotated[
            str | None,
            typer.Option(help="What was true then: 2024-01-05, or 2024-01-05T15:00:00Z."),
        ] = None,
        known_at: Annotated[
            str | None,
            typer.Option(
                help="What the ledger knew then: a date (its end in UTC), a time with a"
                " zone, or positions such as 0:12,3:55."
            ),
        ] = None,
        method: Annotated[
            str | None,
            typer.Option(help="What if lots were taken by fifo, lifo, hifo, average or specific."),
        ] = None,
        only_open: Annotated[
            bool, typer.Option("--open", help="Leave out lots and positions of no units.")
        ] = False,
        chosen: Annotated[Format, typer.Option("--format", help="How to write.")] = Format.TABLE,
        output: Annotated[
            Path | None, typer.Option("-o", help="Write to this file, whole.")
        ] = None,
        home: Home = None,
    ) -> None:
        answer_query(
            chosen_home(home),
            name,
            account=account,
            portfolio=portfolio,
            instrument=instrument,
            as_of=as_of,
            known_at=known_at,
            method=method,
            only_open=only_open,
            chosen=chosen,
            output=output,
        )

    query.__doc__ = f"{QUERY_HELP[name]}\n\n{_UNITS}"
    return query


for _name in QUERY_HELP:
    app.command(_name, epilog=f"Example: {QUERY_EXAMPLES[_name]}")(_query(_name))


@app.command("log", epilog="Example: daybook log --account A1 --after 11:4")
def show_log(
    account: Annotated[
        str | None, typer.Option(help="One account's events; of another topic, one stream's.")
    ] = None,
    after: Annotated[str | None, typer.Option(help="Only after these positions.")] = None,
    topic: Annotated[str, typer.Option(help="events, prices or reference.")] = "events",
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines, as always.")] = True,  # noqa: ARG001
    home: Home = None,
) -> None:
    """Print events as JSON Lines, as stored, with position and hash."""
    from api.cli.operations import print_log

    print_log(chosen_home(home), account, after, topic)


@app.command(epilog="Example: daybook status --json")
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    home: Home = None,
) -> None:
    """Show heads, checkpoints and lag."""
    from api.cli.operations import print_status

    raise typer.Exit(print_status(chosen_home(home), as_json=as_json))


@app.command(epilog="Example: daybook verify")
def verify(home: Home = None) -> None:
    """Check every record's chain, and every read model against a fresh fold."""
    from api.cli.operations import run_verify

    raise typer.Exit(run_verify(chosen_home(home)))


@app.command(epilog="Example: daybook rebuild positions")
def rebuild(
    projection: Annotated[str | None, typer.Argument(help="One projection; else all.")] = None,
    home: Home = None,
) -> None:
    """Fill read models anew from the log while the old ones serve, and swap them in."""
    from api.cli.operations import run_rebuild

    raise typer.Exit(run_rebuild(chosen_home(home), projection))


@app.command("migrate-log", epilog="Example: daybook migrate-log kafka://127.0.0.1:9092/daybook")
def migrate_log(
    to_url: Annotated[
        str, typer.Argument(metavar="TO_URL", help="kafka://HOST:PORT[,...]/NAMESPACE")
    ],
    home: Home = None,
) -> None:
    """Copy the log into Kafka, and prove both equal; goes on where it was stopped."""
    from api.cli.moving import run_migrate_log

    raise typer.Exit(run_migrate_log(chosen_home(home), to_url))


@app.command(epilog="Example: daybook park prices/3:12 9f64a747e1b9...")
def park(
    position: Annotated[str, typer.Argument(help="Where the record stands: 3:12.")],
    digest: Annotated[str, typer.Argument(help="The SHA-256 of the record, in hex.")],
    home: Home = None,
) -> None:
    """Set aside a record that no one can decode, so that readers may go on."""
    from api.cli.operations import run_park

    raise typer.Exit(run_park(chosen_home(home), position, digest))


@app.command(epilog="Example: daybook serve --port 8080 --rate 200")
def serve(
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The port; 0 takes a free one.", min=0, max=65535)
    ] = 8000,
    name: Annotated[
        list[str] | None, typer.Option(help="Another host name that the server goes by.")
    ] = None,
    jwks: Annotated[
        str | None, typer.Option(help="Keys of an issuer of tokens: an https URL, or a file.")
    ] = None,
    audience: Annotated[str, typer.Option(help="What tokens must be meant for.")] = "daybook",
    issuer: Annotated[str | None, typer.Option(help="Who must have issued them.")] = None,
    rate: Annotated[
        int, typer.Option(help="Requests a second of one principal; 0 is no limit.", min=0)
    ] = 1000,
    home: Home = None,
) -> None:
    """Serve the API and the dashboard."""
    from api.cli.serve import Serving, run_serve

    serving = Serving(
        host=host,
        port=port,
        names=name or (),
        jwks=jwks,
        audience=audience,
        issuer=issuer,
        rate=rate,
    )
    raise typer.Exit(run_serve(chosen_home(home), serving))


@app.command(epilog="Example: daybook token --role trader --account A1 --expires 8h")
def token(
    role: Annotated[str, typer.Option(help="trader, compliance, quant, admin or service.")],
    subject: Annotated[str | None, typer.Option(help="Whom it is for; else the role.")] = None,
    account: Annotated[list[str] | None, typer.Option(help="An account; may be repeated.")] = None,
    portfolio: Annotated[
        list[str] | None, typer.Option(help="A portfolio with all below it; may be repeated.")
    ] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="Only this of what the role may do; may be repeated.")
    ] = None,
    expires: Annotated[str, typer.Option(help="When it ends: after 30m, 12h, 7d.")] = "12h",
    audience: Annotated[str, typer.Option(help="What it is meant for.")] = "daybook",
    new_key: Annotated[bool, typer.Option(help="Sign with a new key; old ones stay good.")] = False,
    home: Home = None,
) -> None:
    """Print a token for the API, signed with the home's key."""
    from api.cli.serve import Wanted, run_token

    wanted = Wanted(
        role=role,
        subject=subject,
        accounts=account or (),
        portfolios=portfolio or (),
        scopes=scope or (),
        expires=expires,
        audience=audience,
        new_key=new_key,
    )
    raise typer.Exit(run_token(chosen_home(home), wanted))


@app.command(epilog="Example: daybook bench startup")
def bench(
    name: Annotated[str | None, typer.Argument(help="One benchmark; else all.")] = None,
) -> None:
    """Run the benchmarks, each beside its alternative."""
    from api.cli.operations import run_bench

    raise typer.Exit(run_bench(name))


@app.command(epilog="Example: daybook worker --metrics 9101")
def worker(
    metrics: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    home: Home = None,
) -> None:
    """Project what is in Kafka into the read models, until SIGTERM."""
    from api.cli.worker import run_worker

    raise typer.Exit(run_worker(chosen_home(home), metrics, metrics_host))


@app.command(epilog="Example: daybook decider --metrics 9102")
def decider(
    metrics: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    home: Home = None,
) -> None:
    """Decide commands for a log in Kafka, until SIGTERM."""
    from api.cli.decider import run_decider

    raise typer.Exit(run_decider(chosen_home(home), metrics, metrics_host))


def _not_there_yet(name: str) -> Callable[..., None]:
    def command(_ctx: typer.Context) -> None:
        typer.echo(f"daybook {name} is not there yet", err=True)
        raise typer.Exit(NOT_AVAILABLE)

    command.__doc__ = "Not there yet."
    return command


_ANY_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True}
for _name in ("pnl", "returns", "risk", "attribution"):
    app.command(_name, context_settings=_ANY_ARGUMENTS)(_not_there_yet(_name))

app.add_typer(infra_commands(chosen_home), name="infra")


def main() -> NoReturn:
    """Run the command line; exits 0 done, 1 found wrong, 2 used wrongly, 3 not available."""
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, _terminated)
    try:
        app(standalone_mode=True)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(FOUND_WRONG)
    except Exception as error:
        foreseen = _foreseen(error)
        if foreseen is None:
            raise
        message, status = foreseen
        typer.echo(f"daybook: {message}", err=True)
        sys.exit(status)
    sys.exit(0)


def _foreseen(error: Exception) -> tuple[str, int] | None:
    """Return what to say of an error and the exit status; None where nobody foresaw it.

    The kinds are told apart here and not in an `except` each, because they are slow to import.
    """
    import psycopg

    from api.importing.lines import UnreadableFile
    from infra.errors import InfraError, SettingsError
    from streams.log import LogError

    match error:
        case InvalidValue() | SettingsError():
            return str(error), USED_WRONGLY
        case InfraError():
            return str(error), NOT_AVAILABLE
        case (
            psycopg.OperationalError()
            | psycopg.errors.ReadOnlySqlTransaction()
            | psycopg.errors.InsufficientPrivilege()
        ):
            return f"the database answers: {' '.join(str(error).split())}", NOT_AVAILABLE
        case psycopg.errors.UndefinedTable() | psycopg.errors.UndefinedColumn():
            made = "the read models were made by another version of Daybook, or not yet"
            return f"{made}: {' '.join(str(error).split())}", NOT_AVAILABLE
        case LogError() | UnreadableFile() | OSError():
            return str(error), FOUND_WRONG
        case _:
            return None


def _terminated(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
