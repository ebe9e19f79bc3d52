"""What a feed may show while it is open, and who is recorded: keys end, and accounts are moved."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from daybook_client import Client
from websockets.exceptions import ConnectionClosed, InvalidStatus

from api.http.keys import FILE, FOLDER
from tests.api.conftest import NewDaybook
from tests.api.http.feed.serving import WAIT_S, Served
from tests.api.http.server import token
from tests.beside import beside

OFTEN = """
import pathlib, psycopg
from api.http import directory, keys
from api.http.feed import routes, service
service.MOST_FEEDS_OF_ONE = 4
routes.CHECK_S, directory._TRUSTED_S, keys._LOOK_S = 0.1, 0.0, 0.1
learn = directory.Directory.learn
async def learn_unless_out(self, account):
    if pathlib.Path("outage").exists():
        pathlib.Path("noticed").touch()
        raise psycopg.OperationalError("gone")
    await learn(self, account)
directory.Directory.learn = learn_unless_out
"""


@contextlib.contextmanager
def serving(daybook: Any, *, with_key: bool) -> Iterator[Served]:
    """Run a server that checks rights often."""
    server = Served(daybook, OFTEN)
    if with_key:
        token(server.daybook.home, "admin")
    server.start()
    try:
        yield server
    finally:
        server.stop()


def bearer(server: Served, role: str, **told: Any) -> dict[str, Any]:
    """Return what sends a token along."""
    signed = token(server.daybook.home, role, **told)
    return {"additional_headers": {"Authorization": f"Bearer {signed}"}}


def feeds_recorded(server: Served, **rights: Any) -> list[dict[str, Any]]:
    """Return the lines of the audit trail about feeds, as compliance sees them."""
    headers = bearer(server, "compliance", **rights)["additional_headers"]
    answer = httpx.get(f"{server.url}/v1/audit", headers=headers, timeout=WAIT_S)
    return [one for one in answer.json()["data"] if one["operation"] == "feed"]


def open_account(client: Client, account: str, portfolio: str) -> None:
    """Open an account, and wait until the read models know of it."""
    done = client.open_account(account, portfolio=portfolio)
    client.accounts(min_position=done.position).rows()


def shown_by(client: Client) -> None:
    """Wait for what a feed of the client's shows first, whatever fails before it."""
    with contextlib.closing(client.feed("balances", "A1")) as feed:
        assert next(feed).is_snapshot


def code_of_end(feed: Any) -> int:
    """Return the code that a feed is closed with."""
    with pytest.raises(ConnectionClosed) as closed:
        feed.hear(lambda _: False)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def test_an_account_that_is_moved_elsewhere_is_not_followed_any_more(
    new_daybook: NewDaybook,
) -> None:
    with serving(new_daybook(), with_key=True) as server:
        admin = token(server.daybook.home, "admin")
        with (
            Client(server.url, token=admin) as client,
            server.socket(**bearer(server, "quant", portfolios=["desk"])) as feed,
        ):
            for account in ("A1", "A2"):
                open_account(client, account, "desk")
                feed.subscribe(account, "balances", account)
                assert feed.hear()["op"] == "snapshot"
            client.open_account("A1", portfolio="another")
            ended = feed.hear(lambda frame: frame["op"] == "error")
            assert ended["id"] == "A1"
            assert ended["problem"]["type"].endswith(":unknown-account")
            client.move_cash("A2", kind="deposit", amount=1, currency="USD")
            assert feed.hear(lambda frame: frame["op"] == "delta")["id"] == "A2"
            open_account(client, "A3", "desk")
            with server.socket(**bearer(server, "quant", subject="ann", accounts=["A3"])) as own:
                own.subscribe(1, "balances", "A3")
                assert own.hear()["op"] == "snapshot"
                # This server has not asked yet in which portfolios the account is.
                newer = token(server.daybook.home, "quant", subject="ann", portfolios=["desk"])
                own.say({"op": "authenticate", "token": newer})
                client.move_cash("A3", kind="deposit", amount=1, currency="USD")
                assert own.hear()["op"] == "delta"
            for number, account in enumerate(("A1", "nobody's", "\0")):
                feed.subscribe(number, "balances", account)
                refused = feed.hear(lambda frame: frame["op"] == "error")
                assert refused["problem"]["type"].endswith(":unknown-account")


def test_rights_that_cannot_be_looked_up_end_nothing_and_are_looked_up_again(
    new_daybook: NewDaybook, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(new_daybook(), with_key=True) as server:
        outage, noticed = (server.daybook.folder / name for name in ("outage", "noticed"))
        with (
            Client(server.url, token=token(server.daybook.home, "admin")) as client,
            server.socket(**bearer(server, "quant", portfolios=["desk"])) as feed,
        ):
            open_account(client, "A1", "desk")
            feed.subscribe(1, "balances", "A1")
            assert feed.hear()["op"] == "snapshot"
            outage.touch()
            for number in range(30):  # more than a client may be wrong
                feed.subscribe(f"out {number}", "balances", "A1")
                refused = feed.hear(lambda frame: frame["op"] == "error")
                assert refused["problem"]["type"].endswith(":unavailable")
            noticed.unlink()
            end = time.monotonic() + WAIT_S
            while not noticed.exists():  # until what is followed has been checked in vain
                assert time.monotonic() < end
                time.sleep(0.01)
            quant = token(server.daybook.home, "quant", portfolios=["desk"])
            with Client(server.url, token=quant) as other, beside(lambda: shown_by(other)):
                try:
                    while "store does not answer" not in caplog.text:
                        assert time.monotonic() < end
                        time.sleep(0.01)
                finally:
                    outage.unlink()
            feed.subscribe("again", "balances", "A1")
            assert feed.hear()["op"] == "snapshot"
            client.open_account("A1", portfolio="another")
            ended = {feed.hear(lambda frame: frame["op"] == "error")["id"] for _ in range(2)}
            assert ended == {1, "again"}


def test_a_key_taken_out_ends_the_feeds_that_were_opened_with_it(new_daybook: NewDaybook) -> None:
    with serving(new_daybook(), with_key=True) as server:
        path: Path = server.daybook.home / FOLDER / FILE
        with server.socket(**bearer(server, "quant")) as feed:
            feed.subscribe(1, "balances")
            assert feed.hear()["op"] == "snapshot"
            path.unlink()
            assert code_of_end(feed) == 4401
        for told in ({}, {"subprotocols": ["bearer.x"]}):
            with pytest.raises(InvalidStatus) as refused, server.socket(**told):
                pass
            assert refused.value.response.status_code == 401


def test_the_first_key_ends_feeds_that_had_no_token_and_bounds_those_that_had(
    new_daybook: NewDaybook,
) -> None:
    with serving(new_daybook(), with_key=False) as server, server.socket() as feed:
        feed.subscribe(1, "balances")
        assert feed.hear()["op"] == "snapshot"
        path: Path = server.daybook.home / FOLDER / FILE
        trader = bearer(server, "trader", accounts=["A1"])  # made a key: others need tokens now
        assert code_of_end(feed) == 4401
        kept = path.read_bytes()
        with server.socket(**trader) as last:
            server.stop()
            assert code_of_end(last) == 1012
        path.unlink()
        server.start()
        with server.socket(**trader) as other:
            other.subscribe(1, "balances")
            other.subscribe(2, "balances", "A1")
            assert [other.hear()["op"] for _ in range(2)] == ["snapshot"] * 2
            partial = path.with_name("partial")
            partial.touch(mode=0o600)
            partial.write_bytes(kept)
            partial.rename(path)
            ended = other.hear(lambda frame: frame["op"] == "error")
            assert (ended["id"], ended["problem"]["type"][-9:]) == (1, "forbidden")


def test_who_followed_what_and_who_was_turned_away_is_recorded(new_daybook: NewDaybook) -> None:
    with serving(new_daybook(), with_key=True) as server:
        home = server.daybook.home
        with Client(server.url, token=token(home, "admin")) as client:
            for name, portfolio in (("A1", "desk"), ("A2", "other"), ("A3", "below")):
                open_account(client, name, portfolio)
            parent = {"type": "DefinePortfolio", "key": "below", "data": {"parent": "desk"}}
            done = client.submit(parent)
            client.instruments(min_position=done.position).rows()
        with pytest.raises(InvalidStatus), server.socket():
            pass
        trader = bearer(server, "trader", subject="ann", accounts=["A1", "A3"])
        with server.socket(**trader) as feed:
            for told_id, account in ((1, "A1"), (1, "A2"), (2, "A2"), (3, "A3")):
                feed.subscribe(told_id, "balances", account)
                feed.hear()
            for bad in ("forged", token(home, "trader", subject="bob", accounts=["A1"])):
                feed.say({"op": "authenticate", "token": bad})
                assert feed.hear()["problem"]["type"].endswith(":unauthenticated")
            check_there_are_only_so_many(server, trader)
        lines = feeds_recorded(server)
        recorded = [(one["subject"], one.get("account"), one["status"]) for one in lines]
        assert recorded == [
            (None, None, 401),
            ("ann", "A1", 200),
            ("ann", "A2", 409),
            ("ann", "A2", 404),
            ("ann", "A3", 200),
            (None, None, 401),
            (None, None, 401),
        ]
        assert {one.get("client") for one in lines if one["status"] == 401} == {"127.0.0.1"}
        for rights in ({"accounts": ["A1", "A3"]}, {"portfolios": ["desk"]}):
            seen = feeds_recorded(server, **rights)
            assert [one["account"] for one in seen] == ["A1", "A3"]


def check_there_are_only_so_many(server: Served, told: dict[str, Any]) -> None:
    """Open feeds beside the first of a subject: a fifth is refused, until one has ended."""
    with contextlib.ExitStack() as opened:
        for _ in range(3):
            opened.enter_context(server.socket(**told))
        with pytest.raises(InvalidStatus) as refused, server.socket(**told):
            pass
        assert refused.value.response.status_code == 429
        assert int(refused.value.response.headers["Retry-After"]) > 0
    end = time.monotonic() + WAIT_S
    while True:
        try:
            with server.socket(**told):
                return
        except InvalidStatus:
            assert time.monotonic() < end
            time.sleep(0.05)
