package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/listing"
	"github.com/countinghouse/countinghouse/internal/usage"
)

type tailFlags struct {
	tenant, typ, account string
	last                 uint64
	follow               bool
}

func (t *tool) eventsTail() *cobra.Command {
	f := tailFlags{}
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Watch events as they enter the log",
		Long: `Prints events as they enter the log, read from NATS itself: before deduplication, so a duplicate shows
twice. Position is partition:sequence:index. Stop with Ctrl-C.`,
		Example: `  countinghouse events tail
  countinghouse events tail --last 100 --follow=false --tenant acme -o json`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return t.tail(cmd.Context(), &f) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.tenant, "tenant", "", "only this tenant")
	fs.StringVar(&f.typ, "type", "", "only this event type")
	fs.StringVar(&f.account, "account", "", "only this account")
	fs.Uint64Var(&f.last, "last", 10, "start this many messages back, per partition")
	fs.BoolVar(&f.follow, "follow", true, "wait for more")
	return t.listingFlag(t.serverFlags(cmd))
}

func (t *tool) tail(ctx context.Context, f *tailFlags) error {
	format, err := t.format()
	if err != nil {
		return err
	}
	e, err := t.where.endpoints(needNATS)
	if err != nil {
		return err
	}
	l, err := openLog(ctx, e)
	if err != nil {
		return err
	}
	defer l.Close()
	p := &tailPrinter{tool: t, flags: f, format: format}
	if format == listing.CSV {
		fmt.Fprintln(t.out, "position,recorded_at,tenant,type,source,id,account,meter,quantity")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for partition := range l.Partitions() {
		wg.Go(func() {
			if err := p.partition(ctx, l, partition); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// tailPrinter prints the events of all partitions, one line at a time.
type tailPrinter struct {
	tool   *tool
	flags  *tailFlags
	format listing.Format
	mu     sync.Mutex
}

func (p *tailPrinter) partition(ctx context.Context, l *eventlog.Log, partition int) error {
	info, err := l.Info(ctx, partition)
	if err != nil {
		return err
	}
	from := max(info.First, 1)
	if info.Last >= p.flags.last && info.Last-p.flags.last+1 > from {
		from = info.Last - p.flags.last + 1
	}
	r, err := l.Read(partition, from, eventlog.ReadOptions{})
	if err != nil {
		return err
	}
	defer r.Close()
	for p.flags.follow || r.Position() <= info.Last {
		m, gap, err := r.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case gap != nil:
			fmt.Fprintf(p.tool.err, "countinghouse: partition %d has no messages %d to %d\n", partition, gap.From, gap.To)
		default:
			p.message(m)
		}
	}
	return nil
}

func (p *tailPrinter) message(m *eventlog.Message) {
	if p.flags.tenant != "" && m.Tenant != p.flags.tenant {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.Kind == eventlog.KindChunk {
		var c eventlog.Chunk
		if err := eventlog.DecodeChunk(m.Data, &c); err != nil {
			p.undecodable(m, err)
		}
		for i := range c.Events {
			if c.Events[i].Source != "" { // zero where the event could not be decoded
				p.event(m, i, &c.Events[i])
			}
		}
		return
	}
	err := usage.NewParser(usage.DefaultLimits()).Batch(m.Data, func(i int, _ []byte, e usage.Event, faults []usage.Fault) error {
		if len(faults) > 0 {
			p.undecodable(m, &faults[0])
			return nil
		}
		p.event(m, i, &e)
		return nil
	})
	if err != nil {
		p.undecodable(m, err)
	}
}

func (p *tailPrinter) undecodable(m *eventlog.Message, err error) {
	fmt.Fprintf(p.tool.err, "countinghouse: %d:%d of tenant %s: %v\n", m.Partition, m.Seq, m.Tenant, err)
}

func (p *tailPrinter) event(m *eventlog.Message, idx int, e *usage.Event) {
	if (p.flags.typ != "" && e.Type != p.flags.typ) || (p.flags.account != "" && e.Subject != p.flags.account) {
		return
	}
	position := fmt.Sprintf("%d:%d:%d", m.Partition, m.Seq, idx)
	at := m.Time.Time().Format(time.RFC3339Nano)
	meter, quantity := e.Count()
	amount := ""
	if meter != "" {
		amount = quantity.String()
	}
	switch p.format {
	case listing.JSON:
		line := struct {
			Position   string          `json:"position"`
			RecordedAt string          `json:"recorded_at"`
			Tenant     string          `json:"tenant"`
			Event      json.RawMessage `json:"event"`
		}{position, at, m.Tenant, usage.AppendJSON(nil, e)}
		text, err := json.Marshal(line)
		if err != nil {
			fmt.Fprintf(p.tool.err, "countinghouse: %s: %v\n", position, err)
			return
		}
		fmt.Fprintf(p.tool.out, "%s\n", text)
	case listing.CSV:
		rows := listing.Rows{Columns: make([]string, 9)}
		rows.Add(position, at, m.Tenant, e.Type, e.Source, e.ID, e.Subject, meter, amount)
		_ = rows.Line(p.tool.out) // nobody reads any more: the next signal ends us
	default:
		fmt.Fprintf(p.tool.out, "%s  %s  %s  %s  %s/%s  %s  %s %s\n", at, position, m.Tenant, e.Type, e.Source, e.ID, e.Subject, amount, meter)
	}
}
