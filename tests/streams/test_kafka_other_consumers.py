"""What is in Kafka can be read with what everybody uses: kcat, and Kafka's console consumer."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.servers import kafka
from schemas.envelope import Record
from tests.streams.kafka_homes import KafkaHome, home
from tests.streams.log_contract import whole
from tests.streams.test_kafka_bad_records import Follower, cash

__all__ = ["home"]

_TOOLS = "org.apache.kafka:kafka-tools:4.3.0"
_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
_PATIENCE_S = 300

Show = Callable[[Record], str]


def kcat(home: KafkaHome, count: int, cache: pytest.Cache) -> list[str]:
    program = shutil.which("kcat") or shutil.which("kafkacat")
    if program is None:
        pytest.skip("kcat is not on the PATH")
    reads = ["-C", "-q", "-e", "-o", "beginning", "-c", str(count), "-f", r"%p %o %k %s\n"]
    return [program, "-b", home.hosts, "-t", home.topic(), *reads]


def console_consumer(home: KafkaHome, count: int, cache: pytest.Cache) -> list[str]:
    jars = kafka.jars_folder(cache.mkdir("kafka"))
    java = shutil.which("java")
    if java is None or not jars.exists():
        pytest.skip("Kafka does not run natively here: Java and its jars are not there")
    told = ["--bootstrap-server", home.hosts, "--topic", home.topic(), "--from-beginning"]
    for name in ("print.partition", "print.offset", "print.key"):
        told += ["--formatter-property", f"{name}=true"]
    path = f"{_tools(cache.mkdir('kafka-tools'))}/*:{jars}:{jars}/*"
    return [java, "-cp", path, _CONSUMER, *told, "--max-messages", str(count)]


def _tools(folder: Path) -> Path:
    """Kafka's command line tools, which no broker needs; skips where they cannot be had."""
    if not any(folder.glob("*.jar")):
        maven = shutil.which("mvn")
        if maven is None:
            pytest.skip("Maven, which brings Kafka's tools, is not on the PATH")
        goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
        told = [f"-Dartifact={_TOOLS}", f"-DoutputDirectory={folder}"]
        command = [maven, "--batch-mode", "--quiet", "--strict-checksums", goal, *told]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"Kafka's tools are out of reach: {done.stdout[-500:]}")
    return folder


def by_kcat(record: Record) -> str:
    return f"{record.partition} {record.offset} {record.key or ''} {record.value.decode()}"


def by_console_consumer(record: Record) -> str:
    place = f"Partition:{record.partition}\tOffset:{record.offset}"
    return f"{place}\t{record.key or 'null'}\t{record.value.decode()}"


@pytest.mark.parametrize(
    ("command", "shown"),
    [(kcat, by_kcat), (console_consumer, by_console_consumer)],
    ids=["kcat", "console-consumer"],
)
def test_events_are_read_by_other_consumers(
    command: Callable[..., list[str]], shown: Show, home: KafkaHome, request: pytest.FixtureRequest
) -> None:
    log = home.open()
    follower = Follower(log)
    follower.owner.take()
    follower.owner.write([cash(f"é{number}") for number in range(5)])
    records = [record for partition in range(2) for record in whole(log, partition)]
    asked = command(home, len(records), request.config.cache)
    done = subprocess.run(asked, capture_output=True, timeout=_PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(done.stdout.decode().splitlines()) == sorted(map(shown, records))
