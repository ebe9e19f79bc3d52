CREATE TABLE accounts (
    account text COLLATE "C" PRIMARY KEY,
    base_currency text NOT NULL,
    portfolio text,
    method text NOT NULL,
    fees text NOT NULL,
    actions text NOT NULL,
    time_zone text NOT NULL,
    from_date text,
    status text NOT NULL,
    flags text[] NOT NULL,
    changed_offset bigint NOT NULL
);
