package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// merge makes one part per month of every table, as time would.
func (s *system) merge(ctx context.Context) error {
	for _, t := range warehouse.Projections() {
		if _, err := s.query(ctx, "OPTIMIZE TABLE countinghouse."+t+" FINAL"); err != nil {
			return err
		}
	}
	return nil
}

// weigh merges every table into one part per month, as time would, and weighs them.
func (s *system) weigh(ctx context.Context, res *result, verbose bool, out io.Writer) error {
	if verbose {
		if err := s.statements(ctx, out); err != nil {
			return err
		}
	}
	if err := s.merge(ctx); err != nil {
		return err
	}
	n, err := s.numbers(ctx, `
SELECT sum(bytes_on_disk), toInt64(sumIf(rows, table = 'events'))
FROM system.parts WHERE database = 'countinghouse' AND active AND table IN (`+tableList()+`)`)
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
	return s.listing(ctx, out, perColumn("countinghouse", n[1]))
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

// weight is what the tables of a store take on disk: as they stand, and merged to the end.
type weight struct {
	Rows          int64            `json:"rows"` // of events
	Now           float64          `json:"bytes_per_event_now"`
	Merged        float64          `json:"bytes_per_event_merged"`
	Log           float64          `json:"log_bytes_per_event"`
	Tables        map[string]int64 `json:"merged_bytes"`
	RollupRows    int64            `json:"usage_hourly_rows_merged"`
	Parts         int64            `json:"events_parts_now"`
	Migrations    int64            `json:"migrations"` // that the tables had seen
	Columns       []string         `json:"columns"`    // "table, part, bytes per event", merged
	MergedSeconds float64          `json:"merge_seconds"`
}

// weighDB holds hard links to the parts of the store's tables: merging them there leaves the store with the
// parts that it has, which is how a running warehouse looks.
const weighDB = "countinghouse_bench_weigh"

func (s *system) weighCopy(ctx context.Context, out io.Writer) (w *weight, err error) {
	fmt.Fprintln(out, "merging a copy of the tables, to weigh them …")
	drop := func() error { _, err := s.query(ctx, "DROP DATABASE IF EXISTS "+weighDB+" SYNC"); return err }
	if err := drop(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, drop()) }()
	w = &weight{Tables: map[string]int64{}}
	if w.Rows, err = s.number(ctx, `SELECT count() FROM countinghouse.events`); err != nil || w.Rows == 0 {
		return w, err
	}
	n, err := s.numbers(ctx, `SELECT toInt64(sum(bytes_on_disk)), toInt64(countIf(table = 'events')) FROM system.parts WHERE database = 'countinghouse' AND active AND table IN (`+tableList()+`)`)
	if err != nil {
		return nil, err
	}
	w.Now, w.Parts = round(float64(n[0])/float64(w.Rows), 2), n[1]
	if w.Migrations, err = s.number(ctx, `SELECT toInt64(uniqExact(name)) FROM countinghouse.migrations`); err != nil {
		return nil, err
	}
	logged, err := s.logBytes(ctx)
	if err != nil {
		return nil, err
	}
	w.Log = round(float64(logged)/float64(w.Rows), 2)
	if _, err := s.query(ctx, "CREATE DATABASE "+weighDB); err != nil {
		return nil, err
	}
	began := time.Now()
	for _, t := range warehouse.Projections() {
		if err := s.mergeCopy(ctx, t); err != nil {
			return nil, err
		}
	}
	w.MergedSeconds = round(time.Since(began).Seconds(), 1)
	return w, s.weighMerged(ctx, w)
}

// mergeCopy makes weighDB.table of the parts of the store's, and merges it.
func (s *system) mergeCopy(ctx context.Context, table string) error {
	if _, err := s.query(ctx, "CREATE TABLE "+weighDB+"."+table+" AS countinghouse."+table); err != nil {
		return err
	}
	parts, err := s.query(ctx, "SELECT DISTINCT partition_id FROM system.parts WHERE database = 'countinghouse' AND active AND table = '"+table+"'")
	if err != nil {
		return err
	}
	for _, p := range parts {
		if _, err := s.query(ctx, "ALTER TABLE "+weighDB+"."+table+" ATTACH PARTITION ID '"+p[0]+"' FROM countinghouse."+table); err != nil {
			return err
		}
	}
	_, err = s.query(ctx, "OPTIMIZE TABLE "+weighDB+"."+table+" FINAL")
	return err
}

func (s *system) weighMerged(ctx context.Context, w *weight) error {
	rows, err := s.query(ctx, `SELECT table, sum(bytes_on_disk), sum(rows) FROM system.parts WHERE database = '`+weighDB+`' AND active GROUP BY table`)
	if err != nil {
		return err
	}
	sum := int64(0)
	for _, r := range rows {
		bytes, err := strconv.ParseInt(r[1], 10, 64)
		if err != nil {
			return err
		}
		if r[0] == "usage_hourly" {
			if w.RollupRows, err = strconv.ParseInt(r[2], 10, 64); err != nil {
				return err
			}
		}
		w.Tables[r[0]] = bytes
		sum += bytes
	}
	w.Merged = round(float64(sum)/float64(w.Rows), 2)
	columns, err := s.query(ctx, perColumn(weighDB, w.Rows))
	if err != nil {
		return err
	}
	for _, c := range columns {
		w.Columns = append(w.Columns, strings.Join(c, "\t"))
	}
	return nil
}

func (w *weight) print(out io.Writer) {
	fmt.Fprintf(out, "%d events: %.2f bytes an event in ClickHouse as it stands (%d parts of events), %.2f merged (%.0f s), %.2f in the log; %d rows in usage_hourly\n",
		w.Rows, w.Now, w.Parts, w.Merged, w.MergedSeconds, w.Log, w.RollupRows)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, c := range w.Columns {
		fmt.Fprintln(t, "  "+c)
	}
	_ = t.Flush() // out reports its own errors to whoever reads it
}

// tableList are the tables that grow with events.
func tableList() string { return `'` + strings.Join(warehouse.Projections(), `', '`) + `'` }

// perColumn lists what every table, projection and column takes per event.
func perColumn(database string, events int64) string {
	per := strconv.FormatInt(events, 10)
	return `
SELECT table, part, b FROM (
SELECT table, '' AS part, round(sum(bytes_on_disk) / ` + per + `, 2) AS b FROM system.parts
WHERE database = '` + database + `' AND active GROUP BY table
UNION ALL
SELECT table, 'projection ' || name, round(sum(bytes_on_disk) / ` + per + `, 2) AS b FROM system.projection_parts
WHERE database = '` + database + `' AND active GROUP BY table, name
UNION ALL
SELECT table, 'column ' || column, round(sum(column_data_compressed_bytes + column_marks_bytes) / ` + per + `, 2) AS b FROM system.parts_columns
WHERE database = '` + database + `' AND active GROUP BY table, column
) WHERE b >= 0.05 ORDER BY table, part != '', b DESC`
}
