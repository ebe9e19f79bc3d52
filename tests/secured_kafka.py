"""A broker that speaks TLS: with passwords on one port, with client certificates on another.

Its authority is made at run time. The certificate is for 127.0.0.1, and for no name.
"""

import contextlib
import datetime
import ipaddress
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec import Struct

from infra.servers.choices import new_choices, with_ports
from infra.servers.kafka import KafkaBroker
from infra.servers.server import ProgramsMissing
from tests.servers import KAFKA_OPTS, lend_jars
from tests.waiting import until

USER, PASSWORD = "ledger", "p&w%+/#1"


class Authority:
    """Who signs certificates, and the folder where they are kept in PEM."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        made = self._begun(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(_pem(made.sign(self._key, hashes.SHA256())))

    def _begun(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
        builder = x509.CertificateBuilder(self._name, subject, key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - day).not_valid_after(now + day)

    def issue(self, name: str, password: bytes | None = None) -> tuple[Path, Path]:
        """Make a certificate; return its file and that of its key, each also in `NAME-both.pem`."""
        key = ec.generate_private_key(ec.SECP256R1())
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = self._begun(_named(name), key)
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        locked = (
            serialization.NoEncryption()
            if password is None
            else serialization.BestAvailableEncryption(password)
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked
        )
        public = _pem(builder.sign(self._key, hashes.SHA256()))
        files = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        files[0].write_bytes(public)
        files[1].write_bytes(private)
        (self._folder / f"{name}-both.pem").write_bytes(private + public)
        return files


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


class SecuredBroker(KafkaBroker, frozen=True):
    """The native broker with two more ports: SASL over TLS, and TLS with client certificates."""

    sasl_port: int
    mutual_port: int

    def _settings(self) -> dict[str, str | int]:
        told = super()._settings()
        more = f",SASL://127.0.0.1:{self.sasl_port},MUTUAL://127.0.0.1:{self.mutual_port}"
        protocols = f"{told['listener.security.protocol.map']},SASL:SASL_SSL,MUTUAL:SSL"
        modules = "org.apache.kafka.common.security"
        return told | {
            "listeners": f"{told['listeners']}{more}",
            "advertised.listeners": f"{told['advertised.listeners']}{more}",
            "listener.security.protocol.map": protocols,
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": "broker-both.pem",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": "authority.pem",
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
            "listener.name.sasl.plain.sasl.jaas.config": f"{modules}.plain.PlainLoginModule"
            f' required user_{USER}="{PASSWORD}";',
            "listener.name.sasl.scram-sha-256.sasl.jaas.config": f"{modules}.scram.ScramLoginModule"
            " required;",
        }

    def format(self) -> None:
        """Make its storage, with the user who may log in by SCRAM."""
        lines = (f"{name}={value}\n" for name, value in self._settings().items())
        (self.folder / "server.properties").write_text("".join(lines))
        scram = f"SCRAM-SHA-256=[name={USER},password={PASSWORD},iterations=4096]"
        words = ["kafka.tools.StorageTool", "format", "--config", "server.properties"]
        words += ["--cluster-id", self.cluster_id, "--add-scram", scram]
        command = [*self._java(), KAFKA_OPTS, "-XX:+UseSerialGC", *words]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)


class Secured(Struct, frozen=True):
    """Where the broker is, in which folder its certificates are, and who made them."""

    broker: SecuredBroker
    authority: Authority

    @property
    def folder(self) -> Path:
        return self.broker.folder


@contextlib.contextmanager
def secured_broker(home: Path, kept: Path) -> Iterator[Secured]:
    """Run the broker for the length of a block; skips where Kafka cannot run natively."""
    choices = with_ports(new_choices(1), ("plain", "controller", "sasl", "mutual"))
    ports = choices.ports
    broker = SecuredBroker(
        home / "servers" / "kafka-1",
        1,
        choices.cluster_id,
        (ports["plain"],),
        (ports["controller"],),
        ports["sasl"],
        ports["mutual"],
    )
    try:
        lend_jars(home, kept)
    except ProgramsMissing as error:
        pytest.skip(str(error))
    if lacks := broker.lacks():
        pytest.skip(str(ProgramsMissing.of(lacks)))
    broker.folder.mkdir()
    authority = Authority(broker.folder, "authority")
    authority.issue("broker")
    broker.format()
    with (broker.folder / "server.log").open("wb") as said:
        command = broker.command()
        process = subprocess.Popen(command, cwd=broker.folder, stdout=said, stderr=said)
    try:
        words = partial((broker.folder / "server.log").read_text, errors="replace")
        until(lambda: process.poll() is not None or broker.complaint() is None, words)
        assert process.poll() is None, words()
        yield Secured(broker, authority)
    finally:
        process.kill()
        process.wait()
