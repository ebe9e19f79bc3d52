"""Redis from the program on the PATH: the hot copy, which may be lost at any time."""

import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from infra.servers.ownership import make_owned, write_owned
from infra.servers.server import Lack

PART: Final = "Redis"
_PROGRAM: Final = "redis-server"
_PROBE_TIMEOUT_S: Final = 2.0


class RedisServer(msgspec.Struct, frozen=True):
    """Redis on a loopback port, with a password: any account of the machine reaches the port."""

    folder: Path
    port: int
    password: str

    @property
    def name(self) -> str:
        """What people call it; also the name of its folder."""
        return "redis"

    @property
    def url(self) -> str:
        """The URL for DAYBOOK_CACHE_URL, with the password."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def stop_signal(self) -> signal.Signals:
        """The signal that saves the data and ends it."""
        return signal.SIGTERM

    def lacks(self) -> Sequence[Lack]:
        """Return what has to be installed: the server."""
        if shutil.which(_PROGRAM) is not None:
            return []
        return [Lack(PART, f"the program {_PROGRAM} is not on the PATH", "redis-server")]

    def prepare(self, lock: int) -> None:  # noqa: ARG002 - no program is run here
        """Write the configuration; it is a file because a command line can be seen by all."""
        make_owned(self.folder / "data")
        settings = {
            "bind": "127.0.0.1",
            "port": self.port,
            "requirepass": self.password,
            "daemonize": "no",
            "dir": "data",
            "save": "300 1 60 10000",
        }
        lines = "".join(f"{name} {value}\n" for name, value in settings.items())
        write_owned(self.folder / "redis.conf", lines.encode())

    def command(self) -> Sequence[str]:
        """Return the command that runs it in the foreground, from its folder."""
        return [shutil.which(_PROGRAM) or _PROGRAM, "redis.conf"]

    def complaint(self) -> str | None:
        """Ask it for a sign of life, with the password."""
        # Imported here because most commands have no use for it.
        import redis

        client = redis.Redis.from_url(
            self.url, socket_timeout=_PROBE_TIMEOUT_S, socket_connect_timeout=_PROBE_TIMEOUT_S
        )
        try:
            client.ping()
        except (redis.RedisError, OSError) as error:
            return f"no answer on port {self.port}: {error}"
        finally:
            client.close()
        return None
