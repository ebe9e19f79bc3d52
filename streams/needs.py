"""What deciding commands looks at and memory does not know, asked for all at once."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from domain.commands import Request
from domain.decisions import EntityKey
from infra.postgres import Connection
from schemas.partitioning import partition_of
from streams import entity_store
from streams.batch import Asked
from streams.log import TopicPartition
from streams.memory import NO_RECORD, EntityRef, PartitionWork

KeysOf = Callable[[Request], Iterable[EntityKey]]
Works = Mapping[TopicPartition, PartitionWork]


def ask_needs(
    connection: Connection,
    asked: Sequence[Asked],
    works: Works,
    keys_of: KeysOf,
    partitions: int,
) -> Callable[[Works], set[str]]:
    """Ask for heads of streams and entities that `works` do not know.

    What is returned waits for them, lets other works remember them, and returns which kinds of
    entities there were.
    """
    streams = [
        (place, key)
        for place, key in {(one.place, one.request.key) for one in asked}
        if not works[place].knows_head(key)
    ]
    wanted = _unknown(asked, works, keys_of, partitions)
    take_heads = entity_store.ask_heads(connection, streams)
    take_entities = entity_store.ask_entities(connection, wanted)

    def taken(works: Works) -> set[str]:
        heads = take_heads()
        for place, key in streams:
            works[place].memory.heads.put(key, heads.get((place, key), NO_RECORD))
        found: set[str] = set()
        for (place, ref), entity in zip(wanted, take_entities(), strict=True):
            works[place].remember(ref, entity)
            if entity is not None:
                found.add(ref[1])
        return found

    return taken


def _unknown(
    asked: Sequence[Asked], works: Works, keys_of: KeysOf, partitions: int
) -> list[tuple[TopicPartition, EntityRef]]:
    """Return the entities to fetch; an instrument is in the reference log, once for all."""
    wanted: dict[tuple[TopicPartition, EntityRef], None] = {}
    instruments: set[str] = set()
    for one in asked:
        place, key = one.place, one.request.key
        work = works[place]
        for kind, entity_id in keys_of(one.request):
            if kind == "instrument" and place[0] != "reference":
                instruments.add(entity_id)
                continue
            ref = (key, kind, entity_id)
            if not work.knows(ref) and ref not in work.assumed:
                wanted[place, ref] = None
    for name in instruments:
        home: TopicPartition = "reference", partition_of(name, partitions)
        if not works[home].knows((name, "instrument", "")):
            wanted[home, (name, "instrument", "")] = None
    return list(wanted)
