"""The process manager of transfers: what one account sent is received by the other, or returned.

Two accounts are two streams, and nothing is written to both at once. So each step is a command
whose id is derived from the transfer: a crash between two steps is finished by the next settling,
and never done twice. Everything is in the log; the table of settled transfers only saves looking.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, cast

import msgspec
from msgspec import Struct

from domain.commands import ReceiveTransfer, Request, ReturnTransfer
from domain.entities import AnyEntity, Transfer
from domain.events import TransferSent, UnitLeg
from infra import postgres
from infra.postgres import Connection
from schemas import codec
from schemas.envelope import Recorded
from schemas.partitioning import partition_of
from streams import entity_store
from streams.answers import Answer
from streams.ledger import Ledger
from streams.log import LogError

LegsOf = Callable[[Recorded], tuple[UnitLeg, ...]]
"""Given a TransferSent, the legs with the lots that left, their costs and dates."""

_ACTOR: Final = "transfers"
_CHUNK: Final = 500
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


def settle_transfers(ledger: Ledger, legs_of: LegsOf) -> list[Settled]:
    """Carry every transfer that was sent to its end; return those that were brought there now.

    One settles at a time, whichever process it is in. `legs_of` is asked only for transfers that
    moved units. Raises LogError when a transfer can be neither received nor returned.
    """
    settled: list[Settled] = []
    connection = ledger.log.connect()
    try:
        with postgres.advisory_lock(connection, f"transfers {ledger.log.schema}"):
            while pending := _pending(ledger, connection, legs_of):
                settled += _settle(ledger, connection, pending)
    finally:
        connection.close()
    return settled


def _pending(ledger: Ledger, connection: Connection, legs_of: LegsOf) -> list[_Pending]:
    """Return transfers that were sent and are not settled; mark those that only look so."""
    rows = connection.execute(
        "SELECT key, id, state FROM decider_entities LEFT JOIN transfers_settled USING (key, id)"
        " WHERE topic = 0 AND kind = 'transfer' AND transfers_settled.key IS NULL"
        " ORDER BY key, id LIMIT %s",
        (_CHUNK,),
        binary=True,
    ).fetchall()
    found = [(key, transfer_id, _DECODER.decode(state)) for key, transfer_id, state in rows]
    sent = {
        (key, transfer_id): entity
        for key, transfer_id, entity in found
        if isinstance(entity, Transfer) and entity.status == "sent"
    }
    _mark(connection, [(key, name) for key, name, _ in found if (key, name) not in sent])
    if found and not sent:
        return _pending(ledger, connection, legs_of)
    return list(_read(ledger, connection, sent, legs_of))


def _read(
    ledger: Ledger,
    connection: Connection,
    sent: dict[tuple[str, str], Transfer],
    legs_of: LegsOf,
) -> Iterator[_Pending]:
    places = {
        key: (("events", partition_of(key[0], ledger.log.partitions)), entity.offset)
        for key, entity in sent.items()
    }
    records = entity_store.fetch_records(connection, list(places.values()))  # type: ignore[arg-type]
    for key, place in places.items():
        recorded = codec.decode(records[place])  # type: ignore[index]
        event = cast("TransferSent", recorded.event)
        yield _Pending(recorded, key[0], event, legs_of(recorded) if event.legs else ())


def _settle(ledger: Ledger, connection: Connection, pending: list[_Pending]) -> list[Settled]:
    received = ledger.submit([_receive(one) for one in pending])
    # A receiver that could not be asked may exist by the time another settles: the lock must still
    # be ours, or the transfer could be returned by one and received by the other.
    connection.execute("SELECT 1")
    refused = [
        (one, answer)
        for one, answer in zip(pending, received, strict=True)
        if answer.status not in ("accepted", "duplicate")
    ]
    returned = ledger.submit([_return(one, answer) for one, answer in refused])
    for (one, _), answer in zip(refused, returned, strict=True):
        if answer.status not in ("accepted", "duplicate"):
            name = one.event.transfer_id
            raise LogError(f"transfer {name!r} of {one.account!r} cannot be returned: {answer}")
    _mark(connection, [(one.account, one.event.transfer_id) for one in pending])
    reasons = {id(one): answer.reason for one, answer in refused}
    return [
        Settled(
            one.event.transfer_id,
            one.account,
            one.event.to_account,
            "returned" if id(one) in reasons else "received",
            reasons.get(id(one)),
        )
        for one in pending
    ]


def _receive(one: _Pending) -> Request:
    event = one.event
    command = ReceiveTransfer(
        transfer_id=event.transfer_id,
        from_account=one.account,
        cash=event.cash,
        legs=one.legs,
        time_precision=event.time_precision,
        sequence=event.sequence,
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
        sequence=event.sequence,
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


def _mark(connection: Connection, transfers: Sequence[tuple[str, str]]) -> None:
    if transfers:
        connection.execute(
            "INSERT INTO transfers_settled (key, id) SELECT * FROM unnest(%s::text[], %s::text[])"
            " ON CONFLICT DO NOTHING",
            ([key for key, _ in transfers], [name for _, name in transfers]),
        )
