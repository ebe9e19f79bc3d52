"""The commands that look after the ledger: its log, its health, its proofs."""

import getpass
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec
import uuid_utils

from api.events_json import event_json
from api.http.audit import FOLDER, TrailCheck, verify_trail
from api.wiring import Parts, running
from domain.commands import Topic
from domain.errors import InvalidValue
from domain.events import RecordParked
from domain.times import from_ns
from infra.settings import load_settings
from schemas.codec import encode, encode_event, record_hash
from schemas.envelope import Envelope, Record
from schemas.partitioning import partition_of
from streams.log import TOPICS, Draft, LogHalted
from streams.positions import parse_vector
from streams.projecting import Lag
from streams.reader import fresh_state, read_valid
from streams.rebuilding import rebuild_beside
from streams.sql_contract import reader_url
from streams.verifying import Verdict, verify

_CHUNK: Final = 2000


def print_log(home: Path | None, account: str | None, after: str | None, topic: str) -> None:
    """Print records as stored, one a line, with their position and hash."""
    chosen = next((one for one in TOPICS if one == topic), None)
    if chosen is None:
        raise InvalidValue("--topic", topic, "events, prices or reference")
    vector = {} if after is None else parse_vector(after, "--after").vector
    if any(told != chosen for told in vector):
        # From the beginning of a topic that they do not name, all would come once more.
        raise InvalidValue("--after", after, f"positions of {chosen}, the topic asked for")
    places = vector.get(chosen, {})
    with running(load_settings(home)) as parts:
        log = parts.log
        heads = log.heads(chosen)
        partitions = range(log.partitions)
        if any(partition not in partitions for partition in places):
            raise InvalidValue("--after", after, f"partitions from 0 to {log.partitions - 1}")
        if account is not None:
            partitions = range(part := partition_of(account, log.partitions), part + 1)
        for partition in partitions:
            _print_partition(
                parts, chosen, partition, places.get(partition, -1) + 1, heads[partition], account
            )


def _print_partition(
    parts: Parts, topic: Topic, partition: int, offset: int, head: int, account: str | None
) -> None:
    if account is not None:
        for record in parts.streams.read_stream(topic, account, head):
            if record.offset >= offset:
                _print_record(record)
        return
    while offset < head:
        for record in parts.log.read(topic, partition, offset, _CHUNK):
            _print_record(record)
            offset = record.offset + 1


def _print_record(record: Record) -> None:
    sys.stdout.buffer.write(event_json(record) + b"\n")


def print_status(home: Path | None, *, as_json: bool) -> int:
    """Show heads and checkpoints; return 1 when anything is halted."""
    settings = load_settings(home)
    with running(settings) as parts:
        heads = {topic: parts.log.heads(topic) for topic in TOPICS}
        lags = parts.projector.status()
        parkable = _parkable(parts, lags)
        sql_url = reader_url(parts.models.dsn, parts.models.schema)
    is_embedded = settings.store_url.scheme == "embedded"
    halted = any(lag.halted for lag in lags)
    if as_json:
        told: dict[str, Any] = {
            "partitions": _heads(heads["events"]),
            "topics": {topic: _heads(heads[topic]) for topic in TOPICS},
            "projections": lags,
        }
        if is_embedded:
            told["sql"] = sql_url
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
        return int(halted)
    for topic in TOPICS:
        used = sum(head > 1 for head in heads[topic])
        records = sum(heads[topic]) - len(heads[topic])
        sys.stdout.write(f"{topic:<10} {records:>12,} events in {used} partitions\n")
    for name in dict.fromkeys(lag.name for lag in lags):
        behind = sum(lag.lag for lag in lags if lag.name == name)
        sys.stdout.write(f"{name:<12} {behind:>10,} behind\n")
    for lag in lags:
        if lag.halted:
            sys.stdout.write(f"{lag.name} halted in {lag.topic}/{lag.partition}: {lag.halted}\n")
    for position, digest in parkable.items():
        sys.stdout.write(f"to set that record aside: daybook park {position} {digest}\n")
    if is_embedded:
        sys.stdout.write(f"SQL, while a daybook process runs: {sql_url}\n")
    return int(halted)


def _parkable(parts: Parts, lags: list[Lag]) -> dict[str, str]:
    """Return the records at which partitions stand still: the digest of each by its position."""
    found = {}
    for lag in lags:
        topic = next(one for one in TOPICS if one == lag.topic)
        offset = lag.checkpoint + 1
        if _halts_at(lag, topic, lag.partition, offset):
            for record in parts.log.read(topic, lag.partition, offset, 1):
                prefix = "" if topic == "events" else f"{topic}/"
                found[f"{prefix}{lag.partition}:{offset}"] = record_hash(record.value)
    return found


def _halts_at(lag: Lag, topic: Topic, partition: int, offset: int) -> bool:
    """Tell whether a projection stands still at a record, and not for a fault of its own."""
    return (lag.halted or "").startswith(f"{topic}/{partition}:{offset}: ")


def _heads(heads: list[int]) -> list[dict[str, int]]:
    return [{"partition": number, "head": head - 1} for number, head in enumerate(heads)]


def run_verify(home: Path | None) -> int:
    """Check the log, the read models and the audit trail; return 1 when anything differs."""
    settings = load_settings(home)
    with running(settings) as parts:
        parts.projector.catch_up()
        verdict = verify(parts.log, parts.models)
    _print_verdict(verdict)
    trail = verify_trail(settings.home / FOLDER)
    _print_trail(trail)
    return 0 if verdict.is_clean and trail.fault is None else 1


def _print_trail(trail: TrailCheck) -> None:
    for place in trail.torn:
        sys.stdout.write(f"{place}: cut off while it was written\n")
    if trail.fault is not None:
        sys.stdout.write(f"{trail.fault}\n")
    elif trail.lines:
        sys.stdout.write(f"the audit trail holds: {trail.lines:,} lines of {trail.days:,} days\n")


def _print_verdict(verdict: Verdict) -> None:
    sys.stdout.write(
        f"{verdict.records:,} records in {verdict.streams:,} streams, {verdict.voids:,} void;"
        f" {verdict.rows:,} rows of the read models folded again\n"
    )
    for difference in verdict.differences:
        sys.stdout.write(f"{difference.where}: {difference.what}\n")
    if verdict.is_clean:
        sys.stdout.write("the chain of every stream holds, and the books equal the log\n")


def run_rebuild(home: Path | None, name: str | None) -> int:
    """Fill one read model, or all, from the log: those of a newer program as this one has them."""
    with running(load_settings(home)) as parts:
        parts.goes_back = True
        known = {projection.name: projection for projection in parts.models.projections}
        if name is not None and name not in known:
            raise InvalidValue("PROJECTION", name, "one of " + ", ".join(known))
        chosen = list(known.values()) if name is None else [known[name]]
        records = rebuild_beside(parts.log, parts.models, chosen)
    sys.stdout.write(f"{', '.join(one.name for one in chosen)}: {records:,} records read\n")
    return 0


def run_park(home: Path | None, position: str, digest: str) -> int:
    """Append RecordParked for a record that has that digest and at which readers stand still."""
    vector = parse_vector(position, "POSITION").vector
    named = [(topic, *place) for topic, places in vector.items() for place in places.items()]
    if len(named) != 1:
        raise InvalidValue("POSITION", position, "the position of one record")
    ((topic, partition, offset),) = named
    with running(load_settings(home)) as parts:
        found = parts.log.read(topic, partition, offset, 1)
        if not found or found[0].offset != offset:
            raise InvalidValue("POSITION", position, "the position of a record that is there")
        if record_hash(found[0].value) != digest:
            raise InvalidValue("DIGEST", digest, "the SHA-256 of the record, in hex")
        if not _stands_still(parts, topic, partition, offset):
            expected = "a record at which its partition stands still; `daybook status` names them"
            raise InvalidValue("POSITION", position, expected)
        parts.log.append(topic, partition, [_parking(offset, digest)])
    sys.stdout.write(f"{position} is parked\n")
    return 0


def _stands_still(parts: Parts, topic: Topic, partition: int, offset: int) -> bool:
    """Tell whether parking a record sets it aside: what does not halt, it would leave as it is.

    Read models that passed it before it was altered say nothing of it: who begins anew does.
    """
    parts.projector.catch_up()
    if any(_halts_at(lag, topic, partition, offset) for lag in parts.projector.status()):
        return offset > 0
    state = fresh_state(parts.log, topic, partition)
    try:
        while state.next_offset <= offset:
            read_valid(parts.log, topic, partition, state, _CHUNK)
    except LogHalted as halted:
        return halted.offset == offset > 0
    return False


def _parking(offset: int, digest: str) -> Draft:
    recorded_ns = time.time_ns()
    now = from_ns(recorded_ns)
    envelope = Envelope(
        id=str(uuid_utils.uuid7()),
        type="RecordParked",
        event_time=now,
        recorded_time=now,
        actor=getpass.getuser(),
        data=encode_event(RecordParked(offset=offset, digest=digest)),
    )
    return Draft(None, encode(envelope), recorded_ns)


def run_bench(name: str | None) -> int:
    """Run the benchmarks of a checkout."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / "benchmarks" / "__main__.py").exists():
        sys.stderr.write("daybook: the benchmarks are in the source checkout alone\n")
        return 3
    arguments = [] if name is None else [name]
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=folder, check=False).returncode
