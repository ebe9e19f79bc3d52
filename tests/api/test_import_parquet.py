"""Parquet files as facts: the same as of CSV, and what only Parquet can get wrong."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.importing import parquet_files
from api.importing.csv_files import read_csv
from api.importing.lines import Fact, Line, Options, Problem, UnreadableFile
from api.importing.parquet_files import read_parquet
from domain import commands

OPTIONS = Options(digest="ab" * 32)

Read = Callable[..., list[Line]]


def deals(count: int, **changed: Any) -> pa.Table:
    columns: dict[str, Any] = {
        "account": pa.array(["A1"] * count).dictionary_encode(),
        "deal_id": pa.array([f"d{number}" for number in range(count)], pa.large_string()),
        "instrument": ["X"] * count,
        "quantity": pa.array(range(1, count + 1), pa.int64()),
        "price": pa.array([Decimal("1.50")] * count, pa.decimal128(38, 2)),
        "currency": ["USD"] * count,
        "event_time": pa.array(
            [datetime(2024, 1, 2, 14, 30, tzinfo=UTC)] * count, pa.timestamp("us", "Asia/Tokyo")
        ),
        "trader": pa.nulls(count),
    }
    return pa.table({**columns, **changed})


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_table(table: pa.Table, options: Options = OPTIONS, **written: Any) -> list[Line]:
        path = tmp_path / "table.parquet"
        pq.write_table(table, path, **written)
        return list(read_parquet(str(path), options))

    return read_table


def only(lines: list[Line]) -> Problem:
    (problem,) = lines
    assert isinstance(problem, Problem)
    return problem


def test_the_same_rows_as_csv_are_the_same_facts(read: Read, tmp_path: Path) -> None:
    path = tmp_path / "deals.csv"
    path.write_text(
        "account,deal_id,instrument,quantity,price,currency,event_time\n"
        "A1,d0,X,1,1.50,USD,2024-01-02T14:30:00Z\n"
        "A1,d1,X,2,1.50,USD,2024-01-02T14:30:00Z\n"
    )
    from_csv = list(read_csv(str(path), OPTIONS))
    from_parquet = read(deals(2))
    assert [line.line for line in from_parquet] == [1, 2]
    for one, other in zip(from_csv, from_parquet, strict=True):
        assert isinstance(one, Fact)
        assert isinstance(other, Fact)
        assert one.request.command_id == other.request.command_id
        assert one.request.command == other.request.command


def test_ids_of_content_do_not_depend_on_the_scale_of_a_column(read: Read) -> None:
    ids = []
    for scale in (2, 10):
        price = pa.array([Decimal("1.5")], pa.decimal128(38, scale))
        (fact,) = read(deals(1, deal_id=pa.nulls(1), price=price))
        assert isinstance(fact, Fact)
        assert isinstance(fact.request.command, commands.RecordDeal)
        ids.append(fact.request.command.deal_id)
    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    ("unit", "count", "instant", "precision"),
    [
        ("s", 1_704_205_800, "2024-01-02T14:30:00.000000000Z", "second"),
        ("ns", 1_704_205_800_000_000_000, "2024-01-02T14:30:00.000000000Z", "second"),
        ("ms", 1_704_205_800_120, "2024-01-02T14:30:00.120000000Z", "milli"),
        ("ns", 1_704_205_800_120_000_000, "2024-01-02T14:30:00.120000000Z", "milli"),
        ("ns", 1_704_205_800_000_000_007, "2024-01-02T14:30:00.000000007Z", "nano"),
        ("us", -1, "1969-12-31T23:59:59.999999000Z", "micro"),
    ],
)
def test_timestamps(read: Read, unit: str, count: int, instant: str, precision: str) -> None:
    column = pa.array([count], pa.timestamp(unit, "America/New_York"))
    (fact,) = read(deals(1, event_time=column))
    assert isinstance(fact, Fact)
    assert isinstance(fact.request.command, commands.RecordDeal)
    assert (fact.request.event_time, fact.request.command.time_precision) == (instant, precision)


def test_timestamp_without_a_zone(read: Read) -> None:
    column = pa.array([datetime(2024, 1, 2, 9, 30)], pa.timestamp("ms"))  # noqa: DTZ001
    assert only(read(deals(1, event_time=column))).field == "event_time"
    (fact,) = read(deals(1, event_time=column), Options(digest="0", zone="America/New_York"))
    assert isinstance(fact, Fact)
    assert fact.request.event_time == "2024-01-02T14:30:00.000000000Z"


def test_dates(read: Read) -> None:
    for kind in (pa.date32(), pa.date64()):
        column = pa.array([date(2024, 1, 2)], kind)
        (fact,) = read(deals(1, event_time=column))
        assert isinstance(fact, Fact)
        assert fact.request.event_time == "2024-01-02T23:59:59.999999999Z"


@pytest.mark.parametrize(
    ("column", "field"),
    [
        (pa.array([2**45], pa.timestamp("s", "UTC")), "event_time"),
        (pa.array([2**31 - 1], pa.date32()), "event_time"),
        (pa.array([None], pa.timestamp("s", "UTC")), "event_time"),
        (pa.array([0], pa.int64()), "quantity"),
        (pa.array([Decimal("0.1234567890123456789")], pa.decimal128(38, 19)), "price"),
        (pa.array([Decimal(10**60)], pa.decimal256(70, 0)), "price"),
        (pa.array(["NaN"]), "price"),
        (pa.array(["1e400"]), "price"),
        (pa.array([None], pa.string()), "account"),
        (pa.array(["x" * 10_000]), "deal_id"),
        (pa.array(["nul\0"]), "deal_id"),
    ],
)
def test_bad_value_costs_its_row(read: Read, column: pa.Array, field: str) -> None:
    problem = only(read(deals(1, **{field: column})))
    assert (problem.line, problem.field) == (1, field)
    assert problem.reason.startswith("expected ")


def test_deep_column_whose_values_are_not(read: Read) -> None:
    column = pa.array([Decimal("1.5")], pa.decimal128(38, 25))
    (fact,) = read(deals(1, price=column))
    assert isinstance(fact, Fact)
    assert isinstance(fact.request.command, commands.RecordDeal)
    assert str(fact.request.command.price) == "1.5"


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.float16()])
def test_floats_are_refused_with_the_way_out(read: Read, kind: pa.DataType) -> None:
    problem = only(read(deals(2, price=pa.array([1.5, 2.5]).cast(kind))))
    assert (problem.line, problem.field) == (1, "price")
    assert "astype(str)" in problem.reason


@pytest.mark.parametrize(
    "column",
    [
        pa.array([True]),
        pa.array([b"x"]),
        pa.array([["x"]]),
        pa.array([{"a": 1}]),
        pa.array([1], pa.time64("us")),
        pa.array([1], pa.duration("us")),
    ],
)
def test_types_that_no_cell_has(read: Read, column: pa.Array) -> None:
    assert only(read(deals(1, trader=column))).field == "trader"


def test_text_that_is_not_utf_8_costs_its_row(read: Read) -> None:
    raw = pa.array([b"Ren\xe9", b"Bob"], pa.binary())
    wrong = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    problem, fact = read(deals(2, trader=wrong))
    assert isinstance(problem, Problem)
    assert (problem.line, problem.field, problem.value) == (1, "trader", "Ren\\xe9")
    assert isinstance(fact, Fact)


def test_columns_that_do_not_fit(read: Read) -> None:
    assert "missing currency" in only(read(deals(1).drop_columns("currency"))).reason
    unknown = deals(1).append_column("colour", pa.array(["red"]))
    assert "unknown colour" in only(read(unknown)).reason
    twice = deals(1).append_column("price", pa.array(["1"]))
    assert "each column once" in only(read(twice)).reason
    assert read(deals(0)) == []


def test_what_pandas_writes(tmp_path: Path) -> None:
    frame = deals(4).to_pandas()
    frame["price"] = frame["price"].astype(str)
    path = tmp_path / "frame.parquet"
    frame.iloc[[3, 1, 2]].to_parquet(path)
    assert "__index_level_0__" in pq.read_schema(path).names
    lines = list(read_parquet(str(path), OPTIONS))
    assert [isinstance(line, Fact) for line in lines] == [True] * 3
    frame["price"] = [1.5, 2.5, 3.5, 4.5]
    frame.to_parquet(path)
    assert only(list(read_parquet(str(path), OPTIONS))).field == "price"


def test_rows_are_counted_over_groups_and_batches(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_files, "BATCH_ROWS", 4)
    lines = read(deals(25), row_group_size=10)
    assert [line.line for line in lines] == list(range(1, 26))


def test_truncated_file(read: Read, tmp_path: Path) -> None:
    read(deals(100))
    path = tmp_path / "table.parquet"
    whole = path.read_bytes()
    for size in (4, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        problem = only(list(read_parquet(str(path), OPTIONS)))
        assert "cut off or damaged" in problem.reason


def test_damaged_group_is_one_problem_and_the_others_are_read(read: Read, tmp_path: Path) -> None:
    table = deals(300)
    read(table, row_group_size=100, compression="zstd", write_page_checksum=True)
    path = tmp_path / "table.parquet"
    column = pq.ParquetFile(path).metadata.row_group(1).column(1)
    start = column.dictionary_page_offset or column.data_page_offset
    content = bytearray(path.read_bytes())
    content[start + column.total_compressed_size - 5] ^= 0xFF
    path.write_bytes(content)
    lines = list(read_parquet(str(path), OPTIONS))
    kept = [line.line for line in lines if isinstance(line, Fact)]
    assert kept == [*range(1, 101), *range(201, 301)]
    assert [line.line for line in lines if isinstance(line, Problem)] == [101]


@pytest.mark.parametrize(("name", "reason"), [("", "folder"), ("missing", "no such file")])
def test_what_is_not_a_file(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(UnreadableFile, match=reason):
        list(read_parquet(f"{tmp_path}/{name}", OPTIONS))


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.parquet"
    path.touch()
    assert "Parquet" in only(list(read_parquet(str(path), OPTIONS))).reason


quick = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@quick
@given(content=st.binary(max_size=200))
def test_random_bytes_are_lines_and_never_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "random.parquet"
    path.write_bytes(b"PAR1" + content + b"PAR1")
    for line in read_parquet(str(path), OPTIONS):
        assert isinstance(line, Problem)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "good.parquet"
    pq.write_table(deals(50), path, row_group_size=20, compression="none")
    return path.read_bytes()


@quick
@given(data=st.data())
def test_mutated_files_are_lines_and_never_an_error(
    tmp_path: Path, good: bytes, data: st.DataObject
) -> None:
    content = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        size = data.draw(st.integers(0, 8))
        content[place : place + size] = data.draw(st.binary(min_size=0, max_size=8))
    path = tmp_path / "mutated.parquet"
    path.write_bytes(content)
    for line in read_parquet(str(path), OPTIONS):
        assert isinstance(line, Fact | Problem)
        assert line.line >= 1
