package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/config"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/listing"
	"github.com/countinghouse/countinghouse/internal/rebuild"
	"github.com/countinghouse/countinghouse/internal/repair"
)

func (t *tool) repair() *cobra.Command {
	var dryRun bool
	var ttl time.Duration
	var o repair.Options
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Make rows again, from the log, that ClickHouse has lost",
		Long: `A part whose files are damaged is put aside by ClickHouse without a word, and nothing writes its rows
again by itself: "countinghouse audit" and the aggregator's alarm notice. This command finds the partitions
that lack something (parts put aside, rollups that differ from the rows behind them), reads the log, and
makes those partitions again beside the tables in use; all others are taken as they are, at no cost. What was
made is audited against the log, event by event, and only then takes the old tables' places. Events go on
being counted meanwhile, but for a second or so at the end, when the owners of all shards are made to step
down. Closed months are not made again; each version is hashed again and what differs is said.

Damage that the tables do not show by themselves is named with --partition; the audit says where it is. Rows
of a stream that was deleted cannot be made again.

Killed at any moment, nothing is lost: run it again.

Exits 1 if something is still missing afterwards, if the new tables differ from the log (nothing is exchanged
then), if the disk would not hold them, or if a rebuild or another repair is at work.`,
		Example: `  countinghouse repair --dry-run        # what lacks rows, and why that is known
  countinghouse repair
  countinghouse repair --partition events:{last.} --partition usage_hourly:{last.}`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			format, err := t.format()
			if err != nil {
				return err
			}
			cfg, end, err := t.rebuildConfig(cmd.Context())
			if err != nil {
				return err
			}
			defer end()
			if cfg.LeaseTTL = ttl; ttl < time.Second {
				return usageError("--lease-ttl %s: want at least 1s", ttl)
			}
			if dryRun {
				found, err := repair.Look(cmd.Context(), cfg, o.Partitions, zap.NewNop())
				if err != nil {
					return repairError(err)
				}
				return t.damage(format, found)
			}
			meter := &rebuildMeter{w: t.err, tty: terminal(t.err), begun: time.Now()}
			o.Progress = meter.show
			result, err := repair.Run(cmd.Context(), cfg, o, zap.NewNop())
			meter.done()
			if perr := t.repaired(format, result); perr != nil {
				return perr
			}
			return repairError(err)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&dryRun, "dry-run", false, "only say what lacks rows")
	f.StringArrayVar(&o.Partitions, "partition", nil, "TABLE:PARTITION to make again whatever the tables say; may be repeated")
	f.IntVar(&o.Questions, "questions", rebuild.QuestionsUsual, "how much is asked about each report of the old and the new tables, of all tenants together; at least two of each tenant")
	f.BoolVar(&o.Keep, "keep", false, "keep the old tables, in a database named by the time")
	f.DurationVar(&ttl, "lease-ttl", control.LeaseTTL, "how long to wait for a run that went silent before it is taken for dead")
	return t.listingFlag(t.serverFlags(cmd))
}

// repairError gives what is the answer "no" its exit code.
func repairError(err error) error {
	if errors.Is(err, repair.ErrPartition) {
		return usageError("%v", err)
	}
	for _, refusal := range []error{
		repair.ErrUnplaced, repair.ErrLeft, rebuild.ErrDiffer, rebuild.ErrNoRoom, rebuild.ErrBusy, rebuild.ErrRecreated,
	} {
		if errors.Is(err, refusal) {
			return &config.ExitError{Code: config.ExitNo, Err: err}
		}
	}
	return err
}

// damage prints what lacks rows.
func (t *tool) damage(format listing.Format, found []repair.Damage) error {
	rows := listing.Rows{Columns: []string{"server", "table", "partition", "why"}}
	for _, d := range found {
		rows.Add(d.Server, d.Table, d.Partition, d.Why)
	}
	if len(found) == 0 && format != listing.JSON && format != listing.CSV {
		fmt.Fprintln(t.out, "nothing lacks rows, as far as the tables say; countinghouse audit compares them with the log")
		return nil
	}
	return rows.Print(t.out, format)
}

// repaired prints what was done.
func (t *tool) repaired(format listing.Format, r *repair.Result) error {
	switch format {
	case listing.JSON:
		return listing.Document(t.out, r)
	case listing.CSV:
		return t.damage(format, r.Damage)
	}
	if err := t.damage(format, r.Damage); err != nil {
		return err
	}
	if r.AuditOK {
		fmt.Fprintf(t.out, "\n%d messages of the log read again, %d partitions taken as they were; the new tables equal the log, certificate sha256 %s\n", r.Messages, r.Linked, r.AuditSHA)
	}
	for _, p := range r.Tables {
		if !p.Same() {
			fmt.Fprintf(t.out, "%s: %d rows were there, %d are there now\n", p.Table, p.Rows, p.RowsAfter)
		}
	}
	changed := 0
	for _, p := range r.Reports {
		changed += len(p.Differ)
		for _, q := range p.Differ {
			fmt.Fprintf(t.out, "answers otherwise than before: %s\n", q)
		}
	}
	if r.Exchanged {
		fmt.Fprintf(t.out, "repaired; %d questions to the reports are answered otherwise than before; nothing was counted for %s\n", changed, r.PausedFor)
	}
	t.closedMonths(r.Months)
	for _, d := range r.Left {
		fmt.Fprintf(t.out, "still lacks something: %s\n", d)
	}
	for _, name := range r.KeptIn {
		fmt.Fprintf(t.out, "the old tables are in database %s\n", name)
	}
	return nil
}
