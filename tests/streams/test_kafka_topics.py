"""Topics are made so that no record is lost, and refused by name when they are not so any more."""

import asyncio
from collections.abc import Mapping

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams.kafka_topics import Fault, TopicFound, TopicsRefused, faults, plans
from tests.streams.kafka_homes import KafkaHome, home

__all__ = ["home"]

EVENTS, *_ = plans("ns", 16)
GOOD: Mapping[str, str] = {**EVENTS.required, "min.insync.replicas": "2"}


def found(partitions: int = 16, replicas: int = 3, **settings: str) -> TopicFound:
    told = {name.replace("_", "."): value for name, value in settings.items()}
    return TopicFound("ns.events", partitions, replicas, {**GOOD, **told})


def test_a_good_topic_has_no_faults() -> None:
    assert faults(EVENTS, found(), brokers=3) == []
    assert faults(EVENTS, found(replicas=5, min_insync_replicas="3"), brokers=5) == []


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        (found(partitions=12), ("partitions", "12", "16")),
        (found(replicas=1), ("replicas", "1", "at least 3")),
        (found(min_insync_replicas="1"), ("min.insync.replicas", "1", "at least 2")),
        (found(retention_ms="604800000"), ("retention.ms", "604800000", "-1")),
        (found(retention_bytes="1073741824"), ("retention.bytes", "1073741824", "-1")),
        (found(cleanup_policy="compact"), ("cleanup.policy", "compact", "delete")),
        (found(cleanup_policy="compact,delete"), ("cleanup.policy", "compact,delete", "delete")),
        (
            found(unclean_leader_election_enable="true"),
            ("unclean.leader.election.enable", "true", "false"),
        ),
        (
            found(message_timestamp_type="LogAppendTime"),
            ("message.timestamp.type", "LogAppendTime", "CreateTime"),
        ),
        (found(max_message_bytes="1048588"), ("max.message.bytes", "1048588", "at least 8388608")),
    ],
)
def test_a_dangerous_setting_is_named(told: TopicFound, fault: tuple[str, str, str]) -> None:
    assert faults(EVENTS, told, brokers=3) == [Fault("ns.events", *fault)]


def test_copies_are_asked_for_as_far_as_there_are_brokers() -> None:
    one = found(replicas=1, min_insync_replicas="1")
    assert faults(EVENTS, one, brokers=1) == []
    assert [fault.setting for fault in faults(EVENTS, one, brokers=2)] == [
        "replicas",
        "min.insync.replicas",
    ]


def test_topics_are_made_as_they_are_checked(home: KafkaHome) -> None:
    home.open(partitions=3).close()

    async def describe(admin: AIOKafkaAdminClient) -> dict[str, int]:
        topics = await admin.describe_topics()
        return {told["topic"]: len(told["partitions"]) for told in topics}

    made = home.administer(describe)
    ours = {name: count for name, count in made.items() if name.startswith(f"{home.namespace}.")}
    assert ours == {
        home.topic(name): 1 if name == "dead-letters" else 3
        for name in ("events", "prices", "reference", "commands", "replies", "dead-letters")
    }


@pytest.mark.parametrize(
    ("topic", "setting", "value"),
    [
        ("events", "retention.ms", "604800000"),
        ("prices", "cleanup.policy", "compact"),
        ("reference", "retention.bytes", "1000000"),
        ("commands", "cleanup.policy", "compact"),
        ("dead-letters", "unclean.leader.election.enable", "true"),
        ("replies", "cleanup.policy", "compact"),
    ],
)
def test_a_setting_changed_later_is_refused(
    home: KafkaHome, topic: str, setting: str, value: str
) -> None:
    home.open().close()
    plan = next(plan for plan in plans(home.namespace, 2) if plan.name == home.topic(topic))
    settings = {**plan.required, setting: value}
    resource = ConfigResource(ConfigResourceType.TOPIC, plan.name, settings)
    home.administer(lambda admin: admin.alter_configs([resource]))
    with pytest.raises(TopicsRefused) as refused:
        home.open()
    (fault,) = refused.value.faults
    assert (fault.topic, fault.setting, fault.value) == (plan.name, setting, value)
    assert str(refused.value).startswith(f"topic {plan.name}: {setting} is {value}; expected ")


def test_another_number_of_partitions_is_refused(home: KafkaHome) -> None:
    home.open(partitions=4).close()
    with pytest.raises(TopicsRefused, match=r"events: partitions is 4; expected 16"):
        home.open(partitions=16)
    again = home.open(partitions=None)
    assert again.partitions == 4
    again.close()


def widen(home: KafkaHome, *topics: str) -> None:
    """Give topics four partitions, and wait until the broker tells so."""
    widened = {home.topic(name): NewPartitions(total_count=4) for name in topics}

    async def widening(admin: AIOKafkaAdminClient) -> None:
        await admin.create_partitions(widened)
        counts: dict[str, int] = {}
        while any(counts.get(name) != 4 for name in widened):
            await asyncio.sleep(0.05)
            counts = {one["topic"]: len(one["partitions"]) for one in await admin.describe_topics()}

    home.administer(widening)


@pytest.mark.parametrize("topic", ["events", "reference", "replies"])
def test_the_topic_that_was_widened_is_the_one_that_is_refused(home: KafkaHome, topic: str) -> None:
    home.open().close()
    widen(home, topic)
    with pytest.raises(TopicsRefused) as refused:
        home.open(partitions=None)
    assert refused.value.faults == [Fault(home.topic(topic), "partitions", "4", "2")]


def test_topics_that_were_all_widened_are_not_those_of_the_log(home: KafkaHome) -> None:
    home.open().close()
    widen(home, "events", "prices", "reference", "commands", "replies")
    with pytest.raises(TopicsRefused, match=r"events: partitions is 4; expected 2"):
        home.open(partitions=None)


def test_a_topic_of_the_same_name_is_not_taken_over(home: KafkaHome) -> None:
    topics = [NewTopic(plan.name, 2, 1) for plan in plans(home.namespace, 2)]
    home.administer(lambda admin: admin.create_topics(topics))
    with pytest.raises(TopicsRefused) as refused:
        home.open()
    told = {(fault.topic, fault.setting) for fault in refused.value.faults}
    assert (home.topic("events"), "retention.ms") in told
    assert (home.topic("dead-letters"), "partitions") in told
