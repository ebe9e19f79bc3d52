"""What reaching Kafka takes: where the brokers are, a thread for asyncio, and clear words."""

import asyncio
import contextlib
import hashlib
import logging
import os
import re
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import uvloop
from aiokafka import AIOKafkaProducer, errors  # type: ignore[import-untyped]
from aiokafka.client import AIOKafkaClient  # type: ignore[import-untyped]
from aiokafka.helpers import create_ssl_context  # type: ignore[import-untyped]
from msgspec import Struct

from infra.errors import ServerUnavailable, SettingsError
from infra.settings import redacted
from streams.log import LogError

PART: Final = "the Kafka log"
ENVIRONMENT_PREFIX: Final = "DAYBOOK_KAFKA_"

_HINT: Final = "is a broker running there? `daybook infra status` shows the servers started here"
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PLAIN_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,53}")
_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9_]")
_HOSTS: Final = re.compile(r"[^\s,/?@]+:[0-9]{1,5}(,[^\s,/?@]+:[0-9]{1,5})*")
_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_STOP_S: Final = 15
_CANCEL_S: Final = 0.5

AWAY: Final = (
    errors.KafkaConnectionError,
    errors.KafkaTimeoutError,
    errors.NodeNotReadyError,
    errors.NoBrokersAvailable,
    errors.ProducerClosed,
    errors.StaleMetadata,
)
"""Errors that aiokafka does not call retriable, and that a broker coming back ends."""

T = TypeVar("T")

# It logs each try to reach a broker as an error; what comes of it is raised. Who wants its log adds
# a handler, and nobody gets it on standard error unasked.
logging.getLogger("aiokafka").addHandler(logging.NullHandler())


class Security(Struct, frozen=True, kw_only=True):
    """How a client proves who it is, and how it knows the brokers. Printing hides the passwords."""

    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = None
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_password: str | None = None

    def __repr__(self) -> str:
        return f"Security({self.security_protocol})"


class KafkaPlace(Struct, frozen=True):
    """Which brokers, and the namespace that prefixes everything this log keeps there."""

    hosts: str
    namespace: str
    security: Security = Security()

    @property
    def schema(self) -> str:
        """The schema of the read models: the namespace, where Postgres takes it as a name.

        Else what can be taken of it, with a digest (SHA-256) that keeps two namespaces apart.
        """
        name = self.namespace
        if _PLAIN_NAME.fullmatch(name) and not name.startswith("pg_"):
            return name
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        return f"n_{_NOT_IN_NAMES.sub('_', name.lower())[:48]}_{digest}"

    def client_options(self) -> dict[str, Any]:
        """Return what every client of aiokafka takes; raises SettingsError for unusable files."""
        told = self.security
        return {
            "bootstrap_servers": self.hosts.split(","),
            "client_id": f"daybook-{self.namespace}",
            "security_protocol": told.security_protocol,
            "ssl_context": _ssl_context(told) if "SSL" in told.security_protocol else None,
            "sasl_mechanism": told.sasl_mechanism,
            "sasl_plain_username": told.sasl_username,
            "sasl_plain_password": told.sasl_password,
        }


def parse_place(
    url: str, namespace: str | None = None, environ: Mapping[str, str] | None = None
) -> KafkaPlace:
    """Return where a log is, from `kafka://HOST:PORT,.../NAMESPACE?OPTION=...` or from hosts alone.

    Options are the fields of Security; each can also stand in the environment, as
    DAYBOOK_KAFKA_SASL_PASSWORD; the URL goes first. Raises SettingsError.
    """
    rest, _, query = url.removeprefix("kafka://").partition("?")
    hosts, _, named = rest.partition("/")
    namespace = namespace or named
    if _HOSTS.fullmatch(hosts) is None or _NAMESPACE.fullmatch(namespace) is None:
        expected = "kafka://HOST:PORT[,HOST:PORT...]/NAMESPACE[?OPTION=VALUE...]"
        raise SettingsError("log_url", redacted(url), expected)
    environ = os.environ if environ is None else environ
    told = {
        name: value
        for name in Security.__struct_fields__
        if (value := environ.get(ENVIRONMENT_PREFIX + name.upper()))
    }
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in Security.__struct_fields__:
            known = ", ".join(Security.__struct_fields__)
            raise SettingsError(f"log_url option {name}", redacted(value), f"one of {known}")
        told[name] = value
    return KafkaPlace(hosts, namespace, _checked(Security(**told)))


def _checked(told: Security) -> Security:
    protocol, mechanism = told.security_protocol, told.sasl_mechanism
    if protocol not in _PROTOCOLS:
        raise SettingsError("security_protocol", protocol, f"one of {', '.join(_PROTOCOLS)}")
    if protocol.startswith("SASL"):
        if mechanism not in _MECHANISMS:
            raise SettingsError("sasl_mechanism", mechanism, f"one of {', '.join(_MECHANISMS)}")
        if not told.sasl_username or not told.sasl_password:
            missing = "sasl_password" if told.sasl_username else "sasl_username"
            raise SettingsError(missing, "", f"a value, because security_protocol is {protocol}")
    if told.ssl_keyfile and not told.ssl_certfile:
        raise SettingsError("ssl_certfile", "", f"the certificate of {told.ssl_keyfile}")
    return told


def _ssl_context(told: Security) -> Any:
    try:
        return create_ssl_context(
            cafile=told.ssl_cafile,
            certfile=told.ssl_certfile,
            keyfile=told.ssl_keyfile,
            # Without any, OpenSSL would ask for the password of a locked key at the terminal.
            password=told.ssl_password or "",
        )
    except OSError as error:
        files = ", ".join(filter(None, (told.ssl_cafile, told.ssl_certfile, told.ssl_keyfile)))
        raise SettingsError("ssl files", files, f"readable PEM files: {error}") from error


class LoopThread:
    """An event loop in a thread of its own, for callers that know no asyncio."""

    def __init__(self, name: str) -> None:
        self._turn = threading.Lock()
        self._is_closed = False
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()
        self._loop = self._ready.result()

    def _serve(self) -> None:
        # A runner cancels what is left in its loop when it ends.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            self._ready.set_result(runner.get_loop())
            runner.run(self._end.wait())

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine there; raises LogError once closed."""
        with self._turn:
            if self._is_closed:
                coroutine.close()
                raise LogError("the log is closed")
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine returns; an interrupted wait cancels it."""
        future = self.submit(coroutine)
        try:
            return future.result()
        except CancelledError:
            raise LogError("the log was closed") from None
        except BaseException:
            future.cancel()
            raise

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Run the last coroutine, then end the thread with whatever still runs in it."""
        with self._turn:
            if self._is_closed:
                last.close()
                return
            self._is_closed = True
        try:
            asyncio.run_coroutine_threadsafe(_bounded(last), self._loop).result()
        finally:
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join()


async def _bounded(last: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(TimeoutError, errors.KafkaError):
        await asyncio.wait_for(last, _STOP_S)


async def stop_all(*stops: Callable[[], Awaitable[None]]) -> None:
    """Stop one after the other, all of them whatever becomes of any; raises what the last raised.

    The way to close what was opened half: each may be of something that never started.
    """
    async with contextlib.AsyncExitStack() as stack:
        for stop in reversed(stops):
            stack.push_async_callback(stop)


async def end_producer(producer: AIOKafkaProducer, patience_s: float) -> None:
    """Send what waits for `patience_s`, drop the rest, disconnect: also when it is cut short.

    aiokafka's own stop() waits until every batch is sent. An idempotent producer tries that for
    ever, and a broker that stands still takes no more bytes, for which closing would wait too.
    """
    try:
        with contextlib.suppress(TimeoutError, errors.KafkaError):
            await asyncio.wait_for(producer.flush(), patience_s)
    finally:
        producer._closed = True  # noqa: SLF001 - what stop() would set
        await _end_sender(producer)


async def _end_sender(producer: AIOKafkaProducer) -> None:
    sender = producer._sender.sender_task  # noqa: SLF001 - nothing else ends it at once
    while sender is not None and not sender.done():
        # It waits for the answers that are out when it is cancelled, and takes broken connections
        # for a reason to connect again: so until it has ended.
        _abort(producer.client)
        sender.cancel()
        await asyncio.wait([sender], timeout=_CANCEL_S)
    await end_client(producer.client)


async def end_client(client: AIOKafkaClient) -> None:
    """Disconnect at once: what is not sent by now is dropped."""
    _abort(client)
    await client.close()


def _abort(client: AIOKafkaClient) -> None:
    for connection in list(client._conns.values()):  # noqa: SLF001 - close() waits for what is unsent
        if connection._writer is not None:  # noqa: SLF001
            connection._writer.transport.abort()  # noqa: SLF001


@contextlib.contextmanager
def reporting_outage(doing: str) -> Iterator[None]:
    """Turn aiokafka's errors into ServerUnavailable, or LogError where trying again is no use."""
    try:
        yield
    except TimeoutError as error:
        raise ServerUnavailable(PART, f"no answer in time while {doing}", _HINT) from error
    except errors.KafkaError as error:
        reason = f"{_told(error)} while {doing}"
        if error.retriable or isinstance(error, AWAY):
            raise ServerUnavailable(PART, reason, _HINT) from error
        raise LogError(f"{PART}: {reason}") from error
    except OSError as error:
        raise ServerUnavailable(PART, f"{error} while {doing}", _HINT) from error


def _told(error: Exception) -> str:
    text = str(error)
    name = type(error).__name__
    return text if text.startswith(name) or not text else f"{name}: {text}"
