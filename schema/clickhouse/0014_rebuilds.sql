-- What `countinghouse rebuild` does with the tables of this database. Writer: that command, one at a time (a lease in
-- CONTROL's bucket). Reader: it, and every aggregator that takes a shard over: while the last step is `exchanging`
-- nobody may write, because some tables may be the new ones and some the old. Rows are for ever, as those of `owner`.
CREATE TABLE IF NOT EXISTS {{db}}.rebuilds
(
    n      UInt64,                      -- number of the step; the highest is how things are
    step   LowCardinality(String),      -- exchanging, exchanged, undone
    tables Map(String, UUID),           -- of `exchanging`: the new tables by name; one that has this UUID has been exchanged
    holder String,                      -- who did it, for people
    at     DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY n
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
