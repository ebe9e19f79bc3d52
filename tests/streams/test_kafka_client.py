"""Where Kafka is and how to prove oneself to it: what is read from URLs and the environment."""

import ssl
from pathlib import Path

import pytest

from infra.errors import SettingsError
from streams.kafka_client import KafkaPlace, Security, parse_place


def test_a_url_names_brokers_and_namespace() -> None:
    place = parse_place("kafka://a.example:9092,10.0.0.2:9093/desk.one", environ={})
    assert place == KafkaPlace("a.example:9092,10.0.0.2:9093", "desk.one", Security())
    options = place.client_options()
    assert options["bootstrap_servers"] == ["a.example:9092", "10.0.0.2:9093"]
    assert (options["security_protocol"], options["ssl_context"]) == ("PLAINTEXT", None)


def test_hosts_alone_go_with_a_namespace() -> None:
    assert parse_place("h:1", "ns", environ={}) == KafkaPlace("h:1", "ns")


@pytest.mark.parametrize(
    "url",
    [
        "kafka://h/ns",
        "kafka://h:1",
        "kafka://h:1/",
        "kafka:///ns",
        "kafka://h:1/a b",
        "kafka://h:1,/n",
    ],
)
def test_a_url_that_says_too_little_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="log_url"):
        parse_place(url, environ={})


def test_options_come_from_the_url_and_the_environment() -> None:
    environ = {
        "DAYBOOK_KAFKA_SASL_USERNAME": "ann",
        "DAYBOOK_KAFKA_SASL_PASSWORD": "from the environment",
        "DAYBOOK_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    }
    url = "kafka://h:1/ns?sasl_mechanism=SCRAM-SHA-512&sasl_password=p%26w"
    place = parse_place(url, environ=environ)
    options = place.client_options()
    assert options["security_protocol"] == "SASL_PLAINTEXT"
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("ann", "p&w")
    assert "p&w" not in repr(place)


def test_tls_checks_the_brokers_name() -> None:
    options = parse_place("kafka://h:1/ns?security_protocol=SSL", environ={}).client_options()
    context = options["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("security_protocol=TLS", "security_protocol"),
        ("security_protocol=SASL_SSL&sasl_mechanism=MD5", "sasl_mechanism"),
        ("security_protocol=SASL_SSL", "sasl_username"),
        ("security_protocol=SASL_SSL&sasl_username=ann", "sasl_password"),
        ("colour=blue", "colour"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(query: str, field: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_place(f"kafka://h:1/ns?{query}", environ={})
    assert field in refused.value.field


def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    place = parse_place(f"kafka://h:1/ns?security_protocol=SSL&ssl_cafile={missing}", environ={})
    with pytest.raises(SettingsError, match=r"ca\.pem"):
        place.client_options()
