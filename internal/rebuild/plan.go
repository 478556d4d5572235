package rebuild

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// Plan is what a run would do.
type Plan struct {
	State    string       `json:"state"` // of an earlier run: none, filling, exchanging, left-over
	Log      []LogPlan    `json:"log"`
	Servers  []ServerPlan `json:"servers"`
	Carried  []Carried    `json:"carried"` // copied, because their stream is gone
	Possible bool         `json:"possible"`
}

// LogPlan is a partition that is counted again.
type LogPlan struct {
	Partition int    `json:"partition"`
	Messages  uint64 `json:"messages"`
	Bytes     int64  `json:"bytes"`
}

// ServerPlan is a server with the tables that are made again.
type ServerPlan struct {
	Server string      `json:"server"`
	Tables []TablePlan `json:"tables"`
	Bytes  uint64      `json:"bytes"` // of the old tables
	Twin   uint64      `json:"twin"`  // of new tables that an interrupted run has filled already
	Need   uint64      `json:"need"`  // what the new tables may take
	Free   uint64      `json:"free"`
}

// TablePlan is a table that is made again.
type TablePlan struct {
	Name  string `json:"table"`
	Rows  uint64 `json:"rows"`
	Bytes uint64 `json:"bytes"`
}

// States of an earlier run.
const (
	StateNone       = "none"
	StateFilling    = "filling"
	StateExchanging = "exchanging"
	StateLeftOver   = "left-over" // the old tables of a run that was killed before it dropped them
)

// Look says what Run would do, and changes nothing.
func Look(ctx context.Context, cfg Config, log *zap.Logger) (Plan, error) {
	r := &run{Config: cfg, zap: log}
	if r.LeaseTTL == 0 {
		r.LeaseTTL = control.LeaseTTL
	}
	if err := r.open(ctx); err != nil {
		return Plan{}, fmt.Errorf("rebuild: %w", err)
	}
	defer r.close()
	err := r.migrated(ctx)
	if err != nil {
		return Plan{}, fmt.Errorf("rebuild: %w", err)
	}
	p, err := r.plan(ctx)
	if err != nil {
		return p, fmt.Errorf("rebuild: %w", err)
	}
	for id := range r.Log.Partitions() {
		info, err := r.Log.Info(ctx, id)
		if err != nil {
			return p, fmt.Errorf("rebuild: %w", err)
		}
		p.Log = append(p.Log, LogPlan{Partition: id, Messages: info.Last - info.Deleted, Bytes: info.Bytes})
	}
	return p, nil
}

func (r *run) plan(ctx context.Context) (p Plan, err error) {
	p = Plan{State: StateNone, Possible: true, Log: []LogPlan{}, Servers: []ServerPlan{}, Carried: []Carried{}}
	for _, w := range r.old.All() {
		var s ServerPlan
		if err := r.patiently(ctx, "look at the tables", func(ctx context.Context) (err error) {
			s, err = r.planServer(ctx, w, &p.State)
			return err
		}); err != nil {
			return p, err
		}
		p.Servers = append(p.Servers, s)
		p.Possible = p.Possible && s.Need <= s.Free+s.Twin
		ended, err := r.ended(ctx, w)
		if err != nil {
			return p, err
		}
		for shard, seq := range ended {
			p.Carried = append(p.Carried, Carried{shard, seq})
		}
	}
	return p, nil
}

func (r *run) planServer(ctx context.Context, w *warehouse.Warehouse, state *string) (ServerPlan, error) {
	s := ServerPlan{Server: w.Address()}
	tables, err := w.Tables(ctx)
	if err != nil {
		return s, err
	}
	for _, name := range warehouse.Projections() {
		t := tables[name]
		s.Tables = append(s.Tables, TablePlan{Name: name, Rows: t.Rows, Bytes: t.Bytes})
		s.Bytes += t.Bytes
	}
	if s.Need, err = r.need(ctx, w, s.Bytes); err != nil {
		return s, err
	}
	if s.Free, err = w.Disk(ctx); err != nil {
		return s, err
	}
	last, err := w.LastExchange(ctx)
	if err != nil {
		return s, err
	}
	twin, found, err := w.Twin(ctx)
	if err != nil || !found {
		return s, err
	}
	switch {
	case last.Step == warehouse.StepExchanging:
		*state = StateExchanging
	case !twin.Home() && *state != StateExchanging:
		*state = StateLeftOver
	case *state == StateNone:
		*state = StateFilling
	}
	if !twin.Home() {
		return s, nil
	}
	filled, err := twin.Tables(ctx)
	for _, name := range warehouse.Projections() {
		s.Twin += filled[name].Bytes
	}
	return s, err
}

// duration is as a person writes it.
func duration(d time.Duration) string { return d.Round(time.Millisecond).String() }
