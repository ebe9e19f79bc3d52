CREATE TABLE prices (
    instrument text COLLATE "C" NOT NULL,
    event_time_ns bigint NOT NULL,
    kind text NOT NULL,
    source text NOT NULL,
    seq bigint NOT NULL,
    price numeric NOT NULL,
    currency text NOT NULL,
    unit numeric NOT NULL,
    price_date text,
    recorded_time_ns bigint NOT NULL,
    changed_offset bigint NOT NULL,
    PRIMARY KEY (instrument, event_time_ns, kind, source, seq)
);
