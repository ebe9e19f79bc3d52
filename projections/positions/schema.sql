CREATE TABLE deals (
    account text COLLATE "C" NOT NULL,
    deal_id text COLLATE "C" NOT NULL,
    order_id text COLLATE "C",
    instrument text COLLATE "C" NOT NULL,
    currency text NOT NULL,
    side text NOT NULL,
    quantity numeric NOT NULL,
    price numeric,
    cost numeric NOT NULL,
    net numeric NOT NULL,
    fees numeric NOT NULL,
    capitalise_fees boolean NOT NULL,
    kind text NOT NULL,
    multiplier numeric NOT NULL,
    price_unit numeric NOT NULL,
    status text NOT NULL,
    event_time_ns bigint NOT NULL,
    sequence bigint NOT NULL,
    seq bigint NOT NULL,
    trade_date text NOT NULL,
    settlement_date text,
    recorded_time_ns bigint NOT NULL,
    flags text[] NOT NULL,
    details jsonb,
    changed_offset bigint NOT NULL,
    PRIMARY KEY (account, deal_id)
);
-- Holds all that a position as of a past time is summed up from: the deals of an account lie
-- scattered over the table, and reading each from there takes ten times as long.
CREATE INDEX deals_by_position
    ON deals (account, instrument, currency, event_time_ns, sequence, seq)
    INCLUDE (side, quantity, cost, fees, capitalise_fees, multiplier, price_unit, status, kind,
        trade_date);
-- What has changed since an offset is asked for at every change, of accounts with any history.
CREATE INDEX deals_changed ON deals (account, changed_offset);
CREATE INDEX deals_naming_lots ON deals (account) WHERE details ? 'lots';

CREATE TABLE movements (
    account text COLLATE "C" NOT NULL,
    movement_id text COLLATE "C" NOT NULL,
    leg integer NOT NULL,
    reason text NOT NULL,
    instrument text COLLATE "C",
    currency text NOT NULL,
    quantity numeric NOT NULL,
    lots jsonb,
    action_id text,
    status text NOT NULL,
    event_time_ns bigint NOT NULL,
    sequence bigint NOT NULL,
    seq bigint NOT NULL,
    trade_date text NOT NULL,
    recorded_time_ns bigint NOT NULL,
    flags text[] NOT NULL,
    changed_offset bigint NOT NULL,
    PRIMARY KEY (account, movement_id, leg)
);

CREATE TABLE lots (
    account text COLLATE "C" NOT NULL,
    instrument text COLLATE "C" NOT NULL,
    currency text NOT NULL,
    ordinal bigint NOT NULL,
    lot_id text COLLATE "C" NOT NULL,
    deal_id text COLLATE "C",
    opened_at_ns bigint NOT NULL,
    quantity numeric NOT NULL,
    remaining numeric NOT NULL,
    cost numeric NOT NULL,
    changed_offset bigint NOT NULL,
    PRIMARY KEY (account, instrument, currency, ordinal)
);

CREATE TABLE positions (
    account text COLLATE "C" NOT NULL,
    instrument text COLLATE "C" NOT NULL,
    currency text NOT NULL,
    quantity numeric NOT NULL,
    cost_basis numeric NOT NULL,
    average_cost numeric,
    realised_pnl numeric NOT NULL,
    fees numeric NOT NULL,
    multiplier numeric NOT NULL,
    price_unit numeric NOT NULL,
    lots_opened bigint NOT NULL,
    flags text[] NOT NULL,
    last_event_time_ns bigint NOT NULL,
    last_sequence bigint NOT NULL,
    last_seq bigint NOT NULL,
    changed_offset bigint NOT NULL,
    PRIMARY KEY (account, instrument, currency)
);

CREATE TABLE lot_methods (
    account text COLLATE "C" PRIMARY KEY,
    method text NOT NULL,
    changed_offset bigint NOT NULL
);

CREATE TABLE waiting_fees (
    account text COLLATE "C" NOT NULL,
    fee_id text COLLATE "C" NOT NULL,
    deal_id text COLLATE "C" NOT NULL,
    fees jsonb NOT NULL,
    changed_offset bigint NOT NULL,
    PRIMARY KEY (account, fee_id)
);
