package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// A store is a directory of `countinghouse up` that was filled once and is kept: what a year's, or a
// hundred million events', worth of tables does to the product is measured on it (store.go).
//
// What is in it is said by fill.json. The log holds a prefix of the sample's chunks, so a fill that was
// interrupted, by kill -9 or a full disk, goes on with the next one.
const storeFile = "fill.json"

type storeInfo struct {
	Format   int       `json:"format"`
	Events   int64     `json:"events"`
	Tenants  int       `json:"tenants"`
	Accounts int       `json:"accounts_per_tenant"`
	Seed     uint64    `json:"seed"`
	From     time.Time `json:"from"` // of the first event
	To       time.Time `json:"to"`   // of the last
	Filled   bool      `json:"filled"`
	Seconds  float64   `json:"seconds"` // that filling took, all runs together
	Weight   *weight   `json:"weight,omitempty"`
}

const storeFormat = 1

// month is the one that most of the events are in: all of them, unless the clock says otherwise.
func (i *storeInfo) month() string { return i.To.Add(-time.Millisecond).Format("2006-01") }

func (i *storeInfo) sample() *sample {
	s := &sample{tenants: i.Tenants, accounts: i.Accounts, seed: i.Seed}
	s.at = dayShape(i.From, i.To, i.Events/chunkEvents)
	return s
}

// dayShape spreads n chunks over [from, to) in ascending order: an hour of the working day has three times
// the events of one at night.
func dayShape(from, to time.Time, n int64) func(int64) int64 {
	weight := func(hour time.Time) float64 {
		if h := hour.Hour(); h >= 7 && h < 19 {
			return 3
		}
		return 1
	}
	var cumulative []float64 // up to the start of each hour
	total := 0.0
	for hour := from; hour.Before(to); hour = hour.Add(time.Hour) {
		cumulative = append(cumulative, total)
		total += weight(hour) * min(1, to.Sub(hour).Hours())
	}
	cumulative = append(cumulative, total)
	return func(chunk int64) int64 {
		x := total * float64(chunk) / float64(n)
		h := min(max(sort.SearchFloat64s(cumulative, x)-1, 0), len(cumulative)-2)
		at := from.Add(time.Duration(h) * time.Hour)
		return at.Add(time.Duration((x - cumulative[h]) / weight(at) * float64(time.Hour))).UnixMilli()
	}
}

// storeMonth is the time that a store's events are of: this month until now, if that is two weeks at least,
// else the month before.
func storeMonth(now time.Time) (from, to time.Time) {
	now = now.UTC()
	from = time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	if now.Sub(from) > 14*24*time.Hour {
		return from.Add(time.Second), now // an event may lie a second before its chunk
	}
	return from.AddDate(0, -1, 0).Add(time.Second), from
}

func defaultStore() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "countinghouse", "bench-store")
}

var errNoStore = errors.New("no store: make one with `bench fill`")

func readStore(dir string) (*storeInfo, error) {
	text, err := os.ReadFile(filepath.Join(dir, storeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoStore
	}
	if err != nil {
		return nil, err
	}
	var info storeInfo
	if err := json.Unmarshal(text, &info); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, storeFile), err)
	}
	if info.Format != storeFormat {
		return nil, fmt.Errorf("%s: format %d, want %d; remove the store and fill it anew", dir, info.Format, storeFormat)
	}
	return &info, nil
}

func (i *storeInfo) save(dir string) error { return saveInfo(dir, storeFile, i) }

// saveInfo writes a file of a store, whole or not at all.
func saveInfo(dir, file string, info any) error {
	text, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, file)
	if err := os.WriteFile(path+".tmp", append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// readFilled is readStore of a store that has its events.
func readFilled(dir string) (*storeInfo, error) {
	info, err := readStore(dir)
	if err == nil && !info.Filled {
		err = fmt.Errorf("%s is not filled yet: `bench fill --store %s` goes on", dir, dir)
	}
	return info, err
}

// fill makes the store, or goes on making it.
func fill(ctx context.Context, o options, out io.Writer) (err error) {
	info, err := readStore(o.store)
	if errors.Is(err, errNoStore) {
		info = &storeInfo{Format: storeFormat, Events: o.events / chunkEvents * chunkEvents, Tenants: o.tenants, Accounts: o.accounts, Seed: seed}
		info.From, info.To = storeMonth(time.Now())
		if err := os.MkdirAll(o.store, 0o755); err != nil {
			return err
		}
		err = info.save(o.store)
	}
	if err != nil {
		return err
	}
	if info.Events != o.events/chunkEvents*chunkEvents && o.eventsGiven {
		return fmt.Errorf("%s is a store of %d events; choose another --store, or remove it", o.store, info.Events)
	}
	if info.Filled && !o.weigh && info.Weight != nil {
		fmt.Fprintf(out, "%s has its %d events, from %s to %s, filled in %.0f s; nothing to do\n",
			o.store, info.Events, info.From.Format(time.DateOnly), info.To.Format(time.DateOnly), info.Seconds)
		return nil
	}
	s, err := openStore(ctx, o, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if !info.Filled {
		if err := fillStore(ctx, s, o.store, info, out); err != nil {
			return err
		}
	}
	if info.Weight, err = s.weighCopy(ctx, out); err != nil {
		return err
	}
	info.Weight.print(out)
	return info.save(o.store)
}

// fillAhead is how many events the log may be ahead of the warehouse: further, and they would have to be
// read from disk again.
const (
	fillAhead = 4_000_000
	fillTell  = 10 * time.Second
	fillPoll  = 500 * time.Millisecond
)

func fillStore(ctx context.Context, s *system, dir string, info *storeInfo, out io.Writer) error {
	state, err := s.log.Info(ctx, 0)
	if err != nil {
		return err
	}
	from, to := int64(state.Last), info.Events/chunkEvents
	if from > to {
		return fmt.Errorf("%s: the log has %d chunks, more than the %d of the store; remove it and fill it anew", dir, from, to)
	}
	if from > 0 {
		fmt.Fprintf(out, "going on at %d of %d events\n", from*chunkEvents, info.Events)
	}
	p, err := newPublisher(s.endpoints.NATS)
	if err != nil {
		return err
	}
	defer p.close()
	began, earlier := time.Now(), info.Seconds
	var counted atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return p.chunks(ctx, info.sample(), from, to, func(chunk int64) error {
			for chunk*chunkEvents-counted.Load() > fillAhead {
				if !pause(ctx, fillPoll) {
					return ctx.Err()
				}
			}
			return nil
		})
	})
	g.Go(func() error {
		last, first := time.Now(), int64(-1)
		for {
			l, err := s.counted(ctx)
			if err != nil {
				return err
			}
			counted.Store(l.accepted)
			if first < 0 {
				first = l.accepted
			}
			info.Seconds = earlier + round(time.Since(began).Seconds(), 1)
			if time.Since(last) > fillTell {
				last = time.Now()
				fillProgress(out, l.accepted, info.Events, float64(l.accepted-first)/time.Since(began).Seconds())
				if err := info.save(dir); err != nil {
					return err
				}
			}
			if l.accepted >= info.Events {
				return l.all(info.Events)
			}
			if !pause(ctx, fillPoll) {
				return ctx.Err()
			}
		}
	})
	if err := g.Wait(); err != nil {
		return err
	}
	info.Filled = true
	fmt.Fprintf(out, "%d events in %.0f s\n", info.Events, info.Seconds)
	return info.save(dir)
}

func fillProgress(out io.Writer, counted, events int64, rate float64) {
	left := "?"
	if rate > 0 {
		left = time.Duration(float64(events-counted) / rate * float64(time.Second)).Round(time.Second).String()
	}
	fmt.Fprintf(out, "  %d of %d events counted (%.1f %%), %.0f a second, %s left; load average %s\n",
		counted, events, float64(counted)/float64(events)*100, rate, left, loadAverage())
}

// all says whether the ledger has so many events and each was stored.
func (l ledger) all(events int64) error {
	if l.accepted != events || l.stored != events {
		return fmt.Errorf("NOT EXACT: of %d events the ledger has accepted %d, stored %d, duplicate %d, conflict %d, quarantined %d",
			events, l.accepted, l.stored, l.duplicate, l.conflict, l.quarantined)
	}
	return nil
}
