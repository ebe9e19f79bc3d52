"""A process manager of transfers: what an account sent is received, or returned if refused."""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from domain.events import TransferReceived, TransferReturned, TransferSent
from schemas import validity
from schemas.canonical import command_hash
from schemas.envelope import Recorded
from schemas.validity import Halt, PartitionState, look_ahead
from streams import transfers

if TYPE_CHECKING:
    from tests.streams.simulation.world import World


class Courier:
    """Knows only what it has read since it was started; there may be several at once."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.states = [
            PartitionState(topic="events", partition=partition)
            for partition in range(len(world.logs))
        ]
        self.pending: dict[tuple[str, str], Recorded] = {}

    def step(self) -> None:
        """Read one record of each partition, or carry one transfer a step further."""
        behind = self._behind()
        if behind:
            for state in behind:
                self._read(state)
        elif self.pending:
            self._carry(self.world.rng.choice(list(self.pending)))

    @property
    def is_done(self) -> bool:
        """Tell whether it has read everything, and nothing is left to carry."""
        return not self.pending and not self._behind()

    def _behind(self) -> list[PartitionState]:
        logs = self.world.logs
        return [state for state in self.states if state.next_offset < len(logs[state.partition])]

    def _read(self, state: PartitionState) -> None:
        log = self.world.logs[state.partition]
        record = log[state.next_offset]
        try:
            outcome = validity.admit(state, record)
        except Halt:
            state.parked |= look_ahead(log[record.offset :])
            return
        if not isinstance(outcome, Recorded):
            return
        account = outcome.envelope.stream or ""
        match outcome.event:
            case TransferSent(transfer_id=name):
                self.pending.setdefault((account, name), outcome)
            case TransferReceived(transfer_id=name, from_account=sender):
                self.pending.pop((sender, name), None)
            case TransferReturned(transfer_id=name):
                self.pending.pop((account, name), None)
            case _:
                pass

    def _carry(self, which: tuple[str, str]) -> None:
        recorded = self.pending[which]
        assert isinstance(recorded.event, TransferSent)
        one = transfers._Pending(recorded, which[0], recorded.event, ())
        receive = transfers._receive(one)
        if self.world.lacks("transfer_ids"):
            receive = replace(receive, command_id=self.world.new_id())
        answer = self.world.told.get((receive.key, receive.command_id, command_hash(receive)))
        if answer is None or answer.status == "lacking":
            self.world.ask(receive)
        elif answer.status == "refused":
            self.world.ask(transfers._return(one, answer))
        else:
            # Its end may have been read before its beginning: they are in two partitions.
            del self.pending[which]
