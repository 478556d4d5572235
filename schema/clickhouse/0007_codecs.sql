-- ZSTD was a seventh of an insert into `events` and a quarter of one into the rollup, and merges pay it again. LZ4 is
-- enough for columns that are small in their order anyway: 4 bytes more for an event, 0.4 for its cells. Ids are
-- most of an event on disk, and LZ4 cannot shorten their digits: they stay, as do the columns with a codec of their own.
ALTER TABLE {{db}}.events MODIFY SETTING default_compression_codec = 'LZ4';
ALTER TABLE {{db}}.events MODIFY COLUMN id CODEC(ZSTD(1));
ALTER TABLE {{db}}.usage_hourly MODIFY SETTING default_compression_codec = 'LZ4';
