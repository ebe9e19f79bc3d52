"""Why a broker that is there does not let this client in, in words.

aiokafka logs what each broker answered and raises only that none could be used. So who could not
connect asks once more, by itself, and looks at the answer.
"""

import asyncio
import ssl
from typing import Any, Final

from aiokafka import errors  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]
from aiokafka.conn import collect_hosts, create_conn  # type: ignore[import-untyped]
from aiokafka.protocol.metadata import MetadataRequest  # type: ignore[import-untyped]

from infra.errors import ServerUnavailable
from streams.kafka_client import ENVIRONMENT_PREFIX, PART, KafkaPlace, Security

_PATIENCE_MS: Final = 5_000
# A TLS alert begins with these two bytes; read as Kafka, they begin the length of an answer.
_TLS_ALERT: Final = 0x1503
_NAME_DIFFERS: Final = (62, 64)
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""


async def start(admin: AIOKafkaAdminClient, place: KafkaPlace) -> None:
    """Connect; raises ServerUnavailable with a broker's reason for not letting this client in."""
    try:
        await admin.start()
    except errors.KafkaConnectionError:
        await _explain(place)
        raise


async def _explain(place: KafkaPlace) -> None:
    """Raise ServerUnavailable with the reason of the first broker that gives one, if any does."""
    options = place.client_options()
    for host, port, _ in collect_hosts(options.pop("bootstrap_servers")):
        error = await _answer(host, port, options)
        told = None if error is None else _reason(place.security, error)
        if told is not None:
            reason, hint = told
            raise ServerUnavailable(PART, f"{host}:{port} {reason}", hint) from error


async def _answer(host: str, port: int, options: dict[str, Any]) -> BaseException | None:
    """Return what goes wrong with one broker, as near to its cause as is known."""
    try:
        async with asyncio.timeout(_PATIENCE_MS / 1000):
            connection = await create_conn(host, port, request_timeout_ms=_PATIENCE_MS, **options)
            try:
                await connection.send(MetadataRequest([]))
            finally:
                connection.close()
    except (errors.KafkaError, OSError, TimeoutError) as error:
        cause: BaseException | None = error.__cause__
        return cause or error
    return None


def _reason(told: Security, error: BaseException) -> tuple[str, str] | None:
    """Return what a broker's answer means, and what to look at."""
    mechanism = _setting("sasl_mechanism")
    protocol = f"{_setting('security_protocol')}, which is {told.security_protocol}"
    match error:
        case ssl.SSLCertVerificationError():
            reason = f"has a certificate that is not to be trusted: {error.verify_message}"
            if error.verify_code in _NAME_DIFFERS:
                return reason, "name the brokers in the URL as their certificates do"
            trusted = told.ssl_cafile or "those of this system"
            return reason, f"trusted are {trusted}; see {_setting('ssl_cafile')}"
        case ssl.SSLError() if "ALERT" in (error.reason or ""):
            files = f"{_setting('ssl_certfile')} and {_setting('ssl_keyfile')}"
            return f"refuses this client's certificate, or its lack: {error.reason}", f"see {files}"
        case ssl.SSLError() | ConnectionResetError() if "SSL" in told.security_protocol:
            return "does not speak TLS", f"see {protocol}"
        case asyncio.IncompleteReadError() if (error.expected or 0) >> 16 == _TLS_ALERT:
            return "speaks TLS", f"see {protocol}"
        case asyncio.IncompleteReadError():
            return "closes the connection without an answer: does it want a password?", (
                f"see {protocol}"
            )
        case errors.SaslAuthenticationFailed():
            user = f"{_setting('sasl_username')} and {_setting('sasl_password')}"
            return f"refuses the user {told.sasl_username!r}: {error.args[0]}", f"see {user}"
        case errors.UnsupportedSaslMechanismError():
            return f"takes no password by {told.sasl_mechanism}", f"see {mechanism}"
        case errors.IllegalSaslStateError():
            return "asks for no password", f"see {protocol}"
        case _:
            return None


def _setting(option: str) -> str:
    return ENVIRONMENT_PREFIX + option.upper()
