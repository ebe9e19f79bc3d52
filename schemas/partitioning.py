"""Which partition a key belongs in: exactly as Kafka's default partitioner has it."""

from functools import lru_cache
from typing import Final

_SEED: Final = 0x9747B28C
_MULTIPLIER: Final = 0x5BD1E995
_UINT32: Final = 0xFFFFFFFF
_POSITIVE: Final = 0x7FFFFFFF


@lru_cache(maxsize=1 << 16)
def partition_of(key: str, partitions: int) -> int:
    """Return the partition, from 0, of a key among a number of partitions.

    Source: Kafka's BuiltInPartitioner.partitionForKey, toPositive(murmur2(UTF-8 bytes)) % count.
    """
    return (murmur2(key.encode()) & _POSITIVE) % partitions


def murmur2(data: bytes) -> int:
    """Return Kafka's 32-bit MurmurHash2, signed as Java's int is.

    Source: org.apache.kafka.common.utils.Utils.murmur2.
    """
    length = len(data)
    whole = length - length % 4
    state = _SEED ^ length
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * _MULTIPLIER & _UINT32
        word = (word ^ word >> 24) * _MULTIPLIER & _UINT32
        state = state * _MULTIPLIER & _UINT32 ^ word
    if whole < length:
        tail = int.from_bytes(data[whole:], "little")
        state = (state ^ tail) * _MULTIPLIER & _UINT32
    state = (state ^ state >> 13) * _MULTIPLIER & _UINT32
    state ^= state >> 15
    return state - (1 << 32) if state > _POSITIVE else state
