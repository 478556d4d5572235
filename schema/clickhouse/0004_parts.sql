-- How the tables of the log keep their parts. A part in the wide format is two files for each of 40
-- columns, each created, synced and deleted again with every merge: measured under load, about a
-- fifth of ClickHouse's CPU went into making files. Compact parts are one file. A part of 512 MiB (uncompressed,
-- about two million events) is wide again: there, reading one column without its neighbours pays.
ALTER TABLE {{db}}.events MODIFY SETTING min_bytes_for_wide_part = 536870912;
ALTER TABLE {{db}}.pieces MODIFY SETTING min_bytes_for_wide_part = 536870912;
ALTER TABLE {{db}}.usage_hourly MODIFY SETTING min_bytes_for_wide_part = 536870912;
ALTER TABLE {{db}}.directory_events MODIFY SETTING min_bytes_for_wide_part = 536870912;
ALTER TABLE {{db}}.dead_letters MODIFY SETTING min_bytes_for_wide_part = 536870912;
ALTER TABLE {{db}}.duplicates MODIFY SETTING min_bytes_for_wide_part = 536870912;
ALTER TABLE {{db}}.ledger MODIFY SETTING min_bytes_for_wide_part = 536870912;
