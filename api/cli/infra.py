"""The commands that start, show and stop the servers of the distributed ledger."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from infra.servers.native import Health, Look

_FOUND_WRONG: Final = 1

_Home = Annotated[Path | None, typer.Option(help="Where the servers keep their data.")]


def infra_commands(chosen_home: Callable[[Path | None], Path | None]) -> typer.Typer:
    """Make `daybook infra`, for the home that `chosen_home` returns for its option `--home`."""
    commands = typer.Typer(
        help="The servers of the distributed ledger: Kafka, PostgreSQL, Redis.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )

    @commands.command(epilog="Example: daybook infra up --brokers 3 --native")
    def up(
        brokers: Annotated[int | None, typer.Option(help="Kafka brokers: 1 or 3.")] = None,
        native: Annotated[bool, typer.Option("--native", help="As processes.")] = False,
        docker: Annotated[bool, typer.Option("--docker", help="As containers.")] = False,
        home: _Home = None,
    ) -> None:
        """Start the servers and wait until they serve; safe to run twice.

        In containers where a Docker daemon answers, else, and for three brokers, as processes of
        this machine; a home stays with what it began with.
        """
        _up(_place(chosen_home(home)), brokers, native=native, docker=docker)

    @commands.command(epilog="Example: daybook infra down")
    def down(home: _Home = None) -> None:
        """Stop the servers; their data stay."""
        from infra.servers.containers import stop_containers
        from infra.servers.native import stop_servers

        place = _place(chosen_home(home))
        stop_servers(place, say=_say)
        stop_containers(place, say=_say)

    @commands.command(epilog='Example: eval "$(daybook infra status)"')
    def status(
        as_json: Annotated[bool, typer.Option("--json", help="Print the settings.")] = False,
        home: _Home = None,
    ) -> None:
        """Print the settings to use the servers, and how they are; 1 if one is not well."""
        raise typer.Exit(_status(_place(chosen_home(home)), as_json=as_json))

    return commands


def _up(home: Path, brokers: int | None, *, native: bool, docker: bool) -> None:
    from infra.errors import SettingsError
    from infra.servers.choices import BROKERS_ALLOWED
    from infra.servers.containers import start_containers
    from infra.servers.native import start_servers

    if native and docker:
        raise SettingsError("--docker", "given with --native", "one of the two")
    if brokers is not None and brokers not in BROKERS_ALLOWED:
        raise SettingsError("--brokers", str(brokers), "1 or 3")
    if _in_containers(home, brokers, native=native, docker=docker):
        if brokers not in (None, 1):
            raise SettingsError("--brokers", str(brokers), "1 in containers; 3 with --native")
        start_containers(home, say=_say)
    else:
        start_servers(home, brokers=brokers, say=_say)
    _status(home, as_json=False)


def _in_containers(home: Path, brokers: int | None, *, native: bool, docker: bool) -> bool:
    """Tell which way this home goes: the one it began with, and for a new one what is there.

    Containers have one broker, so who wants three and says no more gets processes.
    """
    from infra.errors import SettingsError
    from infra.servers.choices import load_choices
    from infra.servers.containers import docker_answers, were_chosen

    began_in_containers = were_chosen(home)
    began_native = load_choices(home / "servers") is not None
    if docker and began_native:
        raise SettingsError(
            "--docker", str(home), "another home: the servers of this one are native"
        )
    if native and began_in_containers:
        raise SettingsError(
            "--native", str(home), "another home: the servers of this one are containers"
        )
    if began_native or native:
        return False
    if docker or began_in_containers:
        return True
    return brokers in (None, 1) and docker_answers()


def _status(home: Path, *, as_json: bool) -> int:
    import msgspec

    look = _look(home)
    if as_json:
        typer.echo(msgspec.json.encode(look.urls).decode())
    else:
        for line in _lines(look):
            typer.echo(line)
    if not look.servers:
        _say(f"no servers of {home} are up; `daybook infra up` starts them")
    return _FOUND_WRONG if any(server.complaint for server in look.servers) else 0


def _look(home: Path) -> "Look":
    from infra.servers.containers import look_at_containers, were_chosen
    from infra.servers.native import look_at_servers

    return look_at_containers(home) if were_chosen(home) else look_at_servers(home)


def _lines(look: "Look") -> list[str]:
    """Lines that a shell can evaluate: settings, and comments for people."""
    exports = [f"export {name}={shlex.quote(url)}" for name, url in look.urls.items()]
    return exports + [f"# {_health(server)}" for server in look.servers]


def _health(server: "Health") -> str:
    where = f"127.0.0.1:{server.port}"
    process = "" if server.pid is None else f"process {server.pid}"
    return f"{server.name:<12} {where:<16} {process:<16} {server.complaint or 'serves'}"


def _place(home: Path | None) -> Path:
    from infra.settings import load_settings

    return load_settings(home).home


def _say(message: str) -> None:
    typer.echo(message, err=True)
