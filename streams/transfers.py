"""The process manager of transfers: what one account sent is received by the other, or returned.

Two accounts are two streams, and nothing is written to both at once. So each step is a command
whose id is derived from the transfer: a crash between two steps is finished by the next settling,
and never done twice. Everything is in the log; the table of settled transfers only saves looking.
"""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final, Literal, Protocol, cast

import msgspec
from msgspec import Struct

from domain.commands import ReceiveTransfer, Request, ReturnTransfer
from domain.entities import AnyEntity, Transfer
from domain.errors import InvalidValue
from domain.events import TransferSent, UnitLeg
from infra import postgres
from infra.postgres import Connection
from projections.rows import bounded
from schemas import codec
from schemas.envelope import Recorded
from schemas.partitioning import partition_of
from streams import entity_store
from streams.answers import Answer
from streams.ledger import Ledger
from streams.log import Log, LogError, LogHalted, TopicPartition

LegsOf = Callable[[Recorded], tuple[UnitLeg, ...]]
"""Given a TransferSent, the legs with the lots that left, their costs and dates."""

_log = logging.getLogger(__name__)
_ACTOR: Final = "transfers"
_CHUNK: Final = 500
_UNSETTLED: Final = (
    "FROM decider_entities LEFT JOIN transfers_settled USING (key, id)"
    " WHERE topic = 0 AND kind = 'transfer' AND transfers_settled.key IS NULL"
)
_DECODER: Final = msgspec.msgpack.Decoder(AnyEntity)


class Settled(Struct, frozen=True):
    """How a transfer ended; `reason` is why it was returned."""

    transfer_id: str
    from_account: str
    to_account: str
    outcome: Literal["received", "returned"]
    reason: str | None = None


class _Pending(Struct, frozen=True):
    sent: Recorded
    account: str
    event: TransferSent
    legs: tuple[UnitLeg, ...]


class Submits(Protocol):
    """What has commands decided: `Ledger`, or `KafkaLedger`."""

    @property
    def log(self) -> Log:
        """Return the log that they are recorded in."""
        ...

    def submit(self, requests: Sequence[Request]) -> list[Answer]:
        """Return the answers to commands, in their order."""
        ...


class Sent(Struct, frozen=True):
    """A transfer that was sent and is not settled: its sender, its id, and its valid record."""

    account: str
    transfer_id: str
    recorded: Recorded


class TransferBook(Protocol):
    """Where transfers on their way are found, and marked when they are settled."""

    def is_idle(self) -> bool:
        """Tell whether nothing is on its way for certain; others may be settling meanwhile."""
        ...

    def alone(self) -> AbstractContextManager[None]:
        """Keep others from settling for a block."""
        ...

    def check_alone(self) -> None:
        """Raise where others are not kept from settling any more."""
        ...

    def pending(self, after: tuple[str, str] = ("", "")) -> list[Sent]:
        """Return the next transfers that are on their way, by sender and id; none after the last.

        `after` is the sender and the id of the one before them.
        """
        ...

    def mark(self, transfers: Sequence[tuple[str, str]]) -> None:
        """Mark transfers as settled, by sender and id."""
        ...


def settle_transfers(
    ledger: Submits, legs_of: LegsOf, book: TransferBook | None = None
) -> list[Settled]:
    """Carry every transfer that was sent to its end; return those that were brought there now.

    One settles at a time, whichever process it is in. `legs_of` is asked only for transfers that
    moved units. `book` is that of a Postgres ledger unless told. What lacks something (its owner
    stands still, say), what cannot be read and what can be neither received nor returned stays on
    its way, and holds up no other.
    """
    settled: list[Settled] = []
    with contextlib.ExitStack() as stack:
        if book is None:
            book = stack.enter_context(contextlib.closing(PostgresBook(cast("Ledger", ledger))))
        if book.is_idle():
            return settled
        stack.enter_context(book.alone())
        after = ("", "")
        while sent := book.pending(after):
            after = sent[-1].account, sent[-1].transfer_id
            told = [_pending(one, legs_of) for one in sent]
            pending = [one for one in told if one is not None]
            settled += _settle(ledger, book, pending) if pending else []
    return settled


def _pending(sent: Sent, legs_of: LegsOf) -> _Pending | None:
    """Return a transfer with what left; None where its sender's book cannot be read up to it."""
    event = cast("TransferSent", sent.recorded.event)
    try:
        legs = legs_of(sent.recorded) if event.legs else ()
    except (LogError, InvalidValue) as error:
        _left(sent.account, sent.transfer_id, error)
        return None
    return _Pending(sent.recorded, sent.account, event, legs)


def _left(account: str, transfer_id: str, why: object) -> None:
    _log.warning("transfer %r of %r is left on its way: %s", transfer_id, account, why)


class PostgresBook:
    """The transfers of a Postgres ledger, by its index of entities."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._opened: Connection | None = None
        self._locking: Connection | None = None

    @property
    def _connection(self) -> Connection:
        """A connection of its own, kept: to open one takes longer than to look."""
        if self._opened is None or self._opened.closed:
            self._opened = self._ledger.log.connect()
        return self._opened

    def close(self) -> None:
        """Close its connection; to use it again opens another."""
        postgres.close(self._opened)

    def is_idle(self) -> bool:
        """Tell whether the index has no transfer that is not marked as settled."""
        found = self._connection.execute(f"SELECT EXISTS (SELECT 1 {_UNSETTLED})".encode())
        return found.fetchone() == (False,)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others from settling for a block."""
        self._locking = self._connection
        with postgres.advisory_lock(self._locking, f"transfers {self._ledger.log.schema}"):
            yield

    def check_alone(self) -> None:
        """Raise where the connection that has the lock was lost, and the lock with it."""
        assert self._locking is not None
        self._locking.execute("SELECT 1")

    def pending(self, after: tuple[str, str] = ("", "")) -> list[Sent]:
        """Return the next that were sent and are not settled; mark those that only look so."""
        while True:
            rows = self._connection.execute(
                f"SELECT key, id, state {_UNSETTLED} AND (key, id) > (%s, %s)"
                " ORDER BY key, id LIMIT %s".encode(),
                (*after, _CHUNK),
                binary=True,
            ).fetchall()
            found = [(key, transfer_id, _DECODER.decode(state)) for key, transfer_id, state in rows]
            sent = {
                (key, transfer_id): entity
                for key, transfer_id, entity in found
                if isinstance(entity, Transfer) and entity.status == "sent"
            }
            self.mark([(key, name) for key, name, _ in found if (key, name) not in sent])
            if sent or not found:
                return self._read(sent)

    def _read(self, sent: dict[tuple[str, str], Transfer]) -> list[Sent]:
        places: dict[tuple[str, str], tuple[TopicPartition, int]] = {
            key: (("events", partition_of(key[0], self._ledger.log.partitions)), entity.offset)
            for key, entity in sent.items()
        }
        records = entity_store.fetch_records(self._connection, list(places.values()))
        return [Sent(*key, codec.decode(records[place])) for key, place in places.items()]

    def mark(self, transfers: Sequence[tuple[str, str]]) -> None:
        """Mark transfers as settled."""
        if transfers:
            self._connection.execute(
                "INSERT INTO transfers_settled (key, id)"
                " SELECT * FROM unnest(%s::text[], %s::text[]) ON CONFLICT DO NOTHING",
                ([key for key, _ in transfers], [name for _, name in transfers]),
            )


def _settle(ledger: Submits, book: TransferBook, pending: list[_Pending]) -> list[Settled]:
    received = _answers(ledger, [_receive(one) for one in pending])
    book.check_alone()
    # Only a refusal that is recorded is for good: what lacked something may be received later, by
    # an asking that is still under way.
    refused = [
        (one, answer)
        for one, answer in zip(pending, received, strict=True)
        if answer is not None and answer.status == "refused"
    ]
    returned = _answers(ledger, [_return(one, answer) for one, answer in refused])
    ends = [
        _end(one, answer)
        for one, answer in zip(pending, received, strict=True)
        if answer is None or answer.status != "refused"
    ]
    ends += [
        _end(one, answer, refusal.reason)
        for (one, refusal), answer in zip(refused, returned, strict=True)
    ]
    settled = [end for end in ends if end is not None]
    book.mark([(one.from_account, one.transfer_id) for one in settled])
    return settled


def _answers(ledger: Submits, requests: Sequence[Request]) -> list[Answer | None]:
    """Return the answers to commands; None for those that a partition that stands still keeps."""
    try:
        return list(ledger.submit(requests))
    except LogHalted as halted:
        kept = [
            halted.topic == "events"
            and partition_of(one.key, ledger.log.partitions) == halted.partition
            for one in requests
        ]
        # A partition of `reference` has to be known whole by whoever decides anything.
        kept = kept if any(kept) else [True] * len(requests)
        _log.warning("%d transfers are left on their way: %s", sum(kept), halted)
    others = [one for one, is_kept in zip(requests, kept, strict=True) if not is_kept]
    answers = iter(_answers(ledger, others) if others else [])
    return [None if is_kept else next(answers) for is_kept in kept]


def _end(one: _Pending, answer: Answer | None, reason: str | None = None) -> Settled | None:
    """Return how a transfer ended, by the answer to its last step; None where it did not.

    `reason` is why the receiver refused it.
    """
    event = one.event
    if answer is None or answer.status == "lacking":
        return None
    if answer.status not in ("accepted", "duplicate"):
        _left(one.account, event.transfer_id, f"it can be neither received nor returned: {answer}")
        return None
    outcome: Literal["received", "returned"] = "received" if reason is None else "returned"
    return Settled(event.transfer_id, one.account, event.to_account, outcome, reason)


def _receive(one: _Pending) -> Request:
    event = one.event
    command = ReceiveTransfer(
        transfer_id=event.transfer_id,
        from_account=one.account,
        cash=event.cash,
        legs=one.legs,
        time_precision=event.time_precision,
        sequence=bounded(event.sequence),
    )
    return _request(one, "receive", event.to_account, command)


def _return(one: _Pending, refusal: Answer) -> Request:
    event = one.event
    command = ReturnTransfer(
        transfer_id=event.transfer_id,
        to_account=event.to_account,
        reason=refusal.reason or refusal.status,
        cash=event.cash,
        legs=one.legs,
        time_precision=event.time_precision,
        sequence=bounded(event.sequence),
    )
    return _request(one, "return", one.account, command)


def _request(
    one: _Pending, step: str, key: str, command: ReceiveTransfer | ReturnTransfer
) -> Request:
    envelope = one.sent.envelope
    told = f"{one.account}\n{one.event.transfer_id}".encode()
    return Request(
        command_id=f"transfer-{step}:{hashlib.sha256(told).hexdigest()}",
        key=key,
        event_time=envelope.event_time,
        command=command,
        actor=_ACTOR,
        correlation_id=envelope.correlation_id or envelope.id,
        causation_id=envelope.id,
    )
