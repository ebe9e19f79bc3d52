"""Three brokers, Postgres and Redis as the project starts them, with a way in for each process.

Each process of the ledger reaches each server through a proxy of its own. A broker tells its
clients where to find the brokers, so each has a listener for each process, and advertises there the
proxy in front of it.
"""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from unittest import mock

from infra.servers import processes
from infra.servers.choices import is_free
from infra.servers.kafka import KafkaBroker
from infra.servers.native import look_at_servers, start_servers
from streams.kafka_client import LoopThread
from tests.chaos.proxy import Cut, Proxy
from tests.chaos.reaper import family, resume_server

BROKERS: Final = ("kafka-1", "kafka-2", "kafka-3")
SERVERS: Final = (*BROKERS, "postgres", "redis")
NAMESPACE: Final = "chaos"
_PORTS: Final = range(30_000, 32_700)
_settings = KafkaBroker._settings

Link = tuple[str, str]
"""A process of the ledger, and a server that it talks to."""


class Cluster:
    """The servers of a home, and the links to them of `clients`."""

    def __init__(self, home: Path, clients: Sequence[str]) -> None:
        self.home = home
        self.clients = tuple(clients)
        self._ports = _free_ports()
        self._listeners = {(c, b): next(self._ports) for c in clients for b in BROKERS}
        self._advertised = {(c, b): next(self._ports) for c in clients for b in BROKERS}
        self._loop = LoopThread("proxies")
        self._proxies: dict[Link, Proxy] = {}
        self._urls: dict[str, str] = {}

    def start(self) -> None:
        """Start the servers, and open the links to them."""
        self.start_servers()
        self._urls = look_at_servers(self.home).urls
        for client in self.clients:
            for broker in BROKERS:
                port = self._advertised[client, broker]
                self._proxies[client, broker] = Proxy(port, self._listeners[client, broker])
            for server in ("postgres", "redis"):
                proxy = Proxy(next(self._ports), _port_of(self._urls[_VARIABLE[server]]))
                self._proxies[client, server] = proxy
        for proxy in self._proxies.values():
            self._loop.run(proxy.open())

    def close(self) -> None:
        """Close the links; the servers are the reaper's to stop."""
        self._loop.close(self._close_links())

    async def _close_links(self) -> None:
        await asyncio.gather(*(proxy.close() for proxy in self._proxies.values()))

    # --- where things are ----------------------------------------------------------------------

    def settings(self, client: str | None) -> dict[str, str]:
        """Return the settings of one process, by its own links; None: straight to the servers."""
        urls = {"DAYBOOK_HOME": str(self.home / "home")}
        hosts = _hosts(self._urls["DAYBOOK_LOG_URL"])
        if client is not None:
            hosts = ",".join(f"127.0.0.1:{self._advertised[client, one]}" for one in BROKERS)
        urls["DAYBOOK_LOG_URL"] = f"kafka://{hosts}/{NAMESPACE}"
        for server in ("postgres", "redis"):
            name = _VARIABLE[server]
            urls[name] = self._urls[name]
            if client is not None:
                port = self._proxies[client, server].port
                urls[name] = urls[name].replace(f":{_port_of(self._urls[name])}/", f":{port}/")
        return urls

    # --- servers -------------------------------------------------------------------------------

    def start_servers(self) -> None:
        """Start what does not run; returns when all of them serve."""
        with mock.patch.object(KafkaBroker, "_settings", self._linked):
            start_servers(self.home, brokers=len(BROKERS), say=lambda _: None)

    @property
    def _linked(self) -> object:
        def settings(broker: KafkaBroker) -> dict[str, str | int]:
            told = _settings(broker)
            for number, client in enumerate(self.clients):
                name = f"LINK{number}"
                inner = self._listeners[client, broker.name]
                outer = self._advertised[client, broker.name]
                told["listeners"] = f"{told['listeners']},{name}://127.0.0.1:{inner}"
                told["advertised.listeners"] = (
                    f"{told['advertised.listeners']},{name}://127.0.0.1:{outer}"
                )
                security = told["listener.security.protocol.map"]
                told["listener.security.protocol.map"] = f"{security},{name}:PLAINTEXT"
            return told

        return settings

    def kill(self, server: str) -> None:
        """End a server without a word."""
        process = processes.running(self._folder(server))
        if process is not None:
            os.kill(process.pid, signal.SIGKILL)

    def pause(self, server: str) -> None:
        """Let a server and its children stand still."""
        process = processes.running(self._folder(server))
        for pid in [] if process is None else family(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def resume(self, server: str) -> None:
        """Let a server go on."""
        resume_server(self._folder(server))

    def _folder(self, server: str) -> Path:
        return self.home / "servers" / server

    # --- links ---------------------------------------------------------------------------------

    def cut(self, links: Sequence[Link], way: Cut) -> None:
        """Cut links."""
        for link in links:
            self._loop.run(self._proxies[link].cut(way))

    def heal(self, links: Sequence[Link]) -> None:
        """Heal links."""
        for link in links:
            self._loop.run(self._proxies[link].heal())

    def heal_all(self) -> None:
        """Let everything through, and let everybody go on."""
        for server in SERVERS:
            self.resume(server)
        self.heal(list(self._proxies))


_VARIABLE: Final = {"postgres": "DAYBOOK_STORE_URL", "redis": "DAYBOOK_CACHE_URL"}


def _free_ports() -> Iterator[int]:
    """Yield ports that nobody listens on, below those that outgoing connections get."""
    candidates = random.sample(_PORTS, len(_PORTS))
    return (port for port in candidates if is_free(port))


def _port_of(url: str) -> int:
    return int(url.rpartition("@")[2].partition("/")[0].partition(":")[2])


def _hosts(url: str) -> str:
    return url.removeprefix("kafka://").partition("/")[0]
