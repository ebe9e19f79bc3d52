"""The log's topics in Kafka: made with the settings that keep every record, and held to them.

A setting that could lose or reorder a record is refused at every start, by topic, setting, value
and what was expected. Nothing here changes a topic that is there already.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiokafka import errors  # type: ignore[import-untyped]
from aiokafka.admin import (  # type: ignore[import-untyped]
    AIOKafkaAdminClient,
    NewTopic,
)
from aiokafka.admin.config_resource import (  # type: ignore[import-untyped]
    ConfigResource,
    ConfigResourceType,
)
from msgspec import Struct

from infra.errors import ServerUnavailable
from streams.kafka_client import PART
from streams.log import PARTITIONS, TOPICS, LogError

LARGEST_APPEND: Final = 8 * 1024 * 1024
"""Bytes of one append with its headers: Kafka keeps one batch whole or not at all."""
LARGEST_REPLICATION: Final = 3

_LONGEST: Final = str(2**63 - 1)
_NO_COMPACTION: Final = {"cleanup.policy": "delete"}
_FOR_EVER: Final = {
    **_NO_COMPACTION,
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "unclean.leader.election.enable": "false",
    "message.timestamp.type": "CreateTime",
    "message.timestamp.before.max.ms": _LONGEST,
    "message.timestamp.after.max.ms": _LONGEST,
}
_A_DAY: Final = {"retention.ms": "86400000"}
_A_WEEK: Final = {"retention.ms": "604800000"}
_AT_LEAST: Final = ("max.message.bytes", "min.insync.replicas", "replicas")


class TopicPlan(Struct, frozen=True):
    """A topic as it has to be: `required` is checked at every start, `initial` only given once."""

    name: str
    partitions: int
    required: Mapping[str, str]
    initial: Mapping[str, str]


class TopicFound(Struct, frozen=True):
    """A topic as the brokers describe it; `replicas` are those of the worst-off partition."""

    name: str
    partitions: int
    replicas: int
    settings: Mapping[str, str]


class Fault(Struct, frozen=True):
    """A setting under which records could be lost."""

    topic: str
    setting: str
    value: str
    expected: str

    def __str__(self) -> str:
        return f"topic {self.topic}: {self.setting} is {self.value}; expected {self.expected}"


class TopicsRefused(LogError):  # noqa: N818 - a refusal, as the design calls it
    """Topics are set up so that records could be lost. `faults` has every one of them."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        super().__init__("; ".join(str(fault) for fault in faults))


def topic_name(namespace: str, topic: str) -> str:
    """Return what a topic of the log is called in Kafka: `daybook.events`."""
    return f"{namespace}.{topic}"


def plans(namespace: str, partitions: int) -> list[TopicPlan]:
    """Return every topic of a namespace.

    Commands have as many partitions as events, so that the owner of one partition owns the other.
    Commands and replies may go: who was not answered asks again, and what was decided is an event.
    """
    size = {"max.message.bytes": str(LARGEST_APPEND)}
    kept, passing = {**_FOR_EVER, **size}, {**_NO_COMPACTION, **size}
    logs = [TopicPlan(topic_name(namespace, topic), partitions, kept, {}) for topic in TOPICS]
    return [
        *logs,
        TopicPlan(topic_name(namespace, "commands"), partitions, passing, _A_WEEK),
        TopicPlan(topic_name(namespace, "dead-letters"), 1, kept, {}),
        TopicPlan(topic_name(namespace, "replies"), partitions, passing, _A_DAY),
    ]


def faults(plan: TopicPlan, found: TopicFound, brokers: int) -> list[Fault]:
    """Return what is dangerous about a topic; `brokers` says how many copies there could be."""
    replicas = min(LARGEST_REPLICATION, brokers)
    wanted = {
        "partitions": str(plan.partitions),
        "replicas": str(replicas),
        "min.insync.replicas": str(least_in_sync(replicas)),
        **plan.required,
    }
    has = {"partitions": str(found.partitions), "replicas": str(found.replicas), **found.settings}
    wrong = []
    for setting, expected in wanted.items():
        value = has.get(setting, "not told by the broker")
        if setting in _AT_LEAST and value.isdecimal():
            if int(value) < int(expected):
                wrong.append(Fault(plan.name, setting, value, f"at least {expected}"))
        elif value != expected:
            wrong.append(Fault(plan.name, setting, value, expected))
    return wrong


def least_in_sync(replicas: int) -> int:
    """Return how many copies an acknowledged record must have: most of them."""
    return replicas // 2 + 1


async def ensure_topics(
    admin: AIOKafkaAdminClient, namespace: str, partitions: int | None, told_brokers: int = 1
) -> int:
    """Make the topics that are missing, check all of them, and return how many partitions.

    Topics are made once as many brokers serve as were told: with less they would have too few
    copies for ever. How many partitions a log has is told by most of its topics, where `partitions`
    does not. Raises TopicsRefused, and LogError when topics of the log are missing beside others of
    it.
    """
    brokers = await _brokers(admin)
    there = await _partition_counts(admin, namespace)
    count = partitions or _count_of_most(namespace, there)
    wanted = plans(namespace, count)
    missing = [plan for plan in wanted if plan.name not in there]
    if missing:
        if there:
            _refuse_loss(namespace, there, missing)
        while brokers < min(LARGEST_REPLICATION, told_brokers):
            await asyncio.sleep(0.1)
            brokers = await _brokers(admin)
        await _create(admin, missing, min(LARGEST_REPLICATION, brokers))
    found = await _described(admin, [plan.name for plan in wanted])
    wrong = [fault for plan in wanted for fault in faults(plan, found[plan.name], brokers)]
    if wrong:
        raise TopicsRefused(wrong)
    return count


async def _brokers(admin: AIOKafkaAdminClient) -> int:
    return len((await admin.describe_cluster())["brokers"])


def _count_of_most(namespace: str, there: Mapping[str, int]) -> int:
    """Return how many partitions most topics have, of those that all need the same number."""
    alone = topic_name(namespace, "dead-letters")
    counts = Counter(count for name, count in there.items() if name != alone)
    return counts.most_common(1)[0][0] if counts else PARTITIONS


def _refuse_loss(namespace: str, there: Iterable[str], missing: list[TopicPlan]) -> None:
    """Raise LogError if a topic of records is gone: all are made in one step, or none."""
    kept = {topic_name(namespace, topic) for topic in TOPICS}
    lost = sorted(plan.name for plan in missing if plan.name in kept)
    if lost:
        beside = ", ".join(sorted(there))
        raise LogError(f"topic {', '.join(lost)} is missing beside {beside}: was it deleted?")


async def _create(admin: AIOKafkaAdminClient, missing: list[TopicPlan], replicas: int) -> None:
    in_sync = {"min.insync.replicas": str(least_in_sync(replicas))}
    asked = [
        NewTopic(
            plan.name,
            plan.partitions,
            replicas,
            topic_configs={**in_sync, **plan.required, **plan.initial},
        )
        for plan in missing
    ]
    answer = await admin.create_topics(asked)
    for name, code, message, *_ in answer.topic_errors:
        kind = errors.for_code(code)
        if kind not in (errors.NoError, errors.TopicAlreadyExistsError):
            raise LogError(f"topic {name} cannot be made: {kind.__name__}: {message}")


async def _partition_counts(admin: AIOKafkaAdminClient, namespace: str) -> dict[str, int]:
    # All topics are listed: asking for one by name may make it, with the brokers' own settings.
    ours = {plan.name for plan in plans(namespace, 1)}
    return {
        told["topic"]: len(told["partitions"])
        for told in await admin.describe_topics()
        if told["topic"] in ours
    }


async def _described(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, TopicFound]:
    """Return the topics by name, once every partition of each has a leader."""
    while True:
        topics = {told["topic"]: told for told in await admin.describe_topics()}
        settings = await _settings(admin, names)
        if settings.keys() == set(names) and all(_is_led(topics.get(name)) for name in names):
            return {name: _found(topics[name], settings[name]) for name in names}
        await asyncio.sleep(0.05)


async def _settings(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, Mapping[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    settings: dict[str, Mapping[str, str]] = {}
    for answer in await admin.describe_configs(resources):
        for code, message, _, name, entries in answer.resources:
            kind = errors.for_code(code)
            if kind is errors.NoError:
                settings[name] = {entry[0]: entry[1] for entry in entries}
            elif kind is not errors.UnknownTopicOrPartitionError:
                raise ServerUnavailable(
                    PART,
                    f"the settings of topic {name} cannot be read: {kind.__name__}: {message}",
                    "the user needs DescribeConfigs on the topics",
                )
    return settings


def _is_led(told: Mapping[str, Any] | None) -> bool:
    return told is not None and all(part["leader"] >= 0 for part in told["partitions"])


def _found(told: Mapping[str, Any], settings: Mapping[str, str]) -> TopicFound:
    parts = told["partitions"]
    replicas = min((len(part["replicas"]) for part in parts), default=0)
    return TopicFound(told["topic"], len(parts), replicas, settings)
