CREATE TABLE orders (
    account text COLLATE "C" NOT NULL,
    order_id text COLLATE "C" NOT NULL,
    ids jsonb,
    cl_ord_id text,
    instrument text COLLATE "C",
    side text,
    order_type text,
    status text NOT NULL,
    quantity numeric,
    limit_price numeric,
    cum_quantity numeric NOT NULL,
    leaves_quantity numeric,
    average_price numeric,
    flags text[] NOT NULL,
    stop_price numeric,
    time_in_force text,
    event_time_ns bigint NOT NULL,
    state text NOT NULL,
    changed_offset bigint NOT NULL,
    PRIMARY KEY (account, order_id)
);
-- What has changed since an offset is asked for at every change, of accounts with any history.
CREATE INDEX orders_changed ON orders (account, changed_offset);

CREATE TABLE order_fills (
    account text COLLATE "C" NOT NULL,
    deal_id text COLLATE "C" NOT NULL,
    order_id text COLLATE "C" NOT NULL,
    quantity numeric NOT NULL,
    price numeric,
    status text NOT NULL,
    changed_offset bigint NOT NULL,
    PRIMARY KEY (account, deal_id)
);
