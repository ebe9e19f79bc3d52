"""Batches that are decided before the locks of their partitions are taken, on what is foreseen.

Such a batch is decided while the one before it is being committed, on what that one will have left.
Under the locks it is compared: where the log has ended, in every partition that was read, as it was
foreseen, deciding there would have come to the same; else nothing is written. What was assumed
without asking is found out by the unique indexes of the tables, which refuse the whole batch.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import psycopg
from msgspec import Struct

from domain.commands import RecordDeal
from infra.postgres import Connection
from streams import entity_store
from streams.answers import answer_again
from streams.batch import Asked, Batch
from streams.entity_store import Changes, IndexState
from streams.log import TopicPartition
from streams.memory import EntityRef, PartitionWork
from streams.postgres_log import Tail, lock
from streams.record_rows import copy_packed

_TRUSTED_AFTER: Final = 2
"""After as many batches in which nothing was known, nothing is taken to be known in the next."""
_DISAPPOINTED: Final = 20
"""As many batches more are looked up after something was known nevertheless."""


class Foreseen(Struct, frozen=True):
    """A batch that was decided, and what is to be written of it.

    `read` has where the log ended in every partition that was read, `terms` the terms of those
    that are locked.
    """

    batch: Batch
    works: dict[TopicPartition, PartitionWork]
    read: dict[TopicPartition, int]
    terms: dict[TopicPartition, int]
    records: list[bytes]
    changes: Changes

    def end_of(self, place: TopicPartition) -> Tail | None:
        """Return where a partition will end, None where this batch does not write to it."""
        if place not in self.batch.written:
            return None
        return Tail(self.batch.next_offset[place], self.batch.last_ns[place])


class Trust:
    """Whether deals that come in bulk may be taken to be new, without asking for each."""

    def __init__(self) -> None:
        self._new_batches = 0

    @property
    def holds(self) -> bool:
        """Tell whether the next batch may be decided without asking."""
        return self._new_batches >= _TRUSTED_AFTER

    def looked_up(self, *, was_known: bool) -> None:
        """Take note of a batch that was looked up."""
        self._new_batches = min(self._new_batches, 0) if was_known else self._new_batches + 1

    def disappointed(self) -> None:
        """Take note of a batch in which something was known, although it was not asked for."""
        self._new_batches = -_DISAPPOINTED


def assume_absent(
    asked: Sequence[Asked], works: Mapping[TopicPartition, PartitionWork]
) -> list[Asked]:
    """Take deals that are to be recorded to be absent; return what is to be fetched all the same.

    That is one deal of each account, and of each instrument, and whatever is no mere deal.
    """
    left: dict[str | tuple[TopicPartition, str], Asked] = {}
    others: list[Asked] = []
    for one in asked:
        request = one.request
        command = request.command
        if type(command) is not RecordDeal or command.order_id is not None:
            others.append(one)
            continue
        ref: EntityRef = (request.key, "deal", command.deal_id)
        work = works[one.place]
        if not work.knows(ref):
            work.assumed.add(ref)
        left[one.place, request.key] = left[command.instrument] = one
    return [*others, *left.values()]


def proves_assumed(foreseen: Batch, works: Mapping[TopicPartition, PartitionWork]) -> bool:
    """Tell whether the unique indexes will see everything that was assumed to be absent.

    They see what is recorded: a command that was not might have been answered before, and a deal
    that was refused might be known.
    """
    if any(answer.offset is None for answer in foreseen.answers if answer.status != "conflict"):
        return False
    return all(work.assumed <= work.changed.keys() for work in works.values())


def commit(writer: Connection, foreseen: Foreseen) -> bool:
    """Write a batch if everything is as foreseen, and return whether it is."""
    try:
        with writer.transaction():
            lock(writer, foreseen.terms)
            if not _is_as_foreseen(foreseen, entity_store.index_states(writer)):
                return False
            if foreseen.batch.written:
                copy_packed(writer, foreseen.records)
                tails = foreseen.batch.tails()
                entity_store.write_batch(writer, foreseen.changes, tails, foreseen.terms)
            tell_known(writer, foreseen.batch)
    except psycopg.errors.UniqueViolation:
        return False
    return True


def _is_as_foreseen(foreseen: Foreseen, states: Mapping[TopicPartition, IndexState]) -> bool:
    if any(states[place].term != term for place, term in foreseen.terms.items()):
        return False
    return all(
        states[place].is_current and states[place].next_offset == next_offset
        for place, next_offset in foreseen.read.items()
    )


def tell_known(writer: Connection, batch: Batch) -> None:
    """Complete the answers about facts that were there already with their records."""
    if not batch.known:
        return
    places = {(place, offset) for _, place, offset in batch.known}
    records = entity_store.fetch_records(writer, list(places))
    for index, place, offset in batch.known:
        answer = batch.answers[index]
        record = records[place, offset]
        batch.answers[index] = answer_again(answer.command_id, place[0], record)
