"""The migration runner on a real server, alone and in a crowd."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec
import psycopg
import pytest

from infra.errors import MigrationRefused
from infra.migrations import Migration, apply
from infra.postgres import Connection, connect

FIRST = Migration(number=1, name="orders", sql="CREATE TABLE orders (id text); SELECT '100 %s';")
SECOND = Migration(number=2, name="sides", sql="ALTER TABLE orders ADD side text")
BROKEN = Migration(number=3, name="broken", sql="CREATE TABLE half (id text); SELECT 1 / 0")


@dataclass(frozen=True)
class Place:
    dsn: str
    schema: str

    def apply(self, *migrations: Migration, owner: str = "orders") -> tuple[Migration, ...]:
        with connect(self.dsn, schema=self.schema) as connection:
            return apply(connection, owner, migrations, schema=self.schema)

    def ask(self, query: str) -> list[tuple[object, ...]]:
        with connect(self.dsn, schema=self.schema) as connection:
            return connection.execute(query.encode()).fetchall()


@pytest.fixture
def place(dsn: str, schema: str) -> Place:
    return Place(dsn, schema)


def test_each_is_applied_once(place: Place) -> None:
    assert place.apply(FIRST) == (FIRST,)
    assert place.apply(FIRST, SECOND) == (SECOND,)
    assert place.apply(FIRST, SECOND) == ()
    query = "SELECT owner, number, name, sha256, applied_at <= now() FROM daybook_migrations"
    assert sorted(place.ask(query)) == [
        ("orders", 1, "orders", FIRST.sha256, True),
        ("orders", 2, "sides", SECOND.sha256, True),
    ]
    assert place.ask("SELECT id, side FROM orders") == []


def test_owners_are_numbered_apart(place: Place) -> None:
    other = msgspec.structs.replace(FIRST, sql="CREATE TABLE deals (id text)")
    assert place.apply(FIRST) == (FIRST,)
    assert place.apply(other, owner="deals") == (other,)


def test_all_or_nothing(place: Place) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        place.apply(FIRST, SECOND, BROKEN)
    assert place.ask(f"SELECT to_regnamespace('{place.schema}')") == [(None,)]
    assert place.apply(FIRST, SECOND) == (FIRST, SECOND)


def test_many_at_once(place: Place) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(place.apply, FIRST, SECOND) for _ in range(8)]
    assert sorted(len(answer.result()) for answer in answers) == [0] * 7 + [2]


def test_a_changed_one_is_refused_with_both_digests(place: Place) -> None:
    place.apply(FIRST, SECOND)
    changed = msgspec.structs.replace(FIRST, sql=FIRST.sql + " ")
    with pytest.raises(MigrationRefused, match=r"migration 1 of orders \(orders\)") as caught:
        place.apply(changed, SECOND)
    assert FIRST.sha256 in str(caught.value)
    assert changed.sha256 in str(caught.value)


def test_a_newer_database_is_refused(place: Place) -> None:
    place.apply(FIRST, SECOND)
    with pytest.raises(MigrationRefused, match=r"newer than this program.*2 \(sides\)"):
        place.apply(FIRST)


def test_nothing_to_do_needs_no_right_to_write(place: Place) -> None:
    place.apply(FIRST)
    with connect(place.dsn, schema=place.schema, read_only=True) as reader:
        assert apply(reader, "orders", [FIRST], schema=place.schema) == ()


def test_the_tables_are_in_the_schema_told_whatever_the_search_path(
    connection: Connection, place: Place
) -> None:
    connection.execute("SET search_path = public")
    apply(connection, "orders", [FIRST], schema=place.schema)
    assert connection.execute("SHOW search_path").fetchone() == ("public",)
    assert place.ask(f"SELECT id FROM {place.schema}.orders") == []


@pytest.mark.parametrize("migrations", [(SECOND,), (FIRST, FIRST), (SECOND, FIRST)])
def test_numbers_out_of_order(place: Place, migrations: tuple[Migration, ...]) -> None:
    with pytest.raises(ValueError, match="not numbered 1, 2, 3"):
        place.apply(*migrations)
