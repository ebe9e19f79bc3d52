-- What `timescale.sql` keeps summed up, summed up when it is asked for.
CREATE VIEW price_days AS
SELECT instrument, kind, source, currency, unit,
    event_time_ns - mod(mod(event_time_ns, 86400000000000) + 86400000000000, 86400000000000)
        AS day_ns,
    (array_agg(price ORDER BY event_time_ns DESC, seq DESC))[1] AS price,
    max(event_time_ns) AS event_time_ns,
    count(*) AS prices
FROM prices
GROUP BY instrument, kind, source, currency, unit, day_ns
