"""Appends records to a log in Kafka at given rates, as owners would, from a process of its own.

`python -m benchmarks.live_feeder FILE` reads its task, ready to be sent, from a file (MessagePack),
and says on standard output, as JSON, what it appended and when: CLOCK_MONOTONIC in nanoseconds,
which all processes of a machine share.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from streams.kafka_log import KafkaLog
from streams.log import Draft

TICK_S: Final = 0.01
"""How often the records that are due are appended, a batch for each partition."""


class Phase(Struct, frozen=True):
    """So many records a second, so many records long."""

    rate: int
    records: int


class Task(Struct, frozen=True):
    """What to append: (partition of `events`, key, value), in order, and how fast."""

    hosts: str
    namespace: str
    phases: list[Phase]
    records: list[tuple[int, str, bytes]]


class Appended(Struct, frozen=True):
    """One batch: when it was due, handed over and acknowledged."""

    phase: int
    partition: int
    offset: int
    count: int
    due_ns: int
    sent_ns: int
    acknowledged_ns: int


def main() -> int:
    """Feed what the file says, and tell what was appended."""
    task = msgspec.msgpack.decode(Path(sys.argv[1]).read_bytes(), type=Task)
    log = KafkaLog.open(task.hosts, task.namespace, clock=lambda: 1)
    try:
        told = [one for number in range(len(task.phases)) for one in _feed(log, task, number)]
    finally:
        log.close()
    sys.stdout.buffer.write(msgspec.json.encode(told))
    return 0


def _feed(log: KafkaLog, task: Task, number: int) -> list[Appended]:
    """Append the records of a phase; return once all are acknowledged."""
    phase = task.phases[number]
    first = sum(one.records for one in task.phases[:number])
    records = task.records[first : first + phase.records]
    sent: list[tuple[Future[int], Appended]] = []
    acknowledged: dict[int, int] = {}
    begin = time.monotonic_ns()
    for tick, batches in enumerate(list(_ticks(records, phase.rate))):
        due_ns = begin + round(tick * TICK_S * 1e9)
        time.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
        for partition, drafts in batches.items():
            now_ns = time.monotonic_ns()
            future = log.submit("events", partition, drafts)
            future.add_done_callback(partial(_note, acknowledged, len(sent)))
            sent.append((future, Appended(number, partition, 0, len(drafts), due_ns, now_ns, 0)))
    offsets = [future.result() for future, _ in sent]
    return [
        msgspec.structs.replace(one, offset=offset, acknowledged_ns=acknowledged[place])
        for place, ((_, one), offset) in enumerate(zip(sent, offsets, strict=True))
    ]


def _note(acknowledged: dict[int, int], place: int, _: "Future[int]") -> None:
    acknowledged[place] = time.monotonic_ns()


def _ticks(
    records: Sequence[tuple[int, str, bytes]], rate: int
) -> Iterator[dict[int, list[Draft]]]:
    """Yield what is due at each tick, by partition."""
    done = 0
    tick = 1
    while done < len(records):
        due = min(round(tick * rate * TICK_S), len(records))
        batches: dict[int, list[Draft]] = {}
        for partition, key, value in records[done:due]:
            batches.setdefault(partition, []).append(Draft(key, value))
        yield batches
        done, tick = due, tick + 1


if __name__ == "__main__":
    sys.exit(main())
