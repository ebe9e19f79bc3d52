"""Programs that nobody here wrote read every read model, and their decimals are those of JSON."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pandas as pd
import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from api.read_models import READ_MODELS
from tests.api.http.server import TIME, Server, cash, deal, order

Rows = Sequence[Mapping[str, Any]]
ACCOUNT = "R1"
OF_ALL = ("accounts", "instruments", "prices")
DECIMALS = {
    name: [column for column, kind in model.columns if kind == "decimal"]
    for name, model in READ_MODELS.items()
}


def _path(model: str) -> str:
    return f"/v1/{model}" if model in OF_ALL else f"/v1/accounts/{ACCOUNT}/{model}"


def _reference(command_id: str, type_: str, /, **data: Any) -> dict[str, Any]:
    about = {"command_id": command_id, "type": type_, "key": "AAPL", "event_time": TIME}
    return {**about, "data": data}


@pytest.fixture(scope="module")
def book(api: httpx.Client) -> httpx.Client:
    """A server with an account that has rows, and awkward numbers, in every read model."""
    deals = [
        deal(ACCOUNT, "D1", price="0.000000000000000001", quantity="123456789012345678"),
        deal(ACCOUNT, "D2", price="185.645", fees=[_fee("1.10")], strategy="a, \"b\"\nand 'c'"),
        deal(ACCOUNT, "D3", price="-37.63", instrument="OIL", side="sell"),
        deal(ACCOUNT, "D4", price="0.1", quantity="0.000000000000000001", instrument="DUST"),
    ]
    about = {"account": ACCOUNT, "event_time": TIME}
    transfer = {**about, "transfer_id": "T1", "to_account": "R2"}
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/accounts", {**about, "base_currency": "USD"}),
        ("/v1/commands", _reference("i", "DefineInstrument", kind="equity", currency="USD")),
        *(("/v1/deals", body) for body in deals),
        ("/v1/orders", order(ACCOUNT, "O1", order_type="limit", limit_price="185.640")),
        ("/v1/cash", cash(ACCOUNT, "C1", "99999999999999999999.01")),
        ("/v1/transfers", {**transfer, "cash": [{"currency": "USD", "amount": "5.5"}]}),
        ("/v1/commands", _reference("p", "RecordPrice", price="190.123456789", currency="USD")),
    ]
    for path, body in bodies:
        answer = api.post(path, json=body)
        assert answer.status_code == 201, answer.text
    return api


def _fee(amount: str) -> dict[str, str]:
    return {"kind": "commission", "amount": amount, "currency": "USD"}


def _arrow(content: bytes) -> "pa.Table":
    return pa.ipc.open_stream(content).read_all()


def _by_duckdb(query: str, **tables: Any) -> Rows:
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        rows: Rows = connection.sql(query).to_arrow_table().to_pylist()
        return rows


def _duckdb_file(reader: str, content: bytes, folder: Path) -> Rows:
    path = folder / "table"
    path.write_bytes(content)
    return _by_duckdb(f"SELECT * FROM {reader.format(path)}")


def _pyarrow_csv(content: bytes, _: Path) -> Rows:
    names = next(csv.reader(io.StringIO(content.decode())))
    as_text = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        strings_can_be_null=True,
        null_values=[""],
        quoted_strings_can_be_null=False,
    )
    lines = pyarrow.csv.ParseOptions(newlines_in_values=True)
    table = pyarrow.csv.read_csv(io.BytesIO(content), parse_options=lines, convert_options=as_text)
    rows: Rows = table.to_pylist()
    return rows


def _records(frame: Any) -> Rows:
    rows: Rows = pa.Table.from_pandas(frame, preserve_index=False).to_pylist()
    return rows


Reader = Callable[[bytes, Path], Rows]
READERS: dict[tuple[str, str], Reader] = {
    ("arrow", "pyarrow"): lambda told, _: _arrow(told).to_pylist(),
    ("arrow", "pandas"): lambda told, _: _records(
        _arrow(told).to_pandas(types_mapper=pd.ArrowDtype)
    ),
    ("arrow", "polars"): lambda told, _: pl.read_ipc_stream(io.BytesIO(told)).to_dicts(),
    ("arrow", "duckdb"): lambda told, _: _by_duckdb("SELECT * FROM told", told=_arrow(told)),
    ("parquet", "pyarrow"): lambda told, _: pq.read_table(io.BytesIO(told)).to_pylist(),
    ("parquet", "pandas"): lambda told, _: _records(
        pd.read_parquet(io.BytesIO(told), dtype_backend="pyarrow")
    ),
    ("parquet", "polars"): lambda told, _: pl.read_parquet(io.BytesIO(told)).to_dicts(),
    ("parquet", "duckdb"): lambda told, folder: _duckdb_file("read_parquet('{}')", told, folder),
    ("csv", "pyarrow"): _pyarrow_csv,
    ("csv", "pandas"): lambda told, _: _records(
        pd.read_csv(
            io.BytesIO(told), dtype="string[pyarrow]", keep_default_na=False, na_values=[""]
        )
    ),
    ("csv", "polars"): lambda told, _: pl.read_csv(io.BytesIO(told), infer_schema=False).to_dicts(),
    ("csv", "duckdb"): lambda told, folder: _duckdb_file(
        "read_csv('{}', header = true, all_varchar = true)", told, folder
    ),
}


def _decimal(value: Any) -> Decimal | None:
    assert not isinstance(value, float), value
    return None if value is None else Decimal(value)


def _exact(rows: Rows, names: Sequence[str]) -> list[list[Decimal | None]]:
    return [[_decimal(row[name]) for name in names] for row in rows]


@pytest.mark.parametrize("model", READ_MODELS)
@pytest.mark.parametrize("written", ["arrow", "parquet", "csv"])
def test_they_read_the_numbers_of_json(
    book: httpx.Client, model: str, written: str, tmp_path: Path
) -> None:
    rows = book.get(_path(model)).json()["data"]
    assert rows
    content = book.get(_path(model), params={"format": written}).content
    texts = [name for name in READ_MODELS[model].key if isinstance(rows[0].get(name), str)]
    for (form, program), read in READERS.items():
        if form == written:
            found = read(content, tmp_path)
            assert list(found[0]) == list(rows[0]), program
            assert _exact(found, DECIMALS[model]) == _exact(rows, DECIMALS[model]), program
            assert [[row[name] for name in texts] for row in found] == [
                [row[name] for name in texts] for row in rows
            ], program


def test_text_is_what_it_was(book: httpx.Client, tmp_path: Path) -> None:
    told = {row["strategy"] for row in book.get(_path("deals")).json()["data"]}
    assert "a, \"b\"\nand 'c'" in told
    for (form, program), read in READERS.items():
        content = book.get(_path("deals"), params={"format": form}).content
        assert {row["strategy"] for row in read(content, tmp_path)} == told, (form, program)


@pytest.mark.parametrize("model", READ_MODELS)
def test_sql_tells_the_same(book: httpx.Client, open_server: Server, model: str) -> None:
    rows = book.get(_path(model)).json()["data"]
    names = [name for name in (*READ_MODELS[model].key, *DECIMALS[model]) if name in rows[0]]
    told = sorted(_plain(rows, names, DECIMALS[model]), key=repr)
    chosen = ", ".join(f'"{name}"' for name in names)
    where = "" if model in OF_ALL else f" WHERE account = '{ACCOUNT}'"
    with psycopg.connect(open_server.settings.store_url.text) as connection:
        cursor = connection.execute(f"SELECT {chosen} FROM daybook_sql.{model}{where}")
        by_sql = [dict(zip(names, row, strict=True)) for row in cursor]
    assert sorted(_plain(by_sql, names, DECIMALS[model]), key=repr) == told
    table = _arrow(book.get(_path(model), params={"format": "arrow"}).content)
    by_duckdb = _by_duckdb(f"SELECT {chosen} FROM told", told=table)
    assert sorted(_plain(by_duckdb, names, DECIMALS[model]), key=repr) == told


def _plain(rows: Rows, names: Sequence[str], decimals: Sequence[str]) -> list[list[Any]]:
    """Return values without the zeros that one program keeps and another does not."""
    return [
        [_digits(row[name]) if name in decimals else row[name] for name in names] for row in rows
    ]


def _digits(value: Any) -> str | None:
    number = _decimal(value)
    if number is None:
        return None
    text = format(number, "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"
