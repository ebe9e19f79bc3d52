"""The group of deciders: which partitions of the commands are whose, and what they hold."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from aiokafka import (  # type: ignore[import-untyped]
    AIOKafkaConsumer,
    ConsumerRebalanceListener,
    TopicPartition,
    errors,
)
from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]
from aiokafka.admin.config_resource import (  # type: ignore[import-untyped]
    ConfigResource,
    ConfigResourceType,
)
from aiokafka.coordinator.assignors.sticky.sticky_assignor import (  # type: ignore[import-untyped]
    StickyPartitionAssignor,
)
from aiokafka.protocol.commit import OffsetFetchRequest  # type: ignore[import-untyped]

from streams.kafka_topics import topic_name

_log = logging.getLogger(__name__)
WANTED_SESSION_MS: Final = 1000
"""An owner that is silent for so long is taken for dead."""
_USUAL_LEAST_MS: Final = 6000
_ASK_MS: Final = 3000
_BEATS: Final = 5
_LEAVE_S: Final = 3.0
_AGAIN_S: Final = 0.05
_NONE: Final = -1
_SETTING: Final = "group.min.session.timeout.ms"

Changed = Callable[[set[int]], Awaitable[None]]


def group_name(namespace: str) -> str:
    """Return what the group of a namespace's deciders is called in Kafka."""
    return f"{namespace}.deciders"


class Group:
    """This decider's membership. `revoking` is awaited before partitions may go to others."""

    def __init__(
        self,
        options: Mapping[str, Any],
        namespace: str,
        session_ms: int,
        revoking: Changed,
        assigned: Changed,
    ) -> None:
        self._topic = topic_name(namespace, "commands")
        self._name = group_name(namespace)
        self._revoking, self._assigned = revoking, assigned
        self._committing = asyncio.Lock()
        self._consumer = AIOKafkaConsumer(
            **options,
            group_id=self._name,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // _BEATS,
            partition_assignment_strategy=(StickyPartitionAssignor,),
            retry_backoff_ms=50,
        )

    async def join(self) -> None:
        """Connect and join; partitions come later, to `assigned`."""
        await self._consumer.start()
        self._consumer.subscribe(
            [self._topic], listener=_Listener(self._consumer, self._revoking, self._assigned)
        )

    async def leave(self) -> None:
        """Leave, so that others are given the partitions at once.

        Brokers that do not answer are not waited for: they will miss our heartbeat.
        """
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._consumer.stop(), _LEAVE_S)
        finally:
            await self._consumer._client.close()  # noqa: SLF001 - stop() comes to it last

    def check(self) -> None:
        """Raise what went wrong for good in the group's own tasks."""
        self._consumer._coordinator.check_errors()  # noqa: SLF001 - getmany, which asks it, reads

    async def committed(self, number: int) -> int | None:
        """Return the offset that was committed last for a partition, None where none was.

        aiokafka's own question overlooks the error of a coordinator that is still loading the
        group, and tells None: all commands there ever were would be decided anew.
        """
        asked = OffsetFetchRequest(self._name, [(self._topic, [number])])
        coordinator = self._consumer._coordinator  # noqa: SLF001 - the connection it keeps
        while True:
            await coordinator.ensure_coordinator_known()
            try:
                return committed_offset(await coordinator._send_req(asked))  # noqa: SLF001
            except errors.KafkaError as error:
                if not error.retriable:
                    raise
                if isinstance(error, errors.NotCoordinatorForGroupError):
                    coordinator.coordinator_dead()
                await asyncio.sleep(_AGAIN_S)

    async def commit(self, offsets: Mapping[int, int]) -> bool:
        """Write down the offsets to go on from; tell whether the group still knows us.

        Only who is of the group's present generation can.
        """
        async with self._committing:
            return await self._commit(offsets)

    async def _commit(self, offsets: Mapping[int, int]) -> bool:
        told = {TopicPartition(self._topic, number): at for number, at in offsets.items()}
        try:
            await self._consumer.commit(told)
        except (errors.KafkaError, ValueError) as error:
            _log.debug("offsets were not committed: %s", error)
            return False
        return True

    async def confirms(self, number: int) -> bool:
        """Ask the group whether a partition is still this member's.

        It is asked by committing again what is committed. No other commit of ours may come between
        the two: it would be taken back, and what it stands for would be decided anew.
        """
        async with self._committing:
            try:
                return await self._commit({number: await self.committed(number) or 0})
            except (errors.KafkaError, ValueError):
                return False


def committed_offset(response: Any) -> int | None:
    """Return the offset that the answer about one partition tells; raises its error."""
    ((_, ((_, offset, _, of_partition),)),) = response.topics or [("", [(0, _NONE, "", 0)])]
    for code in (response.error_code, of_partition):
        if code:
            raise errors.for_code(code)
    return None if offset == _NONE else int(offset)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, consumer: Any, revoking: Changed, assigned: Changed) -> None:
        self._consumer = consumer
        self._revoking = revoking
        self._assigned = assigned

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        await self._revoking({at.partition for at in revoked})

    async def on_partitions_assigned(self, assigned: set[Any]) -> None:
        # The records are read elsewhere: a consumer reads half as fast, and ahead of what is asked.
        self._consumer.pause(*assigned)
        await self._assigned({at.partition for at in assigned})


async def least_session_ms(options: Mapping[str, Any]) -> int:
    """Return the shortest session that the brokers allow, at least the one that is wanted.

    One that stands still is not waited for: it has the setting of the others.
    """
    admin = AIOKafkaAdminClient(**options, request_timeout_ms=_ASK_MS)
    try:
        await admin.start()
        brokers = admin._client.cluster.brokers()  # noqa: SLF001 - to ask for them, any may be asked
        asked = (_least_told(admin, str(one.nodeId)) for one in brokers)
        told = await asyncio.gather(*asked, return_exceptions=True)
    except errors.KafkaError as error:
        told = [error]
    finally:
        await admin.close()
    return longest_least(told)


async def _least_told(admin: AIOKafkaAdminClient, broker: str) -> int | None:
    """Return what one broker has as the shortest session, None where it may not be asked."""
    asked = ConfigResource(ConfigResourceType.BROKER, broker, {_SETTING: None})
    (answer,) = await admin.describe_configs([asked])
    for resource in answer.resources:
        for name, value, *_ in resource[4]:
            if name == _SETTING:
                return int(value)
    return None


def longest_least(told: Iterable[int | BaseException | None]) -> int:
    """Return the session that all brokers allow which told something; raises what is no outage."""
    known = []
    for one in told:
        match one:
            case int():
                known.append(one)
            case errors.KafkaError() | TimeoutError() | None:
                _log.warning("a broker does not tell %s: %s", _SETTING, one or "it is refused")
            case _:
                raise one
    return max([WANTED_SESSION_MS, *(known or [_USUAL_LEAST_MS])])


async def settle(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel tasks and wait for their ends."""
    cancelled = list(tasks)
    for task in cancelled:
        task.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)
