"""A broker that wants TLS and passwords, used through the settings; and what those hear that it
does not let in."""

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlencode

import pytest

from infra.errors import ServerUnavailable, SettingsError
from streams.kafka_log import KafkaLog
from tests.api.command_line import CommandLine
from tests.secured_kafka import PASSWORD, USER, Authority, Secured, secured_broker

DEALS = """account,instrument,quantity,price,currency,event_time,deal_id
A1,AAPL,10,101.5,USD,2024-01-02T15:00:00Z,d1
A2,MSFT,5,300,USD,2024-01-03T15:00:00Z,d2
"""
CASH = {
    "command_id": "c1",
    "type": "MoveCash",
    "account": "A1",
    "event_time": "2024-01-05T00:00:00Z",
    "data": {"cash_id": "m1", "kind": "deposit", "amount": "100", "currency": "USD"},
}


@pytest.fixture(scope="module")
def secured(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secured]:
    """A broker that speaks TLS, a client's certificate, and an authority that it does not know."""
    kept = request.config.cache.mkdir("kafka")
    with secured_broker(tmp_path_factory.mktemp("secured"), kept) as running:
        running.authority.issue("client", b"opensesame")
        Authority(running.folder, "stranger")
        url = f"kafka://127.0.0.1:{running.broker.port}/secured"
        KafkaLog.open(url, partitions=2).close()
        yield running


def by_password(secured: Secured, **more: str) -> dict[str, str]:
    """Return the options of a user with a password over TLS."""
    told = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_username": USER,
        "sasl_password": PASSWORD,
        "ssl_cafile": str(secured.authority.file),
    }
    return told | more


def by_certificate(secured: Secured) -> dict[str, str]:
    """Return the options of a client with a certificate, whose key is locked."""
    return {
        "security_protocol": "SSL",
        "ssl_cafile": str(secured.authority.file),
        "ssl_certfile": str(secured.folder / "client.pem"),
        "ssl_keyfile": str(secured.folder / "client.key"),
        "ssl_password": "opensesame",
    }


def environment(options: Mapping[str, str]) -> dict[str, str]:
    return {f"DAYBOOK_KAFKA_{name.upper()}": value for name, value in options.items()}


def test_all_parts_work_over_tls(secured: Secured, tmp_path: Path) -> None:
    """Import, submit, decider, worker and a question, by password and by certificate."""
    at = f"kafka://127.0.0.1:{secured.broker.sasl_port}/secured"
    user = CommandLine(tmp_path, DAYBOOK_LOG_URL=at, **environment(by_password(secured)))
    at = f"kafka://127.0.0.1:{secured.broker.mutual_port}/secured"
    machine = CommandLine(tmp_path, DAYBOOK_LOG_URL=at, **environment(by_certificate(secured)))
    with running(user, "decider"), running(user, "worker"):
        (tmp_path / "deals.csv").write_text(DEALS)
        imported = user("import", "deals.csv", "--json")
        assert (imported.code, imported.json["accepted"]) == (0, 2), imported.err
        submitted = machine("submit", "-", given=json.dumps(CASH))
        assert (submitted.code, submitted.json["status"]) == (0, "accepted"), submitted.err
        rows = user("balances", "--format", "json").json
        assert {row["account"]: row["balance"] for row in rows} == {"A1": "-915.0", "A2": "-1500"}


@contextlib.contextmanager
def running(part: CommandLine, name: str) -> Iterator[None]:
    """Run a service that serves until it is told to end."""
    said = part.folder / f"{name}.log"
    with said.open("w") as stream:
        process = part.start(name, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
    try:
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, said.read_text()
    finally:
        process.kill()
        process.wait()


def test_a_file_of_settings_names_them_too(secured: Secured, tmp_path: Path) -> None:
    options = by_password(secured, sasl_mechanism="PLAIN", ssl_cafile="authority.pem")
    options["log_url"] = (
        f"kafka://127.0.0.1:{secured.broker.sasl_port}/secured?security_protocol=SASL_SSL"
    )
    lines = [
        f"{name if name == 'log_url' else f'kafka_{name}'} = {json.dumps(value)}\n"
        for name, value in options.items()
        if name != "security_protocol"
    ]
    (tmp_path / "daybook.toml").write_text("".join(lines))
    (tmp_path / "authority.pem").write_bytes(secured.authority.file.read_bytes())
    done = CommandLine(tmp_path)("log", "--topic", "prices")
    assert (done.code, "Log" in done.out) == (0, True), done.err
    refused = CommandLine(tmp_path, DAYBOOK_KAFKA_SASL_PASSWORD="another")("log")
    assert refused.code == 3
    assert "refuses the user 'ledger'" in refused.err


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"sasl_password": "another"}, ("refuses the user 'ledger'", "SASL_PASSWORD")),
        (
            {"ssl_cafile": "{folder}/stranger.pem"},
            ("not to be trusted", "stranger.pem", "SSL_CAFILE"),
        ),
        ({"security_protocol": "PLAINTEXT"}, ("speaks TLS", "which is PLAINTEXT")),
    ],
)
def test_who_is_not_let_in_is_told_why(
    secured: Secured, tmp_path: Path, wrong: dict[str, str], words: tuple[str, ...]
) -> None:
    wrong = {name: value.format(folder=secured.folder) for name, value in wrong.items()}
    told = environment(by_password(secured, **wrong))
    url = f"kafka://127.0.0.1:{secured.broker.sasl_port}/refused"
    done = CommandLine(tmp_path, DAYBOOK_LOG_URL=url, **told)("decider")
    assert done.code == 3
    said = done.err.splitlines()[-1]
    at = f"127.0.0.1:{secured.broker.sasl_port}"
    assert said.startswith(f"daybook: the Kafka log is not available: {at} "), done.err
    assert all(word in said for word in words), said
    assert PASSWORD not in done.err


def test_who_would_move_a_log_is_told_too(secured: Secured, daybook: CommandLine) -> None:
    daybook.environment |= environment(by_password(secured, sasl_password="another"))
    done = daybook("migrate-log", f"kafka://127.0.0.1:{secured.broker.sasl_port}/refused")
    assert done.code == 3
    assert "refuses the user 'ledger'" in done.err


SASL, MUTUAL, PLAIN = "sasl", "mutual", "plain"


@pytest.mark.parametrize(
    ("port", "wrong", "words"),
    [
        (SASL, {"sasl_mechanism": "PLAIN", "sasl_password": "another"}, "refuses the user"),
        (SASL, {"sasl_username": "nobody"}, "refuses the user 'nobody'"),
        (SASL, {"sasl_mechanism": "SCRAM-SHA-512"}, "no password by SCRAM-SHA-512"),
        (SASL, {"security_protocol": "SSL"}, "does it want a password"),
        (SASL, {"security_protocol": "SASL_PLAINTEXT"}, "speaks TLS"),
        (MUTUAL, {"security_protocol": "SSL"}, "client's certificate, or its lack"),
        (PLAIN, {}, "does not speak TLS"),
        (PLAIN, {"security_protocol": "SASL_PLAINTEXT"}, "asks for no password"),
    ],
)
def test_every_way_not_to_be_let_in_is_told(
    secured: Secured, port: str, wrong: dict[str, str], words: str
) -> None:
    broker = secured.broker
    number = {SASL: broker.sasl_port, MUTUAL: broker.mutual_port, PLAIN: broker.port}[port]
    query = urlencode(by_password(secured, **wrong))
    with pytest.raises(ServerUnavailable, match=words):
        KafkaLog.open(f"kafka://127.0.0.1:{number}/refused?{query}")


def test_a_broker_by_another_name_is_not_trusted(secured: Secured) -> None:
    url = f"kafka://localhost:{secured.broker.sasl_port}/refused?{urlencode(by_password(secured))}"
    with pytest.raises(ServerUnavailable, match="not valid for 'localhost'"):
        KafkaLog.open(url)


@pytest.mark.parametrize("password", [None, "another"])
def test_a_locked_key_is_not_asked_for_at_the_terminal(
    secured: Secured, password: str | None
) -> None:
    options = by_certificate(secured)
    options.pop("ssl_password")
    query = urlencode(options if password is None else options | {"ssl_password": password})
    with pytest.raises(SettingsError, match=r"client\.key"):
        KafkaLog.open(f"kafka://127.0.0.1:{secured.broker.mutual_port}/refused?{query}")
