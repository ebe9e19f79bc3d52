CREATE TABLE instruments (
    instrument text COLLATE "C" PRIMARY KEY,
    kind text NOT NULL,
    currency text NOT NULL,
    from_date text,
    symbol text,
    mic text,
    isin text,
    figi text,
    conid text,
    multiplier numeric NOT NULL,
    price_unit numeric NOT NULL,
    expiry text,
    strike numeric,
    "right" text,
    underlying text,
    time_zone text,
    sector text,
    country text,
    flags text[] NOT NULL,
    changed_offset bigint NOT NULL
);

CREATE TABLE identifiers (
    instrument text COLLATE "C" NOT NULL,
    scheme text NOT NULL,
    value text NOT NULL,
    from_date text NOT NULL,
    to_date text,
    changed_offset bigint NOT NULL,
    PRIMARY KEY (instrument, scheme, value, from_date)
);

CREATE TABLE portfolios (
    portfolio text COLLATE "C" NOT NULL,
    from_date text NOT NULL,
    parent text COLLATE "C",
    changed_offset bigint NOT NULL,
    PRIMARY KEY (portfolio, from_date)
);

CREATE TABLE corporate_actions (
    instrument text COLLATE "C" NOT NULL,
    action_id text COLLATE "C" NOT NULL,
    kind text,
    ex_date text,
    record_date text,
    pay_date text,
    options jsonb,
    status text NOT NULL,
    ref_action_id text,
    changed_offset bigint NOT NULL,
    PRIMARY KEY (instrument, action_id)
);
