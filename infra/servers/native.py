"""The servers of a home as processes of this machine: started, looked at, stopped.

Commands on one home wait for each other. Everything is found again from files: `servers.json` for
what was chosen, and in each server's folder the record of its process.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from infra import cluster
from infra.cluster import open_owned
from infra.errors import ServerUnavailable, SettingsError
from infra.servers import processes
from infra.servers.choices import (
    Choices,
    is_free,
    load_choices,
    new_choices,
    store_choices,
    with_ports,
)
from infra.servers.kafka import KafkaBroker, fetch_jars, jars_folder
from infra.servers.ownership import make_owned
from infra.servers.postgres import PostgresServer
from infra.servers.redis import RedisServer
from infra.servers.server import ProgramsMissing, Server

KAFKA: Final = "kafka"
REDIS: Final = "redis"
POSTGRES: Final = "postgres"
PARTS: Final = (KAFKA, REDIS, POSTGRES)
_NAMESPACE: Final = "daybook"
_START_TIMEOUT_S: Final = 120.0
_STOP_PATIENCE_S: Final = 30.0
_POLL_S: Final = 0.05

Say = Callable[[str], None]


class Health(msgspec.Struct, frozen=True):
    """One server as it is now; `complaint` is None when it serves, `pid` None when it is down."""

    name: str
    port: int
    pid: int | None
    complaint: str | None


class Look(msgspec.Struct, frozen=True):
    """The servers of a home that were started and not stopped, and the settings to use them."""

    servers: tuple[Health, ...]
    urls: dict[str, str]


def start_servers(
    home: Path, *, brokers: int | None = None, parts: Sequence[str] = PARTS, say: Say
) -> None:
    """Start what does not run of these parts; returns when all of them serve.

    `brokers` is 1 or 3, and cannot change for a home (default: as before, else 1). Raises
    ServerUnavailable for what is missing or does not come up, SettingsError for `brokers`.
    """
    with _alone(home) as folder:
        choices = load_choices(folder) or new_choices(brokers or 1)
        if brokers not in (None, choices.brokers):
            expected = f"{choices.brokers}, as the Kafka in {folder} was made with"
            raise SettingsError("--brokers", str(brokers), f"{expected} (or another home)")
        choices = _settle_ports(folder, choices, parts, say)
        servers = _servers(folder, choices, parts)
        down = [server for server in servers if processes.running(server.folder) is None]
        if lacks := [lack for server in down for lack in server.lacks()]:
            raise ProgramsMissing.of(lacks)
        if any(isinstance(server, KafkaBroker) for server in down):
            if not jars_folder(folder).exists():
                say("fetching Kafka (43 MB) by Maven")
            fetch_jars(folder)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda server: _start(server, say), down))
        _wait_until_serving(servers, down, say)


def stop_servers(home: Path, *, say: Say) -> None:
    """Stop whatever of a home runs; the data stay. Returns when all have ended."""
    if not (home / "servers").is_dir():
        return
    with _alone(home) as folder:
        choices = load_choices(folder)
        servers = () if choices is None else _servers(folder, choices, PARTS)
        _stop(servers, say)


def look_at_servers(home: Path) -> Look:
    """Ask every server that was started and not stopped how it is; waits for no other command."""
    folder = home.resolve() / "servers"
    with _reporting(folder), ThreadPoolExecutor() as pool:
        choices = load_choices(folder)
        servers = () if choices is None else _servers(folder, choices, PARTS)
        started = [server for server in servers if processes.recorded(server.folder) is not None]
        return Look(tuple(pool.map(_health, started)), _urls(started))


def _health(server: Server) -> Health:
    process = processes.running(server.folder)
    if process is None:
        words = processes.last_words(server.folder)
        return Health(server.name, server.port, None, f"it has died: {words}")
    return Health(server.name, server.port, process.pid, server.complaint())


def _urls(started: Sequence[Server]) -> dict[str, str]:
    """The settings for what was started: a server that died is restarted where it was."""
    urls = {}
    brokers = [server for server in started if isinstance(server, KafkaBroker)]
    if brokers:
        addresses = ",".join(f"127.0.0.1:{port}" for port in brokers[0].ports)
        urls["DAYBOOK_LOG_URL"] = f"kafka://{addresses}/{_NAMESPACE}"
    for server in started:
        if isinstance(server, PostgresServer):
            urls["DAYBOOK_STORE_URL"] = server.url
        if isinstance(server, RedisServer):
            urls["DAYBOOK_CACHE_URL"] = server.url
    return urls


def _servers(folder: Path, choices: Choices, parts: Sequence[str]) -> tuple[Server, ...]:
    """The servers of these parts whose ports have been chosen."""
    ports = choices.ports
    servers: list[Server] = []
    numbers = range(1, choices.brokers + 1)
    if KAFKA in parts and "kafka-1" in ports:
        clients = tuple(ports[f"kafka-{n}"] for n in numbers)
        controllers = tuple(ports[f"kafka-{n}-controller"] for n in numbers)
        for n in numbers:
            broker = folder / f"kafka-{n}"
            servers.append(KafkaBroker(broker, n, choices.cluster_id, clients, controllers))
    if REDIS in parts and REDIS in ports:
        servers.append(RedisServer(folder / REDIS, ports[REDIS], choices.password))
    if POSTGRES in parts and POSTGRES in ports:
        servers.append(PostgresServer(folder / POSTGRES, ports[POSTGRES], choices.password))
    return tuple(servers)


def _settle_ports(folder: Path, choices: Choices, parts: Sequence[str], say: Say) -> Choices:
    """Choose ports where none were, and others where somebody else has taken them since.

    The brokers know each other by port: where one has to move, all of them start again.
    """
    numbers = range(1, choices.brokers + 1)
    owners = {REDIS: REDIS, POSTGRES: POSTGRES}
    owners |= {f"kafka-{n}{suffix}": f"kafka-{n}" for n in numbers for suffix in _BROKER_PORTS}
    moving = [
        name
        for name, owner in owners.items()
        if owner.partition("-")[0] in parts
        and processes.running(folder / owner) is None
        and not (name in choices.ports and _comes_free(choices.ports[name]))
    ]
    if not moving:
        return choices
    for name in moving:
        if name in choices.ports:
            say(f"port {choices.ports[name]} of {name} is taken by somebody else: it moves")
    if any(name.startswith(KAFKA) for name in moving):
        _stop(_servers(folder, choices, [KAFKA]), say)
    settled = with_ports(choices, moving)
    store_choices(folder, settled)
    return settled


def _comes_free(port: int) -> bool:
    """Tell whether a port is free, or is about to be: one who was killed lets go of it in time."""
    deadline = time.monotonic() + _LETTING_GO_S
    while not is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_AGAIN_S)
    return True


_LETTING_GO_S: Final = 3.0
_LOOK_AGAIN_S: Final = 0.05
_BROKER_PORTS: Final = ("", "-controller")


def _start(server: Server, say: Say) -> None:
    say(f"starting {server.name} on 127.0.0.1:{server.port}")
    make_owned(server.folder)
    try:
        with processes.held(server.folder) as lock:
            server.prepare(lock)
            processes.launch(server.command(), server.folder, lock)
    except (TimeoutError, ChildProcessError) as error:
        raise ServerUnavailable(server.name, str(error), f"see {server.folder}") from error


def _wait_until_serving(servers: Sequence[Server], started: Sequence[Server], say: Say) -> None:
    """Wait for all; one that ran before and dies meanwhile is started, but nobody twice."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    names = {server.name for server in started}
    for server in servers:
        log = server.folder / processes.LOG_NAME
        while (complaint := server.complaint()) is not None:
            if processes.running(server.folder) is None:
                if server.name in names:
                    words = processes.last_words(server.folder)
                    raise ServerUnavailable(server.name, f"it ended: {words}", f"see {log}")
                names.add(server.name)
                _start(server, say)
            elif time.monotonic() > deadline:
                raise ServerUnavailable(server.name, complaint, f"see {log}")
            time.sleep(_POLL_S)


def _stop(servers: Sequence[Server], say: Say) -> None:
    alive = [server for server in servers if processes.recorded(server.folder) is not None]

    def stop(server: Server) -> None:
        if processes.running(server.folder) is not None:
            say(f"stopping {server.name}")
        if processes.stop(server.folder, server.stop_signal, _STOP_PATIENCE_S):
            say(f"{server.name} did not end in {_STOP_PATIENCE_S:.0f} s and was killed")

    with ThreadPoolExecutor() as pool:
        list(pool.map(stop, alive))


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[Path]:
    """Make the folder of the servers and keep other commands out of it; yields the folder."""
    folder = home.resolve() / "servers"
    with _reporting(folder):
        cluster.make_folder(folder)
        lock = open_owned(folder / "commands.lock", os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
        finally:
            os.close(lock)


@contextlib.contextmanager
def _reporting(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"{error.filename or folder}: {error.strerror or error}"
        raise ServerUnavailable("the servers' folder", reason, cluster.HINT_HOME) from error
