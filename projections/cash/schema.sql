CREATE TABLE cash (
    account text COLLATE "C" NOT NULL,
    cash_id text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    amount numeric NOT NULL,
    currency text NOT NULL,
    event_time_ns bigint NOT NULL,
    booked_date text NOT NULL,
    settlement_date text,
    status text NOT NULL,
    source_kind text,
    instrument text COLLATE "C",
    relates_to jsonb,
    ids jsonb,
    seq bigint NOT NULL,
    recorded_time_ns bigint NOT NULL,
    flags text[] NOT NULL,
    changed_offset bigint NOT NULL,
    PRIMARY KEY (account, cash_id)
);

CREATE TABLE cash_legs (
    account text COLLATE "C" NOT NULL,
    source text NOT NULL,
    source_id text COLLATE "C" NOT NULL,
    leg text NOT NULL,
    currency text NOT NULL,
    amount numeric NOT NULL,
    business_date text NOT NULL,
    settlement_date text,
    event_time_ns bigint NOT NULL,
    changed_offset bigint NOT NULL,
    PRIMARY KEY (account, source, source_id, leg)
);

CREATE TABLE balance_days (
    account text COLLATE "C" NOT NULL,
    currency text NOT NULL,
    settlement_date text NOT NULL,
    amount numeric NOT NULL,
    changed_offset bigint NOT NULL,
    PRIMARY KEY (account, currency, settlement_date)
);
