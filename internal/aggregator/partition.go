package aggregator

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/register"
	"github.com/countinghouse/countinghouse/internal/telemetry"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// partition is one partition of the log, as this aggregator knows it between its sessions.
type partition struct {
	id        uint16
	cfg       Config
	log       *eventlog.Log
	servers   *warehouse.Servers
	place     func(ctx context.Context, partition int, server string) (string, error)
	warehouse *warehouse.Warehouse // the partition's server; nil until it was found, and then the same for ever
	metrics   *telemetry.Aggregator
	tracer    *telemetry.Tracer // nil: off
	zap       *zap.Logger

	filter   *filter // nil until the first session
	filterAt covered
	saved    uint64 // keys in the filter when it was last saved
	ended    endings

	progress  atomic.Uint64 // last committed sequence, for status
	loggedAt  atomic.Int64  // its logged_at, Unix ms
	lastError atomic.Pointer[string]

	losing sync.Mutex // of loss.gaps
	loss   loss

	difference atomic.Pointer[string] // what the last comparison of the tables found, if anything
}

// endings are the earlier incarnations of a partition and how far each was counted: rows of theirs
// above that were never committed and are evidence of nothing.
type endings map[uint16]uint64

func (e endings) holds(p warehouse.Position) bool {
	last, ended := e[p.Shard]
	return !ended || p.Seq <= last
}

// Retry pauses between sessions: the world's faults heal or not, and the log waits either way.
const (
	retryFirst = 50 * time.Millisecond
	retryMost  = 2 * time.Second
)

// own runs sessions, one after the other, until ctx ends (the lease is lost or the service stops) or an
// invariant of ours is found broken, which nothing but a human should retry. What ends it never is the
// filter's directory: it holds a cache.
func (p *partition) own(ctx context.Context, leaseRevision uint64) error {
	pause := retryFirst
	for {
		before := p.progress.Load()
		err := p.session(ctx, leaseRevision)
		if ctx.Err() != nil {
			p.trySave()
			return nil
		}
		text := err.Error()
		p.lastError.Store(&text)
		switch {
		case errors.Is(err, errBroken), errors.Is(err, warehouse.ErrContent):
			p.zap.Error("shard stopped: the log has the data, nothing was dropped; see the runbook: shard-stopped", zap.Error(err))
			return err
		case errors.Is(err, warehouse.ErrFenced):
			p.zap.Warn("another aggregator owns the shard; stepping down", zap.Error(err))
			return nil
		}
		if p.progress.Load() > before {
			pause = retryFirst // it worked: what broke is news, not the same again
		}
		p.zap.Warn("session ended; taking over again", zap.Error(err), zap.Duration("pause", pause))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			p.trySave()
			return nil
		}
		pause = min(2*pause, retryMost)
	}
}

// session takes over, rebuilds what it needs, and moves events until something fails.
func (p *partition) session(ctx context.Context, leaseRevision uint64) error {
	if err := p.findServer(ctx); err != nil {
		return err
	}
	writer, at, err := p.takeOver(ctx, leaseRevision)
	if err != nil {
		return err
	}
	defer writer.Close()
	done, shard, start := writer.Progress(), at.shard, at.start
	s := &session{
		partition: p, shard: shard, sink: &sink{writer: writer, metrics: p.metrics}, after: at,
	}
	s.register = register.New(p.warehouse, p.id, s.counted, p.zap)
	s.lag.seq.Store(start)
	p.progress.Store(start)
	p.loggedAt.Store(done.LoggedAt.Millis())
	table, err := p.warehouse.EventsID(ctx)
	if err != nil {
		return err
	}
	if err := p.fillFilter(ctx, covered{Shard: shard, Seq: start, Hash: at.hash, Table: table}); err != nil {
		return err
	}
	waiting, err := p.waiting(ctx, shard, start)
	if err != nil {
		return err
	}
	memory := newMemory()
	memory.spill = &spill{dir: p.cfg.Dir, keep: spillIdentities, forgot: func(err error) {
		p.zap.Warn("identities on disk forgotten; the warehouse is asked for duplicates of them", zap.Error(err))
	}}
	defer memory.close()
	s.decider = &decider{
		history: s, filter: p.filter, memory: memory, router: newRouter(writer.Watermarks()), waiting: waiting, counted: p.count,
	}
	s.decoder = newDecoder(shard, done.LoggedAt.Millis(), s.decider.memory.hash.again())
	p.lastError.Store(nil)
	p.zap.Info("reading the log", zap.Uint16("shard", shard), zap.Uint64("from", start+1), zap.Uint64("identities", p.filter.size()))
	return s.run(ctx)
}

// counted is how far the shards of the partition are counted.
func (s *session) counted() register.Cut {
	cut := register.Cut{s.shard: s.progress.Load()}
	for shard, seq := range s.ended {
		cut[shard] = seq
	}
	return cut
}

// findServer asks once which server holds the partition.
func (p *partition) findServer(ctx context.Context) (err error) {
	if p.warehouse == nil {
		p.warehouse, err = p.servers.Of(ctx, p.id, p.place)
	}
	return err
}

// waiting loads the voids that wait for their targets.
func (p *partition) waiting(ctx context.Context, shard uint16, upTo uint64) (map[identityKey]Waiting, error) {
	rows, err := p.warehouse.WaitingVoids(ctx, p.id, warehouse.Mark{Shard: shard, Seq: upTo})
	if err != nil {
		return nil, fmt.Errorf("load waiting voids: %w", err)
	}
	waiting := make(map[identityKey]Waiting, len(rows))
	for i := range rows {
		r := &rows[i]
		if !p.ended.holds(r.Position) {
			continue
		}
		target, err := usage.ParseTarget(r.Data)
		if err != nil {
			return nil, fmt.Errorf("%w: waiting void at shard %d seq %d: %w", errBroken, r.Shard, r.Seq, err)
		}
		w := Waiting{
			Tenant: r.Tenant, Target: target, RecordedAt: r.RecordedAt.Millis(), Causation: r.CausationID,
			Position: Position{Shard: r.Shard, Seq: r.Seq, Idx: r.Idx},
		}
		waiting[keyOf(w.Tenant, w.Target)] = w
	}
	return waiting, p.arrived(ctx, waiting, shard, upTo)
}

// arrived drops the voids whose target has come since: their rows say `waiting` for ever, and memory is to
// hold only what still waits.
func (p *partition) arrived(ctx context.Context, waiting map[identityKey]Waiting, shard uint16, upTo uint64) error {
	targets := make([]warehouse.Key, 0, len(waiting))
	for k, w := range waiting {
		targets = append(targets, warehouse.Key{Tenant: k.tenant, Source: k.source, ID: k.id, Hash: usage.IdentityHash(k.tenant, w.Target)})
	}
	for part := range slices.Chunk(targets, warehouse.LookupMax) {
		rows, err := p.warehouse.Lookup(ctx, p.id, part)
		if err != nil {
			return fmt.Errorf("look for the targets of waiting voids: %w", err)
		}
		for i := range rows {
			r := &rows[i]
			if r.Sign > 0 && p.ended.holds(r.Position) && (r.Shard != shard || r.Seq <= upTo) { // above, it is decided anew
				delete(waiting, identityKey{r.Tenant, r.Source, r.ID})
			}
		}
	}
	return nil
}

// fillWait bounds reading every identity there is: some ten million a second, and years of them.
const fillWait = time.Hour

// fillFilter makes the filter cover everything stored at or below to: from memory, else from disk, else
// from nothing; the rest is read from raw rows.
func (p *partition) fillFilter(ctx context.Context, to covered) error {
	if err := p.findFilter(ctx, to); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, fillWait)
	defer cancel()
	started := time.Now()
	before := p.filter.size()
	err := p.warehouse.IdentityHashes(ctx, p.id, p.filterAt.mark(), to.mark(), func(hashes []uint64) error {
		for _, h := range hashes {
			p.filter.add(h)
		}
		return nil
	})
	if err != nil {
		p.filter = nil // half filled: covers nothing that can be named
		return fmt.Errorf("fill the filter: %w", err)
	}
	p.filterAt = to
	p.zap.Info("filter ready", zap.Uint64("identities", p.filter.size()), zap.Uint64("read", p.filter.size()-before),
		zap.Duration("took", time.Since(started)))
	return nil
}

// findFilter takes the filter of memory or disk, if it is one of this warehouse and not ahead of it; else
// an empty one. One of another log would say "never seen" of what it does not know.
func (p *partition) findFilter(ctx context.Context, to covered) error {
	f, at, why := p.filter, p.filterAt, error(nil)
	if f == nil {
		f, at, why = loadFilter(p.filterDir())
	}
	if f != nil && (Partition(at.Shard) != p.id || at.Shard > to.Shard || at.Shard == to.Shard && at.Seq > to.Seq) {
		f, why = nil, fmt.Errorf("it covers shard %d up to %d, progress is %d of shard %d", at.Shard, at.Seq, to.Seq, to.Shard)
	}
	if f != nil && at.Table != to.Table {
		f, why = nil, errors.New("it is of other tables: they were rebuilt")
	}
	known := at.Hash != [16]byte{}
	if f != nil && known {
		mark, found, err := p.warehouse.LedgerAt(ctx, at.Shard, at.Seq)
		if err != nil {
			return err
		}
		if !found || mark.Hash != at.Hash {
			f, why = nil, fmt.Errorf("it is of another log: shard %d has another message at %d", at.Shard, at.Seq)
		}
	}
	if f == nil || p.filter == nil && !known {
		p.zap.Info("no usable filter; building it from the warehouse", zap.Error(why))
		f, at = newFilter(filterFirst), covered{Shard: p.id}
	}
	if f != p.filter {
		p.saved = f.size()
	}
	p.filter, p.filterAt = f, at
	return nil
}

// filterSaveEvery is how many new identities make the filter worth saving again: reading them back from
// raw rows at the next start takes about a second.
const filterSaveEvery = 4 << 20

func (p *partition) saveWhenGrown() {
	if p.filter.size()-p.saved >= filterSaveEvery {
		p.trySave()
	}
}

func (p *partition) trySave() {
	if err := p.save(); err != nil {
		p.zap.Warn("filter not saved; it will be read from the warehouse at the next start", zap.Error(err))
	}
}

// save writes the filter to disk.
func (p *partition) save() error {
	if p.filter == nil || p.filter.size() == p.saved {
		return nil
	}
	if err := saveFilter(p.filterDir(), p.filter, p.filterAt); err != nil {
		return err
	}
	p.saved = p.filter.size()
	return nil
}

func (p *partition) filterDir() string {
	return filepath.Join(p.cfg.Dir, "filter-"+strconv.Itoa(int(p.id)))
}

func (p *partition) count(result string, n int) {
	switch result {
	case resultDuplicate:
		p.metrics.Duplicates.Add(float64(n))
	case reasonConflict:
		p.metrics.Conflicts.Add(float64(n))
		p.metrics.DeadLetters.WithLabelValues(result).Add(float64(n))
	default:
		p.metrics.DeadLetters.WithLabelValues(result).Add(float64(n))
	}
}

// advance notes that a batch is committed.
func (p *partition) advance(b *batch) {
	p.progress.Store(b.last)
	p.loggedAt.Store(b.loggedAt)
}

// statusEvery is how often the lag is measured: freshness_v1 and the metrics show it.
const statusEvery = time.Second

// report tells how far the warehouse is behind the log.
func (s *session) report(ctx context.Context) error {
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	var last warehouse.StatusRow
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		row, err := s.status(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.zap.Debug("lag not known", zap.Error(err))
			}
			continue
		}
		if same(row, last) {
			continue
		}
		if err := s.warehouse.SetStatus(ctx, row); err != nil && ctx.Err() == nil {
			s.zap.Debug("status not written", zap.Error(err))
			continue
		}
		last = row
	}
}

// idleStatus is how often the status of a quiet log is written again: reports as of an instant need to
// know that nothing older can still come.
const idleStatus = 2 * time.Second

// same reports that b said all this already, not long ago, while nothing is pending.
func same(a, b warehouse.StatusRow) bool {
	return a.LogSeq == b.LogSeq && a.WarehouseSeq == b.WarehouseSeq && a.LogSeq == a.WarehouseSeq &&
		a.At.Nanos()-b.At.Nanos() < int64(idleStatus)
}

func (s *session) status(ctx context.Context) (warehouse.StatusRow, error) {
	info, err := s.log.Info(ctx, int(s.id))
	if err != nil {
		return warehouse.StatusRow{}, err
	}
	s.lost(ctx, info)
	now := time.Now()
	at := s.progress.Load()
	row := warehouse.StatusRow{
		Shard: s.shard, At: usage.AtTime(info.Settled), LogSeq: info.Last, WarehouseSeq: at, WatermarkAt: millis(s.loggedAt.Load()),
	}
	label := strconv.Itoa(int(s.shard))
	age := 0.0
	if info.Last > at {
		row.LagEvents = s.lag.pending(info.Last)
		if m, err := s.log.Get(ctx, int(s.id), at+1); err == nil {
			row.OldestPendingAt = m.Time
			age = now.Sub(m.Time.Time()).Seconds()
		}
	}
	s.metrics.Lag.WithLabelValues(label).Set(float64(row.LagEvents))
	s.metrics.OldestPending.WithLabelValues(label).Set(max(age, 0))
	s.metrics.InFlight.WithLabelValues(label).Set(float64(s.credit.used.Load()))
	if info.MaxBytes > 0 {
		s.metrics.LogUsed.WithLabelValues(label).Set(float64(info.Bytes) / float64(info.MaxBytes))
	}
	return row, nil
}

func identity(source, id string) usage.Identity { return usage.Identity{Source: source, ID: id} }
