"""`daybook serve` and `daybook token`."""

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

import jwt
import uuid_utils
import uvicorn
import uvloop
from msgspec import Struct

from api.http.app import create_app
from api.http.feed.service import serving_feed
from api.http.feed.wire import FeedProtocol
from api.http.keys import KeyRing, signing_key
from api.http.protocol import protocol
from api.http.security import EVERY, ROLES, SCOPES
from api.http.services import LOOPBACK, Options, running_services
from domain.errors import InvalidValue
from infra.errors import ServerUnavailable
from infra.settings import Settings, load_settings
from infra.telemetry import start_logging

_LOOPBACK_BINDS: Final = ("127.0.0.1", "::1", "localhost")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_S: Final = 366 * 86_400
_KEEP_ALIVE_S: Final = 30
_GRACE_S: Final = 10


class Serving(Struct, frozen=True, kw_only=True):
    """Where to listen, under which other names, and whose tokens to take."""

    host: str
    port: int
    names: Sequence[str] = ()
    jwks: str | None = None
    audience: str = "daybook"
    issuer: str | None = None
    rate: int = 1_000


def run_serve(home: Path | None, serving: Serving) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    settings = load_settings(home)
    _check_protected(settings, serving)
    start_logging(level=settings.log_level)
    # Threads that make rows must not hold up the loop for 5 ms, which is Python's default.
    sys.setswitchinterval(0.001)
    listener = listening(serving)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, serving, listener))


def _check_protected(settings: Settings, serving: Serving) -> None:
    """Raise InvalidValue for an address that others can reach and no key protects."""
    keys = KeyRing(settings.home, serving.jwks)
    if serving.host not in _LOOPBACK_BINDS and not keys.is_configured:
        raise InvalidValue(
            "--host",
            serving.host,
            "127.0.0.1, or keys: `daybook token` makes one, --jwks names an issuer's",
        )


def listening(serving: Serving) -> socket.socket:
    """Return the socket that is listened on; raises ServerUnavailable for an address in use."""
    family = socket.AF_INET6 if ":" in serving.host else socket.AF_INET
    # asyncio turns Nagle's waiting off for sockets that say they are TCP, and for no others: an
    # answer's body then waits 40 ms for the client to acknowledge its headers.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((serving.host, serving.port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = f"{serving.host}:{serving.port}: {error}"
        raise ServerUnavailable("the address", reason, "choose another --host or --port") from error
    listener.listen(2048)
    listener.setblocking(False)
    return listener


async def _serve(settings: Settings, serving: Serving, listener: socket.socket) -> int:
    port = listener.getsockname()[1]
    options = Options(
        hosts=frozenset({*LOOPBACK, _named(serving.host), *map(str.lower, serving.names)}),
        jwks=serving.jwks,
        audience=serving.audience,
        issuer=serving.issuer,
        requests_a_second=serving.rate,
    )
    async with running_services(settings, options) as services:
        app = create_app(services)
        server = _Server(_config(app), services.writer.hurry)
        sys.stderr.write(_told(settings, serving, port, needs_tokens=services.gate.needs_tokens))
        sys.stdout.write(f"http://{_named(serving.host)}:{port}\n")
        sys.stdout.flush()
        async with serving_feed(app):
            await server.serve(sockets=[listener])
    return 0


def _config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol(),
        ws=FeedProtocol,
        ws_max_size=64 * 1024,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        backlog=2048,
    )


class _Server(uvicorn.Server):
    """Ends at SIGTERM and SIGINT, with the requests under way done, and then exits with 0."""

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end: what waits for others is not to hold it up."""
        super().handle_exit(sig, frame)
        self._on_exit()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for ending in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(ending, self.handle_exit, ending, None)
        try:
            yield
        finally:
            for ending in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(ending)


def _named(host: str) -> str:
    return f"[{host}]" if ":" in host else host.lower()


def _told(settings: Settings, serving: Serving, port: int, *, needs_tokens: bool) -> str:
    where = f"http://{_named(serving.host)}:{port}"
    if needs_tokens:
        protection = "every request needs a token (`daybook token` prints one)"
    else:
        protection = "open to everybody on this machine: no keys are configured, no token is needed"
    return f"serving {settings.home} at {where}\n{protection}\n"


class Wanted(Struct, frozen=True, kw_only=True):
    """What a token is to say."""

    role: str
    subject: str | None = None
    accounts: Sequence[str] = ()
    portfolios: Sequence[str] = ()
    scopes: Sequence[str] = ()
    expires: str = "12h"
    audience: str = "daybook"
    new_key: bool = False


def run_token(home: Path | None, wanted: Wanted) -> int:
    """Print a token signed with the home's key, which is made where there is none."""
    settings = load_settings(home)
    claims = claims_of(wanted)
    had_key = KeyRing(settings.home).is_configured
    kid, key = signing_key(settings.home, new=wanted.new_key)
    if not had_key:
        sys.stderr.write(f"made a key in {settings.home / 'keys'}: from now on a token is needed\n")
    sys.stdout.write(jwt.encode(claims, key.key, key.algorithm_name, headers={"kid": kid}) + "\n")
    return 0


def claims_of(wanted: Wanted) -> dict[str, Any]:
    """Return what a token says; raises InvalidValue."""
    if wanted.role not in ROLES:
        raise InvalidValue("--role", wanted.role, "one of " + ", ".join(ROLES))
    for scope in wanted.scopes:
        if scope not in SCOPES:
            raise InvalidValue("--scope", scope, "one of " + ", ".join(sorted(SCOPES)))
    accounts = list(wanted.accounts)
    if not accounts and not wanted.portfolios:
        if wanted.role == "trader":
            raise InvalidValue("--account", "", "the accounts or portfolios of a trader")
        accounts = [EVERY]
    now = int(time.time())
    claims: dict[str, Any] = {
        "sub": wanted.subject or wanted.role,
        "role": wanted.role,
        "accounts": accounts,
        "portfolios": list(wanted.portfolios),
        "aud": wanted.audience,
        "iat": now,
        "exp": now + _seconds(wanted.expires),
        "jti": str(uuid_utils.uuid7()),
    }
    if wanted.scopes:
        claims["scope"] = " ".join(wanted.scopes)
    return claims


def _seconds(text: str) -> int:
    number, unit = text[:-1], text[-1:]
    if number.isascii() and number.isdecimal() and unit in _UNITS_S:
        seconds = int(number) * _UNITS_S[unit]
        if 0 < seconds <= _LONGEST_S:
            return seconds
    raise InvalidValue("--expires", text, "a time such as 30m, 12h or 7d, at most a year")
