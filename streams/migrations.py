"""The tables of the Postgres log, and of the decider's index beside it."""

from typing import Final

from infra.migrations import Migration

OWNER: Final = "streams"

# Columns are ordered so that none needs padding; every byte and index here costs throughput.
# Topics are numbers (streams/postgres_log.py). `hash` is the SHA-256 of `value`, which is the
# truth: the other columns repeat what is in it, and `daybook verify` compares them.
_LOG: Final = """
CREATE TABLE log_partitions (
    topic smallint NOT NULL,
    partition smallint NOT NULL,
    partitions integer NOT NULL,
    next_offset bigint NOT NULL,
    last_recorded_ns bigint NOT NULL,
    log_id text NOT NULL,
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);

CREATE TABLE log_records (
    "offset" bigint NOT NULL,
    recorded_ns bigint NOT NULL,
    topic smallint NOT NULL,
    partition smallint NOT NULL,
    hash bytea NOT NULL,
    command_ref bytea,
    key text,
    value bytea NOT NULL,
    PRIMARY KEY (topic, partition, "offset")
);
CREATE INDEX log_records_by_stream ON log_records (topic, key, "offset") WHERE key IS NOT NULL;
CREATE UNIQUE INDEX log_records_by_command ON log_records (command_ref)
    WHERE command_ref IS NOT NULL;

CREATE FUNCTION log_records_are_immutable() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'records of the log are never changed: % of log_records refused', TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER log_records_are_immutable
    BEFORE UPDATE OR DELETE OR TRUNCATE ON log_records
    FOR EACH STATEMENT EXECUTE FUNCTION log_records_are_immutable();
"""

_DECIDER: Final = """
CREATE TABLE decider_checkpoints (
    topic smallint NOT NULL,
    partition smallint NOT NULL,
    format integer NOT NULL,
    next_offset bigint NOT NULL,
    term integer NOT NULL,
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);

CREATE TABLE decider_streams (
    topic smallint NOT NULL,
    partition smallint NOT NULL,
    key text NOT NULL,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (topic, key)
) WITH (fillfactor = 80);

CREATE TABLE decider_entities (
    topic smallint NOT NULL,
    partition smallint NOT NULL,
    key text NOT NULL,
    kind text NOT NULL,
    id text NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (topic, key, kind, id)
) WITH (fillfactor = 90);
"""

_TRANSFERS: Final = """
CREATE TABLE transfers_settled (
    key text NOT NULL,
    id text NOT NULL,
    PRIMARY KEY (key, id)
);
CREATE INDEX decider_entities_transfers ON decider_entities (key, id)
    WHERE topic = 0 AND kind = 'transfer';
"""

# Terms and parkings, which say what counts in each stream of their partition: a few among millions.
_UNKEYED: Final = """
CREATE INDEX log_records_of_no_stream ON log_records (topic, partition, "offset")
    WHERE key IS NULL;
"""

MIGRATIONS: Final = (
    Migration(1, "log", _LOG),
    Migration(2, "decider", _DECIDER),
    Migration(3, "transfers", _TRANSFERS),
    Migration(4, "unkeyed", _UNKEYED),
)
