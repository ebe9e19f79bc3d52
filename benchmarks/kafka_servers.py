"""Native servers for benchmarks of a distributed ledger: one broker, one PostgreSQL, both new."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from infra.servers.native import look_at_servers, start_servers, stop_servers


class Servers(Struct, frozen=True):
    """Servers of this run: the brokers as HOST:PORT, and the URL of Postgres."""

    hosts: str
    store_url: str


@contextlib.contextmanager
def native_servers() -> Iterator[Servers]:
    """Start the servers for the length of a block; raises ProgramsMissing."""
    with tempfile.TemporaryDirectory(prefix="daybook-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        try:
            start_servers(home, parts=["kafka", "postgres"], say=lambda _: None)
            urls = look_at_servers(home).urls
            hosts = urls["DAYBOOK_LOG_URL"].removeprefix("kafka://").partition("/")[0]
            yield Servers(hosts, urls["DAYBOOK_STORE_URL"])
        finally:
            stop_servers(home, say=lambda _: None)
