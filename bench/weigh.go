package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// The tables that grow with events.
var tables = [...]string{"events", "pieces", "usage_hourly", "directory_events", "dead_letters", "duplicates", "ledger"} //arch:global a table

// weigh merges every table into one part per month, as time would, and weighs them.
func (s *system) weigh(ctx context.Context, res *result, verbose bool, out io.Writer) error {
	if verbose {
		if err := s.statements(ctx, out); err != nil {
			return err
		}
	}
	for _, t := range tables {
		if _, err := s.query(ctx, "OPTIMIZE TABLE countinghouse."+t+" FINAL"); err != nil {
			return err
		}
	}
	n, err := s.numbers(ctx, `
SELECT sum(bytes_on_disk), toInt64(sumIf(rows, table = 'events'))
FROM system.parts WHERE database = 'countinghouse' AND active AND table IN ('`+strings.Join(tables[:], `', '`)+`')`)
	if err != nil {
		return err
	}
	if n[1] == 0 {
		return nil
	}
	res.BytesPerEvent = round(float64(n[0])/float64(n[1]), 1)
	if !verbose {
		return nil
	}
	fmt.Fprintln(out, "\nbytes per stored event, merged:")
	per := strconv.FormatInt(n[1], 10)
	return s.listing(ctx, out, `
SELECT table, part, b FROM (
SELECT table, '' AS part, round(sum(bytes_on_disk) / `+per+`, 2) AS b FROM system.parts
WHERE database = 'countinghouse' AND active GROUP BY table
UNION ALL
SELECT table, 'projection ' || name, round(sum(bytes_on_disk) / `+per+`, 2) AS b FROM system.projection_parts
WHERE database = 'countinghouse' AND active GROUP BY table, name
UNION ALL
SELECT table, 'column ' || column, round(sum(column_data_compressed_bytes + column_marks_bytes) / `+per+`, 2) AS b FROM system.parts_columns
WHERE database = 'countinghouse' AND active GROUP BY table, column
) WHERE b >= 0.05 ORDER BY table, part != '', b DESC`)
}

// statements shows where ClickHouse's CPU went, as far as it is statements; merges are threads of their own.
func (s *system) statements(ctx context.Context, out io.Writer) error {
	if _, err := s.query(ctx, "SYSTEM FLUSH LOGS"); err != nil {
		return err
	}
	fmt.Fprintln(out, "\nstatements by CPU (count, rows written, CPU ms, wall ms, text):")
	if err := s.listing(ctx, out, `
SELECT count(), sum(written_rows), intDiv(sum(ProfileEvents['UserTimeMicroseconds'] + ProfileEvents['SystemTimeMicroseconds']), 1000) AS cpu, sum(query_duration_ms),
  substring(replaceRegexpAll(any(query), '\\s+', ' '), 1, 60)
FROM system.query_log WHERE type = 'QueryFinish' GROUP BY normalized_query_hash ORDER BY cpu DESC LIMIT 12`); err != nil {
		return err
	}
	fmt.Fprintln(out, "\nmerges (and whatever else writes parts):")
	return s.listing(ctx, out, `
SELECT event, value FROM system.events
WHERE event IN ('Merge', 'MergedRows', 'MergedUncompressedBytes', 'MergeExecuteMilliseconds', 'MergeTotalMilliseconds', 'MergeProjectionStageExecuteMilliseconds',
  'MergeHorizontalStageExecuteMilliseconds', 'MergeVerticalStageExecuteMilliseconds', 'MergeTreeDataWriterRows', 'MergeTreeDataWriterSortingBlocksMicroseconds',
  'MergeTreeDataProjectionWriterSortingBlocksMicroseconds', 'FileSync', 'FileSyncElapsedMicroseconds', 'DirectorySync', 'DirectorySyncElapsedMicroseconds')
ORDER BY event`)
}

func (s *system) listing(ctx context.Context, out io.Writer, sql string) error {
	rows, err := s.query(ctx, sql)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(w, "  "+strings.Join(r, "\t"))
	}
	return w.Flush()
}
