"""The native servers, for real: started, used, killed, moved and stopped by the commands."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import aiokafka
import psycopg
import pytest
import redis
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from api.cli.infra import _in_containers
from infra.errors import ServerUnavailable, SettingsError
from infra.servers import postgres
from infra.servers.choices import new_choices, store_choices
from infra.servers.native import Health, look_at_servers, start_servers, stop_servers
from infra.servers.processes import identified
from infra.servers.server import ProgramsMissing
from tests.beside import beside
from tests.servers import docker_answers, lend_jars

ROOT = Path(__file__).resolve().parents[2]
TOPIC = "kept"


def silent(_: str) -> None:
    pass


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home of its own, whose servers are stopped afterwards whatever happened."""
    place = tmp_path / "home, with: awkward = name"
    place.mkdir()
    yield place
    stop_servers(place, say=silent)


@pytest.fixture
def kafka_home(home: Path, request: pytest.FixtureRequest) -> Path:
    """A home that has Kafka's jars already."""
    try:
        lend_jars(home, request.config.cache.mkdir("kafka"))
    except ProgramsMissing as error:
        pytest.skip(str(error))
    return home


def daybook(home: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as people do."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("DAYBOOK_")}
    return subprocess.run(
        [sys.executable, "-m", "api.cli.main", "--home", str(home), "infra", *words],
        cwd=ROOT,
        env={**env, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def start(home: Path, parts: list[str], **options: int) -> dict[str, Health]:
    """Start parts and return how they are; skips where a program is missing."""
    try:
        start_servers(home, parts=parts, say=silent, **options)
    except ProgramsMissing as error:
        pytest.skip(str(error))
    return health(home)


def health(home: Path) -> dict[str, Health]:
    return {server.name: server for server in look_at_servers(home).servers}


def bootstrap(urls: dict[str, str]) -> str:
    return urls["DAYBOOK_LOG_URL"].removeprefix("kafka://").removesuffix("/daybook")


async def make_topic(brokers: str, replicas: int) -> int:
    """Make the topic of one partition; return the broker that leads it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, 1, replicas)])
        while True:
            (topic,) = await admin.describe_topics([TOPIC])
            if topic["partitions"] and (leader := topic["partitions"][0]["leader"]) > 0:
                return int(leader)
    finally:
        await admin.close()


async def settings_of_broker_1(brokers: str) -> dict[str, str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        asked = ConfigResource(ConfigResourceType.BROKER, "1")
        (answer,) = await admin.describe_configs([asked])
        return {entry[0]: entry[1] for entry in answer.resources[0][4]}
    finally:
        await admin.close()


async def put(brokers: str, value: bytes) -> None:
    async with aiokafka.AIOKafkaProducer(
        bootstrap_servers=brokers, acks="all", enable_idempotence=True
    ) as producer:
        await producer.send_and_wait(TOPIC, value)


async def first(brokers: str) -> bytes | None:
    async with aiokafka.AIOKafkaConsumer(
        TOPIC, bootstrap_servers=brokers, auto_offset_reset="earliest"
    ) as consumer:
        record = await asyncio.wait_for(consumer.getone(), timeout=60)
    value: bytes | None = record.value
    return value


@contextlib.contextmanager
def occupied(*ports: int) -> Iterator[None]:
    """Listen on ports as somebody else would."""
    with contextlib.ExitStack() as stack:
        for port in ports:
            listener = stack.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen()
        yield


def test_all_come_up_are_used_go_down_and_come_back_with_their_data(kafka_home: Path) -> None:
    home = kafka_home
    up = daybook(home, "up", "--native")
    if up.returncode == 3 and "apt-get install" in up.stderr:
        pytest.skip(up.stderr)
    assert up.returncode == 0, up.stderr
    urls: dict[str, str] = json.loads(daybook(home, "status", "--json").stdout)
    assert set(urls) == {"DAYBOOK_LOG_URL", "DAYBOOK_STORE_URL", "DAYBOOK_CACHE_URL"}
    assert all(f"export {name}={url}\n" in up.stdout for name, url in urls.items())
    before = health(home)
    assert set(before) == {"kafka-1", "redis", "postgres"}

    asyncio.run(make_topic(bootstrap(urls), 1))
    asyncio.run(put(bootstrap(urls), b"still here"))
    with redis.Redis.from_url(urls["DAYBOOK_CACHE_URL"]) as cache:
        cache.set("kept", "still here")
    with psycopg.connect(urls["DAYBOOK_STORE_URL"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 'still here' AS word")

    again = daybook(home, "up", "--native")
    assert (again.returncode, again.stderr) == (0, "")
    assert health(home) == before

    down = daybook(home, "down")
    assert down.returncode == 0, down.stderr
    assert [identified(server.pid or 0) for server in before.values()] == [None, None, None]
    status = daybook(home, "status", "--json")
    assert (status.returncode, status.stdout) == (0, "{}\n")

    chosen = json.loads((home / "servers" / "servers.json").read_bytes())["ports"]
    with occupied(chosen["kafka-1-controller"], chosen["redis"]):
        moved = daybook(home, "up", "--native")
        assert moved.returncode == 0, moved.stderr
        assert f"port {chosen['redis']} of redis is taken" in moved.stderr
        told = look_at_servers(home).urls
        assert told["DAYBOOK_STORE_URL"] == urls["DAYBOOK_STORE_URL"]
        assert told["DAYBOOK_LOG_URL"] == urls["DAYBOOK_LOG_URL"]
        assert told["DAYBOOK_CACHE_URL"] != urls["DAYBOOK_CACHE_URL"]
        assert asyncio.run(first(bootstrap(told))) == b"still here"
        with redis.Redis.from_url(told["DAYBOOK_CACHE_URL"]) as cache:
            assert cache.get("kept") == b"still here"
        with psycopg.connect(told["DAYBOOK_STORE_URL"]) as connection:
            assert connection.execute("SELECT word FROM kept").fetchone() == ("still here",)


def test_one_of_three_brokers_is_killed_and_brought_back(kafka_home: Path) -> None:
    before = start(kafka_home, ["kafka"], brokers=3)
    assert [server.complaint for server in before.values()] == [None, None, None]
    urls = look_at_servers(kafka_home).urls
    leader = asyncio.run(make_topic(bootstrap(urls), 3))
    settings = asyncio.run(settings_of_broker_1(bootstrap(urls)))
    expected = {
        "min.insync.replicas": "2",
        "default.replication.factor": "3",
        "unclean.leader.election.enable": "false",
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "3",
        "transaction.state.log.replication.factor": "3",
        "group.min.session.timeout.ms": "1000",
        "group.initial.rebalance.delay.ms": "0",
    }
    assert {name: settings[name] for name in expected} == expected

    # Not the leader: the others take its part only when its session has timed out.
    victim, other = (f"kafka-{number}" for number in range(1, 4) if number != leader)
    killed = before[victim].pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    asyncio.run(put(bootstrap(urls), b"with two of three"))
    assert (health(kafka_home)[victim].complaint or "").startswith("it has died")
    assert daybook(kafka_home, "status").returncode == 1

    after = start(kafka_home, ["kafka"])
    assert [server.complaint for server in after.values()] == [None, None, None]
    assert after[victim].pid != killed
    assert after[other] == before[other]
    assert look_at_servers(kafka_home).urls == urls
    assert asyncio.run(first(f"127.0.0.1:{after[victim].port}")) == b"with two of three"
    with pytest.raises(SettingsError, match="--brokers is '1'; expected 3"):
        start_servers(kafka_home, brokers=1, say=silent)


def test_what_is_missing_is_said_with_the_way_to_get_it(home: Path, tmp_path: Path) -> None:
    up = daybook(home, "up", "--native", PATH=str(tmp_path / "nothing"), JAVA_HOME="")
    assert up.returncode == 3
    assert "Java 17 or newer (the program java) is not on the PATH" in up.stderr
    assert "Maven" in up.stderr
    assert "the program redis-server is not on the PATH" in up.stderr
    assert "apt-get install openjdk-17-jre-headless maven redis-server" in up.stderr
    assert health(home) == {}


def test_a_java_that_is_too_old_is_named(home: Path, tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    up = daybook(home, "up", "--native", PATH=str(tmp_path), JAVA_HOME="")
    assert up.returncode == 3
    assert f"{java} is Java 11, and Kafka needs 17 or newer" in up.stderr


def test_a_home_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "servers").write_text("a file in the way")
    status = daybook(tmp_path, "status")
    assert status.returncode == 3
    assert "servers" in status.stderr
    assert "Not a directory" in status.stderr


def test_two_commands_at_once_start_one_server(home: Path) -> None:
    start(home, ["redis"])
    stop_servers(home, say=silent)
    said: list[str] = []
    with beside(*[partial(start_servers, home, parts=["redis"], say=said.append)] * 3):
        pass
    assert len(said) == 1
    assert health(home)["redis"].complaint is None


def test_a_server_that_hangs_is_not_well(home: Path) -> None:
    pid = start(home, ["redis"])["redis"].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        status = daybook(home, "status")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert status.returncode == 1
    assert "no answer on port" in status.stdout


def test_a_server_that_does_not_start_says_why(home: Path) -> None:
    start(home, ["redis"])
    stop_servers(home, say=silent)
    (home / "servers" / "redis" / "data" / "dump.rdb").write_bytes(b"not a dump")
    with pytest.raises(ServerUnavailable, match=r"redis is not available: it ended.*server\.log"):
        start_servers(home, parts=["redis"], say=silent)


def test_redis_and_postgres_want_their_password(home: Path) -> None:
    servers = start(home, ["redis", "postgres"])
    with (
        redis.Redis(port=servers["redis"].port) as cache,
        pytest.raises(redis.AuthenticationError),
    ):
        cache.ping()
    url = f"postgresql://daybook@127.0.0.1:{servers['postgres'].port}/daybook"
    with pytest.raises(psycopg.OperationalError, match="no password"):
        psycopg.connect(url, passfile="/nonexistent")


@pytest.fixture
def only_the_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """Take every PostgreSQL away but the one that came with the Python packages."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(postgres, "_DEBIAN", tmp_path / "nothing")
    return monkeypatch.undo


def test_postgres_comes_from_the_wheel_and_data_stay_with_their_version(
    home: Path, only_the_wheel: Callable[[], None]
) -> None:
    start(home, ["postgres"])
    version = (home / "servers" / "postgres" / "data" / "PG_VERSION").read_text().strip()
    assert version == "18"
    url = look_at_servers(home).urls["DAYBOOK_STORE_URL"]
    stop_servers(home, say=silent)
    only_the_wheel()
    start(home, ["postgres"])
    with psycopg.connect(url) as connection:
        assert connection.info.server_version // 10_000 == 18
    os.kill(health(home)["postgres"].pid or 0, signal.SIGKILL)
    assert start(home, ["postgres"])["postgres"].complaint is None


def test_data_of_a_postgres_that_is_not_here_are_left_alone(home: Path) -> None:
    start(home, ["postgres"])
    stop_servers(home, say=silent)
    (home / "servers" / "postgres" / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(ProgramsMissing, match=r"made by PostgreSQL 9, .*postgresql-9"):
        start_servers(home, parts=["postgres"], say=silent)


def test_containers_need_a_daemon(home: Path) -> None:
    if docker_answers():
        pytest.skip("a Docker daemon answers here")
    up = daybook(home, "up", "--docker")
    assert up.returncode == 3
    assert "no Docker daemon answers" in up.stderr
    assert "--native" in up.stderr


def fake_docker(folder: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Put a `docker` on the path that answers everything with an exit status."""
    folder.mkdir(exist_ok=True)
    program = folder / "docker"
    program.write_text(f"#!/bin/sh\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def begin_in_containers(home: Path) -> None:
    """Leave what a home has whose servers are containers."""
    folder = home / "servers" / "containers"
    folder.mkdir(parents=True)
    store_choices(folder, new_choices(1))


def test_three_brokers_are_processes_where_nobody_asks_for_containers(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_docker(tmp_path / "bin", monkeypatch, 0)
    assert _in_containers(home, None, native=False, docker=False)
    assert _in_containers(home, 1, native=False, docker=False)
    assert not _in_containers(home, 3, native=False, docker=False)
    assert _in_containers(home, 3, native=False, docker=True)
    begin_in_containers(home)
    assert _in_containers(home, 3, native=False, docker=False), "and refused for what it began with"


def test_containers_that_nobody_can_reach_are_not_said_to_be_down(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_docker(tmp_path / "bin", monkeypatch, 1)
    begin_in_containers(home)
    for words in (["down"], ["status"], ["status", "--json"]):
        done = daybook(home, *words)
        assert done.returncode == 3, done
        assert "no Docker daemon answers" in done.stderr
        assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--brokers", "2"], "--brokers is '2'; expected 1 or 3"),
        (["--native", "--docker"], "expected one of the two"),
        (["--docker", "--brokers", "3"], "expected 1 in containers"),
    ],
)
def test_wrong_options_are_refused(home: Path, words: list[str], message: str) -> None:
    up = daybook(home, "up", *words)
    assert up.returncode == 2
    assert message in up.stderr


@pytest.mark.skipif(not docker_answers(), reason="no Docker daemon answers here")
def test_containers_come_up_and_go_down(home: Path) -> None:
    assert daybook(home, "up", "--docker").returncode == 0
    try:
        urls = json.loads(daybook(home, "status", "--json").stdout)
        with redis.Redis.from_url(urls["DAYBOOK_CACHE_URL"]) as cache:
            assert cache.ping()
    finally:
        assert daybook(home, "down").returncode == 0
