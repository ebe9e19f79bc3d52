-- What TimescaleDB does by itself with prices that serve; beside them it would be in the way.
SELECT {timescale}.add_continuous_aggregate_policy('price_days',
    start_offset => NULL, end_offset => 86400000000000, schedule_interval => interval '1 minute',
    if_not_exists => true);
SELECT {timescale}.add_compression_policy(
    'prices', compress_after => 366 * 86400000000000, if_not_exists => true)
