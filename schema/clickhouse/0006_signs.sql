-- Negations are few, and views leave voided events out by asking for all of them. Where a granule holds none,
-- its range of `sign` says so: without it the question reads the column of every event there is. Parts that
-- exist get the index in the background; until then they are read as before.
ALTER TABLE {{db}}.events ADD INDEX IF NOT EXISTS by_sign sign TYPE minmax GRANULARITY 1;
ALTER TABLE {{db}}.events MATERIALIZE INDEX by_sign;
