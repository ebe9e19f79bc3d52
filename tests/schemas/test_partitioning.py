"""Partitions are Kafka's: a key written by any Kafka client lands where we say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.partitioning import murmur2, partition_of

# From Kafka's own UtilsTest.testMurmur2.
VECTORS = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


@pytest.mark.parametrize("key", VECTORS)
def test_murmur2_is_kafkas(key: str) -> None:
    assert murmur2(key.encode()) == VECTORS[key]
    assert partition_of(key, 16) == (VECTORS[key] & 0x7FFFFFFF) % 16


@given(st.binary(max_size=40))
def test_murmur2_is_a_signed_32_bit_integer(data: bytes) -> None:
    assert -(2**31) <= murmur2(data) < 2**31


def _murmur2_as_java_writes_it(data: bytes) -> int:
    def int32(value: int) -> int:
        return (value + 2**31) % 2**32 - 2**31

    def unsigned_shift(value: int, by: int) -> int:
        return (value % 2**32) >> by

    m = 0x5BD1E995
    h = int32(int32(0x9747B28C) ^ len(data))
    for i in range(len(data) // 4):
        k = int32(sum(data[i * 4 + at] << 8 * at for at in range(4)))
        k = int32(k * m)
        k = int32(k ^ unsigned_shift(k, 24))
        k = int32(k * m)
        h = int32(int32(h * m) ^ k)
    rest = data[len(data) & ~3 :]
    for at in reversed(range(len(rest))):
        h = int32(h ^ (rest[at] << 8 * at))
    if rest:
        h = int32(h * m)
    h = int32(h ^ unsigned_shift(h, 13))
    h = int32(h * m)
    return int32(h ^ unsigned_shift(h, 15))


@given(st.binary(max_size=40))
def test_murmur2_agrees_with_the_source_in_java(data: bytes) -> None:
    assert murmur2(data) == _murmur2_as_java_writes_it(data)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.integers(1, 64))
def test_a_partition_is_one_of_those_there_are(key: str, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions
