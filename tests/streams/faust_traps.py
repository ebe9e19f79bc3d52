"""What Faust 0.15.3 does by itself, shown on a real broker: `faust_traps BOOTSTRAP PREFIX`.

Each case is an app on a topic of its own with 100 numbered records; what came of it is printed as
one JSON object. A process of its own, because Faust is not quiet enough for the tests' own.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, OffsetAndMetadata, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

RECORDS = 100
_QUIET_S = 5.0

Case = Callable[[str, str], Awaitable[dict[str, Any]]]


def _app(hosts: str, name: str) -> Any:
    return faust.App(
        name,
        broker=f"kafka://{hosts}",
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        broker_commit_interval=0.2,
        consumer_auto_offset_reset="earliest",
    )


def _topic(app: Any, name: str) -> Any:
    return app.topic(name, key_type=bytes, value_type=bytes, value_serializer="raw")


async def _run(app: Any, seen: list[int], hosts: str, name: str) -> dict[str, Any]:
    """Run an app until nothing comes any more; tell what it saw and what its group committed."""
    await app.start()
    quiet, count = 0.0, 0
    while not seen or quiet < _QUIET_S:
        await asyncio.sleep(0.1)
        quiet = 0.0 if len(seen) > count else quiet + 0.1
        count = len(seen)
    await app.stop()
    admin = AIOKafkaAdminClient(bootstrap_servers=hosts)
    await admin.start()
    offsets = await admin.list_consumer_group_offsets(name)
    await admin.close()
    missing = sorted(set(range(RECORDS)) - set(seen))
    committed = offsets[TopicPartition(name, 0)].offset
    return {"first": seen[0], "missing": missing, "committed": committed}


async def take_that_raises(hosts: str, name: str) -> dict[str, Any]:
    """`take` acknowledges the batch whose handler raised."""
    app, seen, raised = _app(hosts, name), [], []

    @app.agent(_topic(app, name))
    async def handle(stream: Any) -> None:
        async for values in stream.take(10, within=0.2):
            if b"50" in values and not raised:
                raised.append(True)
                raise RuntimeError("the store is away")
            seen.extend(int(value) for value in values)

    return await _run(app, seen, hosts, name)


async def iteration_that_raises(hosts: str, name: str) -> dict[str, Any]:
    """Plain iteration acknowledges the event whose handler raised."""
    app, seen, raised = _app(hosts, name), [], []

    @app.agent(_topic(app, name))
    async def handle(stream: Any) -> None:
        async for value in stream:
            if value == b"50" and not raised:
                raised.append(True)
                raise RuntimeError("the store is away")
            seen.append(int(value))

    return await _run(app, seen, hosts, name)


async def one_never_acknowledged(hosts: str, name: str) -> dict[str, Any]:
    """One event that is never acknowledged does not hold back what the group commits."""
    app, seen = _app(hosts, name), []

    @app.agent(_topic(app, name))
    async def handle(stream: Any) -> None:
        async for event in stream.noack().events():
            if event.value != b"0":
                seen.append(int(event.value))
                await stream.ack(event)

    return await _run(app, seen, hosts, name)


async def seek_when_assigned(hosts: str, name: str) -> dict[str, Any]:
    """A seek in `on_partitions_assigned` is undone by one to what the group has committed."""
    app, seen, at = _app(hosts, name), [], TopicPartition(name, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=hosts, group_id=name, enable_auto_commit=False)
    await consumer.start()
    consumer.assign([at])
    await consumer.commit({at: OffsetAndMetadata(80, "")})
    await consumer.stop()

    @app.on_partitions_assigned.connect
    async def assigned(app: Any, assigned: Any, **_: Any) -> None:
        await app.consumer.seek(faust.types.TP(name, 0), 20)

    @app.agent(_topic(app, name))
    async def handle(stream: Any) -> None:
        async for event in stream.events():
            offset = event.message.offset
            seen.append(offset)

    return await _run(app, seen, hosts, name)


CASES: tuple[Case, ...] = (
    take_that_raises,
    iteration_that_raises,
    one_never_acknowledged,
    seek_when_assigned,
)


async def _main(hosts: str, prefix: str) -> dict[str, Any]:
    names = {case: f"{prefix}.{case.__name__}" for case in CASES}
    admin = AIOKafkaAdminClient(bootstrap_servers=hosts)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, 1) for name in names.values()])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=hosts)
    await producer.start()
    for name in names.values():
        for number in range(RECORDS):
            await producer.send(name, b"%d" % number)
    await producer.stop()
    told = await asyncio.gather(*(case(hosts, name) for case, name in names.items()))
    return {case.__name__: one for case, one in zip(CASES, told, strict=True)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_main(*sys.argv[1:]))))
