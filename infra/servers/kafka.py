"""A Kafka broker in KRaft mode, alone or one of three, run from Kafka's jars by Java.

Every broker is a controller too. All paths in its configuration are relative to its folder, so
that no name of a home can be taken for a separator of Java's or Kafka's.
"""

import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from infra.errors import ServerUnavailable
from infra.servers.kafka_probe import describe
from infra.servers.ownership import give_tree, run_as_owner, write_owned
from infra.servers.server import Lack, ProgramsMissing

PART: Final = "Kafka"
_SOURCES: Final = Path(__file__).resolve().parents[1] / "kafka"
_JAVA_MAJOR: Final = 17
_HEAP: Final = ("-Xms128m", "-Xmx512m")
# Java's second compiler takes a core for half a minute, of the few that all servers share here.
_ONE_COMPILER: Final = ("-XX:TieredStopAtLevel=1",)
_SHORT_RUN: Final = (*_ONE_COMPILER, "-XX:+UseSerialGC", "-Xmx128m")
_PROBE_TIMEOUT_S: Final = 2.0
# Never more than a broker of this size has use for; every partition costs open files.
_INTERNAL_PARTITIONS: Final = 4


class KafkaBroker(msgspec.Struct, frozen=True):
    """Broker `number` (from 1) of a cluster; ports are by broker, in order."""

    folder: Path
    number: int
    cluster_id: str
    ports: tuple[int, ...]
    controller_ports: tuple[int, ...]

    @property
    def name(self) -> str:
        """What people call it; also the name of its folder."""
        return f"kafka-{self.number}"

    @property
    def port(self) -> int:
        """The loopback port that clients connect to."""
        return self.ports[self.number - 1]

    @property
    def stop_signal(self) -> signal.Signals:
        """The signal that ends it in good order."""
        return signal.SIGTERM

    def lacks(self) -> Sequence[Lack]:
        """Return what has to be installed: Java, and Maven until the jars are here."""
        lacks = [] if (reason := _java_lack()) is None else [Lack(PART, reason, _JAVA_PACKAGE)]
        if not self._jars.exists() and shutil.which("mvn") is None:
            reason = "Maven (the program mvn), which brings Kafka's jars, is not on the PATH"
            lacks.append(Lack(PART, reason, "maven"))
        return lacks

    def prepare(self, lock: int) -> None:
        """Write the configuration, and format the data folder where there is none."""
        lines = "".join(f"{name}={value}\n" for name, value in self._settings().items())
        write_owned(self.folder / "server.properties", lines.encode())
        if (self.folder / "data" / "meta.properties").exists():
            return
        words = [*_SHORT_RUN, "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        words += ["--cluster-id", self.cluster_id, "--config", "server.properties"]
        with run_as_owner([*self._java(), *words], self.folder, pass_fds=(lock,)) as formatting:
            said, _ = formatting.communicate()
        if formatting.returncode != 0:
            reason = f"its storage could not be formatted: {_end_of(said)}"
            raise ServerUnavailable(PART, reason, f"see {self.folder}")

    def command(self) -> Sequence[str]:
        """Return the command that runs it in the foreground, from its folder.

        Java gets what KAFKA_OPTS says last, as from Kafka's own scripts.
        """
        told = shlex.split(os.environ.get("KAFKA_OPTS", ""))
        return [*self._java(), *_HEAP, *_ONE_COMPILER, *told, "kafka.Kafka", "server.properties"]

    def complaint(self) -> str | None:
        """Ask it for its cluster; well is a broker that lists itself and all others."""
        try:
            view = describe(self.port, _PROBE_TIMEOUT_S)
        except (OSError, ValueError) as error:
            return f"no answer on port {self.port}: {error}"
        if view.cluster_id != self.cluster_id:
            return f"port {self.port} answers for another cluster, {view.cluster_id}"
        if view.brokers.get(self.number) != self.port:
            return "not serving yet"
        missing = sorted(set(range(1, len(self.ports) + 1)) - set(view.brokers))
        return f"does not see broker {', '.join(map(str, missing))}" if missing else None

    @property
    def _jars(self) -> Path:
        return jars_folder(self.folder.parent)

    def _java(self) -> list[str]:
        jars = f"../{self._jars.name}"
        # The folder itself is for log4j2.xml, which the broker looks for on its class path.
        return [_java_program() or "java", "-cp", f"{jars}:{jars}/*"]

    def _settings(self) -> dict[str, str | int]:
        brokers = len(self.ports)
        own_controller = self.controller_ports[self.number - 1]
        voters = [f"{n}@127.0.0.1:{port}" for n, port in enumerate(self.controller_ports, 1)]
        return {
            "process.roles": "broker,controller",
            "node.id": self.number,
            "controller.quorum.voters": ",".join(voters),
            "listeners": f"LOCAL://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{own_controller}",
            "advertised.listeners": f"LOCAL://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "LOCAL",
            "listener.security.protocol.map": "LOCAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": "data",
            "default.replication.factor": brokers,
            "min.insync.replicas": 2 if brokers > 1 else 1,
            "offsets.topic.replication.factor": brokers,
            "offsets.topic.num.partitions": _INTERNAL_PARTITIONS,
            "transaction.state.log.replication.factor": brokers,
            "transaction.state.log.min.isr": 2 if brokers > 1 else 1,
            "transaction.state.log.num.partitions": _INTERNAL_PARTITIONS,
            "share.coordinator.state.topic.replication.factor": brokers,
            "share.coordinator.state.topic.min.isr": 2 if brokers > 1 else 1,
            "unclean.leader.election.enable": "false",
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": 0,
            # An owner of a partition that died is replaced after the session timeout.
            "group.min.session.timeout.ms": 1000,
        }


def jars_folder(servers: Path) -> Path:
    """Return where the jars of this version are kept, be they there or not."""
    sources = b"".join((_SOURCES / name).read_bytes() for name in ("pom.xml", "log4j2.xml"))
    return servers / f"kafka-jars-{hashlib.sha256(sources).hexdigest()[:12]}"


def fetch_jars(servers: Path) -> None:
    """Have Maven bring Kafka's jars (43 MB) into the folder of the servers, where not there yet.

    Checksums are Maven's to check, and a wrong one fails. Raises ServerUnavailable.
    """
    folder = jars_folder(servers)
    if folder.exists():
        return
    scratch = Path(tempfile.mkdtemp(prefix="fetching-", dir=servers))
    try:
        command = ["mvn", "--batch-mode", "--quiet", "--strict-checksums"]
        command += ["--file", str(_SOURCES / "pom.xml"), "dependency:copy-dependencies"]
        done = subprocess.run(
            [*command, f"-DoutputDirectory={scratch}"], capture_output=True, check=False
        )
        if done.returncode != 0:
            reason = f"Maven could not bring its jars: {_end_of(done.stdout + done.stderr)}"
            raise ProgramsMissing(PART, reason, "see that repo.maven.apache.org can be reached")
        shutil.copyfile(_SOURCES / "log4j2.xml", scratch / "log4j2.xml")
        scratch.chmod(0o755)  # it is nobody's secret, and homes may share it
        give_tree(scratch)
        if not folder.exists():
            scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


_JAVA_PACKAGE: Final = "openjdk-17-jre-headless"


def _java_program() -> str | None:
    home = os.environ.get("JAVA_HOME")
    if home and (program := shutil.which("java", path=str(Path(home, "bin")))):
        return program
    return shutil.which("java")


def _java_lack() -> str | None:
    program = _java_program()
    if program is None:
        return f"Java {_JAVA_MAJOR} or newer (the program java) is not on the PATH"
    told = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', told.stderr)
    if version is None:
        return f"{program} does not tell its version: {_end_of(told.stderr.encode())}"
    if int(version[1]) < _JAVA_MAJOR:
        return f"{program} is Java {version[1]}, and Kafka needs {_JAVA_MAJOR} or newer"
    return None


def _end_of(output: bytes) -> str:
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines()]
    return " | ".join([line for line in lines if line][-3:]) or "it said nothing"
