package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/config"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/listing"
	"github.com/countinghouse/countinghouse/internal/months"
	"github.com/countinghouse/countinghouse/internal/rebuild"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

func (t *tool) rebuild() *cobra.Command {
	var dryRun bool
	var ttl time.Duration
	var o rebuild.Options
	cmd := &cobra.Command{
		Use:   "rebuild",
		Short: "Make all tables again from the log, prove that they say the same, and exchange them",
		Long: `Counts the whole log once more, into new tables beside the ones in use, while events go on being
counted. When the new tables have caught up they are audited against the log and compared with the old
ones: every row, and every report of every tenant at one cut. Only then do they take the old ones' places,
which takes a second or so in which nothing is counted (ingest notices nothing), and the old ones are
dropped. Closed versions of months and keys are not in the log and stay as they are.

Killed at any moment, this command, an aggregator or ClickHouse, nothing is lost; run it again, and it goes
on where it was: filling, or finishing the exchange.

Exits 1 if anything differs (nothing is exchanged then), if the disk would not hold both, or if another
rebuild is at work.`,
		Example: `  countinghouse rebuild --dry-run       # what it would do, and the disk it needs
  countinghouse rebuild
  countinghouse rebuild -o json > proof.json`,
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
				return t.rebuildPlan(cmd.Context(), cfg, format)
			}
			meter := &rebuildMeter{w: t.err, tty: terminal(t.err), begun: time.Now()}
			o.Progress = meter.show
			result, err := rebuild.Run(cmd.Context(), cfg, o, zap.NewNop())
			meter.done()
			if perr := t.rebuilt(format, result); perr != nil {
				return perr
			}
			for _, refusal := range []error{rebuild.ErrDiffer, rebuild.ErrNoRoom, rebuild.ErrBusy, rebuild.ErrRecreated} {
				if errors.Is(err, refusal) {
					return &config.ExitError{Code: config.ExitNo, Err: err}
				}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVar(&dryRun, "dry-run", false, "only say what would be done, and what disk it needs")
	f.BoolVar(&o.Keep, "keep", false, "keep the old tables, in a database named by the time")
	f.IntVar(&o.Questions, "questions", rebuild.QuestionsUsual, "how much is asked about each report of the old and the new tables, of all tenants together; at least two of each tenant")
	f.BoolVar(&o.Fresh, "fresh", false, "drop what an interrupted run has filled, and begin again")
	f.BoolVar(&o.AcceptDifferences, "accept-differences", false, "exchange although the new tables differ from the old ones: for old ones that are damaged; the audit of the new ones must be without difference all the same")
	f.DurationVar(&ttl, "lease-ttl", control.LeaseTTL, "how long to wait for a rebuild that went silent before it is taken for dead")
	return t.listingFlag(t.serverFlags(cmd))
}

// rebuildConfig opens what a rebuild needs.
func (t *tool) rebuildConfig(ctx context.Context) (rebuild.Config, func(), error) {
	e, err := t.where.endpoints(needNATS, needClickHouse)
	if err != nil {
		return rebuild.Config{}, nil, err
	}
	servers, err := t.openWarehouses(ctx) // it answers, and its configuration is right
	if err != nil {
		return rebuild.Config{}, nil, err
	}
	_ = servers.Close() // nothing was asked
	l, err := openLog(ctx, e)
	if err != nil {
		return rebuild.Config{}, nil, err
	}
	store, err := control.Open(ctx, l.Conn(), zap.NewNop())
	if err != nil {
		l.Close()
		return rebuild.Config{}, nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "rebuild"
	}
	cfg := rebuild.Config{
		Log: l, Control: store, Holder: "rebuild-" + host,
		ClickHouse: warehouse.Config{DSN: e.ClickHouse, Servers: t.where.servers, Cluster: t.where.cluster},
	}
	return cfg, func() { closeBoth(store, l) }, nil
}

func closeBoth(store *control.Store, l *eventlog.Log) {
	store.Close()
	l.Close()
}

func (t *tool) rebuildPlan(ctx context.Context, cfg rebuild.Config, format listing.Format) error {
	p, err := rebuild.Look(ctx, cfg, zap.NewNop())
	if err != nil {
		return err
	}
	if format == listing.JSON {
		if err := listing.Document(t.out, p); err != nil {
			return err
		}
	} else if err := t.planTables(format, p); err != nil {
		return err
	}
	if !p.Possible {
		return &config.ExitError{Code: config.ExitNo, Err: rebuild.ErrNoRoom}
	}
	return nil
}

func (t *tool) planTables(format listing.Format, p rebuild.Plan) error {
	tables := listing.Rows{Columns: []string{"server", "table", "rows", "size"}, Numbers: []string{"rows"}}
	for _, s := range p.Servers {
		for _, x := range s.Tables {
			tables.Add(s.Server, x.Name, strconv.FormatUint(x.Rows, 10), size(x.Bytes))
		}
	}
	if format == listing.CSV {
		return tables.Print(t.out, format)
	}
	for _, l := range p.Log {
		fmt.Fprintf(t.out, "partition %d of the log: %d messages, %s, are counted again\n", l.Partition, l.Messages, size(uint64(l.Bytes)))
	}
	for _, c := range p.Carried {
		fmt.Fprintf(t.out, "shard %d up to %d: its stream is gone; its rows are copied\n", c.Shard, c.Seq)
	}
	for _, s := range p.Servers {
		fmt.Fprintf(t.out, "%s: %s of tables are made again, which may take %s beside them; %s are free\n", s.Server, size(s.Bytes), size(s.Need), size(s.Free))
	}
	switch p.State {
	case rebuild.StateFilling:
		fmt.Fprintln(t.out, "an interrupted run has filled new tables; they are filled on (--fresh drops them)")
	case rebuild.StateExchanging:
		fmt.Fprintln(t.out, "an interrupted run has begun to exchange the tables; that is finished, or undone, first")
	case rebuild.StateLeftOver:
		fmt.Fprintln(t.out, "an interrupted run has left the old tables over; they are dropped first")
	}
	fmt.Fprintln(t.out)
	return tables.Print(t.out, format)
}

// rebuilt prints what was proved.
func (t *tool) rebuilt(format listing.Format, r *rebuild.Result) error {
	if format == listing.JSON {
		return listing.Document(t.out, r)
	}
	same := map[bool]string{true: "same", false: "DIFFERS"}
	reports := listing.Rows{
		Columns: []string{"report", "questions", "refused", "left_out", "rows", "sha256", "verdict"},
		Numbers: []string{"questions", "refused", "left_out", "rows"},
	}
	for _, p := range r.Reports {
		reports.Add(p.Report, strconv.Itoa(p.Questions), strconv.Itoa(p.Refused), strconv.Itoa(p.LeftOut), strconv.FormatUint(p.Rows, 10), p.After, same[p.Same()])
	}
	if format == listing.CSV {
		return reports.Print(t.out, format)
	}
	tables := listing.Rows{Columns: []string{"table", "rows", "before", "after", "verdict"}, Numbers: []string{"rows"}}
	for _, p := range r.Tables {
		tables.Add(p.Table, strconv.FormatUint(p.Rows, 10), p.Before, p.After, same[p.Same()])
	}
	for _, c := range r.Carried {
		fmt.Fprintf(t.out, "shard %d up to %d was copied: its stream is gone\n", c.Shard, c.Seq)
	}
	if r.AuditOK {
		fmt.Fprintf(t.out, "%d messages counted again; the new tables equal the log, certificate sha256 %s\n\n", r.Messages, r.AuditSHA)
	}
	for _, rows := range []*listing.Rows{&tables, &reports} {
		if len(r.Reports) == 0 && len(r.Tables) == 0 {
			break
		}
		if err := rows.Print(t.out, format); err != nil {
			return err
		}
		fmt.Fprintln(t.out)
	}
	for _, p := range r.Reports {
		for _, q := range p.Differ {
			fmt.Fprintf(t.out, "differs: %s\n", q)
		}
	}
	switch {
	case r.Resumed && r.Exchanged:
		fmt.Fprintln(t.out, "the exchange that an interrupted run had begun is finished; it had compared everything before")
	case r.Exchanged:
		fmt.Fprintf(t.out, "exchanged; nothing was counted for %s\n", r.PausedFor)
	}
	t.closedMonths(r.Months)
	for _, name := range r.KeptIn {
		fmt.Fprintf(t.out, "the old tables are in database %s\n", name)
	}
	return nil
}

// closedMonths prints how the closed versions of months were found.
func (t *tool) closedMonths(all []months.VersionProof) {
	same := 0
	for _, p := range all {
		if p.Same() {
			same++
			continue
		}
		what := "its rows are others than were closed; the reporter puts lost ones back by itself"
		if p.Stored == p.SHA256 {
			what = "the tables now say something else at its cut: it was closed from damaged ones, or the program has changed since; it stays as it is, countinghouse month close makes the next version"
		}
		if p.Trouble != "" {
			what = p.Trouble
		}
		fmt.Fprintf(t.out, "version %d of %s of %s DIFFERS: %s\n", p.Version, p.Month, p.Tenant, what)
	}
	if len(all) > 0 {
		fmt.Fprintf(t.out, "%d of %d closed versions have the hash they were closed under, stored and computed anew\n", same, len(all))
	}
}

// size is bytes for people.
func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	rest, i := uint64(0), 0
	for n >= 1024 && i < len(units)-1 {
		n, rest = n/1024, n%1024
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%d.%d %s", n, rest*10/1024, units[i])
}

// rebuildMeter shows how far a rebuild is: a line that changes on a terminal, else one every few seconds.
type rebuildMeter struct {
	w           io.Writer
	tty, drawn  bool
	begun, last time.Time
	phase       string
	from        uint64 // Done when the phase began
}

func (m *rebuildMeter) show(p rebuild.Progress) {
	now := time.Now()
	changed := p.Phase != m.phase
	if changed {
		m.done()
		m.phase, m.begun, m.from = p.Phase, now, p.Done
	}
	every := lineEvery
	if m.tty {
		every = barEvery
	}
	if !changed && now.Sub(m.last) < every {
		return
	}
	m.last = now
	text := p.Phase
	if p.Total > 0 {
		text += fmt.Sprintf(" %d/%d %d%%", p.Done, p.Total, min(100, p.Done*100/p.Total))
	}
	if took := now.Sub(m.begun); took >= time.Second && p.Done > m.from {
		rate := (p.Done - m.from) * 1000 / uint64(took.Milliseconds())
		text += fmt.Sprintf(", %d/s", rate)
		if rate > 0 && p.Total > p.Done {
			text += fmt.Sprintf(", %s left", (time.Duration((p.Total-p.Done)/rate) * time.Second).String())
		}
	}
	if p.Note != "" {
		text += ", " + strings.ReplaceAll(p.Note, "\n", "; ")
	}
	if !m.tty {
		fmt.Fprintf(m.w, "countinghouse: %s\n", text)
		return
	}
	m.drawn = true
	fmt.Fprintf(m.w, "\r\033[K%s", text)
}

func (m *rebuildMeter) done() {
	if m.drawn {
		fmt.Fprint(m.w, "\r\033[K")
		m.drawn = false
	}
}
