"""What a feed outlives and what it does not, told by a server that fails in every way there is."""

import asyncio
import contextlib
import itertools
import json
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from socket import SHUT_RDWR, gaierror
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from daybook_client import (
    DaybookError,
    FeedGap,
    Forbidden,
    NotFound,
    ProblemError,
    Unauthenticated,
    Unavailable,
    Update,
)
from daybook_client.feed import Place, Subscription, _pause, follow, follow_sync
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from tests.beside import beside

Turn = int | str | tuple[int, str]
"""The status that refuses a connection, the code that closes it, a problem, or a word."""
Updates = Callable[[Place, int], list[Update]]
"""The first so many updates of a feed."""


class Failing:
    """A feed that takes a turn for each connection, and the last one again and again."""

    def __init__(self, *turns: Turn) -> None:
        self.tokens: list[str | None] = []
        self._turns = itertools.chain(turns, itertools.repeat(turns[-1]))
        self._turn = turns[0]
        self._told = 0

    @contextlib.contextmanager
    def serving(
        self, context: ssl.SSLContext | None = None, token: Callable[[], str | None] = lambda: None
    ) -> Iterator[Place]:
        """Serve, and tell where."""
        told: dict[str, Any] = {"process_request": self.admit, "ssl": context}
        with serve(self.talk, "127.0.0.1", 0, **told) as server, beside(server.serve_forever):
            try:
                scheme = "http" if context is None else "https"
                port = server.socket.getsockname()[1]
                yield Place(f"{scheme}://127.0.0.1:{port}", token)
            finally:
                server.shutdown()

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Begin a turn; ends there where the handshake is what fails."""
        self.tokens.append(request.headers.get("Authorization"))
        self._turn = next(self._turns)
        if isinstance(self._turn, int) and self._turn < 1000:
            return connection.respond(HTTPStatus(self._turn), "no document")
        if self._turn == "hangs up":
            connection.socket.shutdown(SHUT_RDWR)
        return None

    def talk(self, connection: ServerConnection) -> None:
        """Take the turn of a connection."""
        turn = self._turn
        with contextlib.suppress(ConnectionClosed):
            number, position = heard(connection)
            match turn:
                case (status, kind):
                    told = {"type": f"urn:daybook:problem:{kind}", "status": status}
                    connection.send(json.dumps({"op": "error", "id": number, "problem": told}))
                case int():
                    connection.close(turn, "as told")
                case "dies":
                    connection.socket.shutdown(SHUT_RDWR)
                case "has a gap":
                    self._tell(connection, number, "elsewhere")
                    self._tell(connection, heard(connection)[0], "elsewhere")
                case "loses a frame":
                    self._tell(connection, number, "elsewhere")
                    self._tell(connection, *heard(connection))
                case "restarts":
                    self._tell(connection, number, position)
                    connection.close(1012, "restarting")
                case _:
                    assert turn == "is silent"
            connection.recv()

    def _tell(self, connection: ServerConnection, number: int, previous: str | None) -> None:
        """Send a snapshot, or the delta after a position."""
        self._told += 1
        told = {"id": number, "position": f"p{self._told}", "rows": []}
        if previous is None:
            connection.send(json.dumps({"op": "snapshot", **told}))
        else:
            more = {"previous": previous, "removed": []}
            connection.send(json.dumps({"op": "delta", **told, **more}))


def heard(connection: ServerConnection) -> tuple[int, str | None]:
    """Return the id and the position of the next subscription."""
    while True:
        told = json.loads(connection.recv())
        if told["op"] == "subscribe":
            return told["id"], told.get("from")


def waited_for(place: Place, count: int) -> list[Update]:
    """Follow as the client that waits does."""
    subscription = Subscription("deals", "A1", None)
    with contextlib.closing(follow_sync(place, subscription)) as feed:
        return list(itertools.islice(feed, count))


def awaited(place: Place, count: int) -> list[Update]:
    """Follow as the client to be awaited does."""

    async def run() -> list[Update]:
        subscription = Subscription("deals", "A1", None)
        async with contextlib.aclosing(follow(place, subscription)) as feed:
            return [await anext(feed) for _ in range(count)]

    return asyncio.run(run())


@pytest.fixture(params=[waited_for, awaited])
def updates(request: pytest.FixtureRequest) -> Updates:
    """Either client."""
    found: Updates = request.param
    return found


@pytest.fixture(autouse=True)
def _without_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daybook_client.requests._FIRST_WAIT_S", 0.001)


def test_it_goes_on_after_every_loss(
    updates: Updates, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("daybook_client.feed.SILENCE_S", 0.5)
    refused: list[Turn] = [503, 429, 500, "hangs up"]
    lost: list[Turn] = ["dies", 1011, 4408, (503, "unavailable"), (429, "rate-limited")]
    with Failing(*refused, *lost, "restarts", "is silent", *lost, "restarts").serving() as place:
        first, second, third = updates(place, 3)
    assert first.is_snapshot
    assert (second.is_snapshot, second.previous) == (False, first.position)
    assert (third.is_snapshot, third.previous) == (False, second.position)
    told = [record for record in caplog.records if record.name == "daybook_client"]
    assert len(told) >= len(refused) + 2 * len(lost) + 2
    assert all(place.url in record.getMessage() for record in told)


@pytest.mark.parametrize(
    ("turn", "kind"),
    [
        (401, Unauthenticated),
        (403, Forbidden),
        (404, NotFound),
        (501, ProblemError),
        ((404, "unknown-account"), NotFound),
        ((501, "topic-not-yet"), ProblemError),
        (1008, DaybookError),
        (1009, DaybookError),
        (4429, DaybookError),
        ("has a gap", FeedGap),
    ],
)
def test_what_will_not_mend_is_raised(
    updates: Updates, turn: Turn, kind: type[DaybookError]
) -> None:
    failing = Failing(turn)
    with failing.serving() as place, pytest.raises(kind):
        updates(place, 1)
    assert len(failing.tokens) == 1, "it was tried once"


def test_a_first_frame_that_follows_nothing_is_asked_for_again(updates: Updates) -> None:
    with Failing("loses a frame").serving() as place:
        (first,) = updates(place, 1)
    assert first.is_snapshot


def test_each_connection_has_a_token_of_its_own(updates: Updates) -> None:
    failing, numbers = Failing(4401, "restarts", 4401, "restarts"), itertools.count()
    with failing.serving(token=lambda: f"t{next(numbers)}") as place:
        updates(place, 2)
    assert failing.tokens[:4] == ["Bearer t0", "Bearer t1", "Bearer t2", "Bearer t3"]


def test_a_new_token_that_has_ended_too_is_not_tried_for_ever(updates: Updates) -> None:
    failing = Failing(4401)
    with failing.serving() as place, pytest.raises(Unauthenticated, match="as told"):
        updates(place, 1)
    assert len(failing.tokens) == 2


# --- an address that is wrong --------------------------------------------------------------------


def context_of_nobody(folder: Path) -> ssl.SSLContext:
    """Return a server's context with a certificate that nobody trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    kept = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem = folder / "nobody.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *kept)
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def test_a_certificate_that_is_not_trusted_is_told(updates: Updates, tmp_path: Path) -> None:
    with (
        Failing("restarts").serving(context_of_nobody(tmp_path)) as place,
        pytest.raises(Unavailable, match="certificate"),
    ):
        updates(place, 1)


def test_a_name_that_nobody_has_is_told(updates: Updates) -> None:
    with pytest.raises(Unavailable, match="not known"):
        updates(Place("http://[::1%nobody]:1", lambda: None), 1)


def test_a_name_that_was_found_before_is_an_outage() -> None:
    place, subscription = Place("http://x", lambda: None), Subscription("deals", "A1", None)
    unknown = gaierror(-2, "Name or service not known")
    with pytest.raises(Unavailable, match="ws://x/v1/feed"):
        _pause(place, subscription, unknown, 0)
    subscription.begin()
    assert 0 < _pause(place, subscription, unknown, 2000) <= 5
