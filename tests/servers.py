"""Real servers for tests: told by the environment, else in containers, else native, else none.

DAYBOOK_TEST_KAFKA is HOST:PORT[,HOST:PORT...], DAYBOOK_TEST_REDIS and DAYBOOK_TEST_POSTGRES are
URLs. Tests share a server, so each uses names of its own in it.
"""

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.servers import kafka
from infra.servers.choices import is_free
from infra.servers.kafka_probe import describe
from infra.servers.native import look_at_servers, start_servers, stop_servers
from infra.servers.server import ProgramsMissing
from tests.waiting import until

# Brokers of tests live for seconds: Java's second compiler would cost more than it brings.
KAFKA_OPTS = "-XX:TieredStopAtLevel=1"
# Below what systems give to outgoing connections, and beside what the native servers choose from.
_PORTS = range(30_000, 32_768)
POSTGRES_IMAGE = "timescale/timescaledb:2.21.0-pg17"
KAFKA_IMAGE = "apache/kafka:4.3.0"
REDIS_IMAGE = "redis:7.4-alpine"
COMPOSE = Path(__file__).resolve().parents[1] / "docker-compose.yml"
CLUSTER_ID = "ZGF5Ym9vay1jb21wb3NlMQ"


def free_port() -> int:
    """Return a port that nobody has, and that nobody is likely to get before it is used."""
    return next(port for port in random.sample(_PORTS, len(_PORTS)) if is_free(port))


def docker_answers() -> bool:
    """Tell whether containers can be run here."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def native(part: str, home: Path, kept: Path) -> Iterator[str]:
    """Run the native server of one part in `home`; yields its URL; skips where it cannot run.

    Kafka's jars are kept in `kept`, so that Maven is asked for them once and not by every run.
    """
    try:
        if part == "kafka":
            lend_jars(home, kept)
        start_servers(home, parts=[part], say=lambda _: None)
        (url,) = look_at_servers(home).urls.values()
        yield url
    except ProgramsMissing as error:
        pytest.skip(str(error))
    finally:
        stop_servers(home, say=lambda _: None)


def lend_jars(home: Path, kept: Path) -> None:
    """Put Kafka's jars where `home` looks for them; raises ProgramsMissing if out of reach."""
    if shutil.which("mvn") is None and not kafka.jars_folder(kept).exists():
        return
    kafka.fetch_jars(kept)
    os.environ.setdefault("KAFKA_OPTS", KAFKA_OPTS)
    servers = home / "servers"
    servers.mkdir(mode=0o700)
    shutil.copytree(kafka.jars_folder(kept), kafka.jars_folder(servers))


@contextlib.contextmanager
def server(
    variable: str, contained: Callable[[], Iterator[str]], part: str, home: Path, kept: Path
) -> Iterator[str]:
    """Yield the URL of a server of one part by the first way that there is."""
    if told := os.environ.get(variable):
        yield told
    elif docker_answers():
        with contextlib.contextmanager(contained)() as url:
            yield url
    else:
        with native(part, home, kept) as url:
            yield url


def kafka_container() -> Iterator[str]:
    """A broker in a container, with the settings of docker-compose.yml, as HOST:PORT."""
    from testcontainers.core.container import DockerContainer

    port = free_port()
    wanted = DockerContainer(KAFKA_IMAGE).with_bind_ports(9092, port)
    with wanted.with_envs(**kafka_environment(port)):
        until(lambda: _broker_serves(port), lambda: "the broker in a container does not serve")
        yield f"127.0.0.1:{port}"


def kafka_environment(port: int) -> dict[str, str]:
    """The settings of a broker that others than its container reach at a port of this machine."""
    import yaml

    compose = yaml.safe_load(COMPOSE.read_text())
    told: dict[str, str] = compose["services"]["kafka"]["environment"]
    outside = f"INSIDE://localhost:19092,OUTSIDE://127.0.0.1:{port}"
    return told | {"CLUSTER_ID": CLUSTER_ID, "KAFKA_ADVERTISED_LISTENERS": outside}


def _broker_serves(port: int) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return bool(describe(port, timeout_s=5.0).brokers)
    return False


def redis_container() -> Iterator[str]:
    """Redis in a container, as a URL."""
    from testcontainers.community.redis import RedisContainer

    with RedisContainer(REDIS_IMAGE) as container:
        host, port = container.get_container_host_ip(), container.get_exposed_port(6379)
        yield f"redis://{host}:{port}/0"


def postgres_container() -> Iterator[str]:
    """PostgreSQL with TimescaleDB in a container, as a URL."""
    from testcontainers.community.postgres import PostgresContainer

    with PostgresContainer(POSTGRES_IMAGE, driver=None) as container:
        yield container.get_connection_url()
