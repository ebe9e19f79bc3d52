"""Texts that may have to be forgotten: names, notes. The log holds their id and a salted digest.

What was said can so be proved while it is kept, and erased without breaking a proof: an erased row
stays, without its text and its salt.
"""

import hashlib
import secrets
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from infra import migrations, postgres
from infra.migrations import Migration

_OWNER: Final = "vault"
_SQL: Final = """
CREATE TABLE vault (
    note_id text COLLATE "C" PRIMARY KEY,
    salt text,
    note text,
    digest text NOT NULL
);
"""
_MIGRATIONS: Final = (Migration(1, "vault", _SQL),)


class Kept(Struct, frozen=True):
    """A text that is kept: what an event says of it."""

    note_id: str
    digest: str


def digest_of(salt: str, note: str) -> str:
    """Return the SHA-256, in hex, of a salt and a text."""
    return hashlib.sha256(f"{salt}{note}".encode()).hexdigest()


class Vault:
    """The table of texts. One connection, for one thread."""

    def __init__(self, dsn: str, schema: str) -> None:
        self._connection = postgres.connect(dsn, schema=schema, part="the vault")
        migrations.apply(self._connection, _OWNER, _MIGRATIONS, schema=schema)

    def close(self) -> None:
        """Close the connection."""
        postgres.close(self._connection)

    def keep(self, notes: Sequence[tuple[str, str]]) -> dict[str, Kept]:
        """Keep texts by id and return what events say of them; one that is there stays as it is."""
        salted = [(note_id, secrets.token_hex(16), note) for note_id, note in notes]
        self._connection.execute(
            "INSERT INTO vault (note_id, salt, note, digest)"
            " SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])"
            " ON CONFLICT DO NOTHING",
            (
                [note_id for note_id, _, _ in salted],
                [salt for _, salt, _ in salted],
                [note for _, _, note in salted],
                [digest_of(salt, note) for _, salt, note in salted],
            ),
        )
        rows = self._connection.execute(
            "SELECT note_id, digest FROM vault WHERE note_id = ANY(%s)",
            ([note_id for note_id, _ in notes],),
        ).fetchall()
        return {note_id: Kept(note_id, digest) for note_id, digest in rows}

    def read(self, note_id: str) -> str | None:
        """Return a text, or None when it was erased or never kept."""
        row = self._connection.execute(
            "SELECT note FROM vault WHERE note_id = %s", (note_id,)
        ).fetchone()
        return None if row is None else row[0]

    def erase(self, note_id: str) -> bool:
        """Forget a text and its salt for good; tell whether there was one."""
        cursor = self._connection.execute(
            "UPDATE vault SET note = NULL, salt = NULL WHERE note_id = %s AND note IS NOT NULL",
            (note_id,),
        )
        return cursor.rowcount == 1
