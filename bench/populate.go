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
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// populationFile says what population a store has, beside the events of fill.json.
const populationFile = "population.json"

// populationInfo is what populationFile holds.
type populationInfo struct {
	Format   int     `json:"format"`
	Accounts int     `json:"accounts"` // of each kind
	Month    string  `json:"month"`    // that the reports are of
	Events   int64   `json:"events"`
	Filled   bool    `json:"filled"`
	Seconds  float64 `json:"seconds"`
	// The close of the month, which happens once: what it took and its rows.
	CloseSeconds float64 `json:"close_seconds,omitempty"`
	CloseCPU     float64 `json:"close_cpu_seconds,omitempty"`
	CloseRows    int64   `json:"close_rows,omitempty"`
}

const (
	populationFormat = 1
	populationLag    = 2 // months between the clock's and the population's: the last month closes by itself
)

func readPopulation(dir string, accounts int) (*populationInfo, *population, error) {
	text, err := os.ReadFile(filepath.Join(dir, populationFile))
	month := usage.MonthOf(usage.AtTime(time.Now()))
	for range populationLag {
		month = month.Prev()
	}
	info := &populationInfo{Format: populationFormat, Accounts: accounts, Month: month.String()}
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, nil, err
	default:
		if err := json.Unmarshal(text, info); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", populationFile, err)
		}
		if info.Format != populationFormat {
			return nil, nil, fmt.Errorf("%s: format %d, want %d; remove the store and fill it anew", populationFile, info.Format, populationFormat)
		}
		if info.Accounts != accounts {
			return nil, nil, fmt.Errorf("%s: %d accounts of each kind are in the store, --population asks for %d", populationFile, info.Accounts, accounts)
		}
		if month, err = usage.ParseMonth(info.Month); err != nil {
			return nil, nil, err
		}
	}
	p := newPopulation(info.Accounts, month)
	info.Events = p.events()
	return info, p, nil
}

func (i *populationInfo) save(dir string) error { return saveInfo(dir, populationFile, i) }

// populate publishes the population's chunks into the log, past ingest, or goes on where it stopped: chunks of a
// tenant are counted in their order, so the ledger says how many are there.
func (s *system) populate(ctx context.Context, dir string, info *populationInfo, p *population, out io.Writer) error {
	if info.Filled {
		return nil
	}
	if err := s.settled(ctx); err != nil { // what an earlier run left in the log is counted first
		return err
	}
	from, stored, err := s.populated(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "population: %d events, %d accounts of each kind; %d events are there\n", info.Events, info.Accounts, stored)
	pub, err := newPublisher(s.endpoints.NATS)
	if err != nil {
		return err
	}
	defer pub.close()
	began, earlier := time.Now(), info.Seconds
	var counted atomic.Int64
	counted.Store(from)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return pub.population(ctx, p, from, &counted) })
	g.Go(func() error {
		for told := time.Now(); ; {
			chunks, stored, err := s.populated(ctx)
			if err != nil {
				return err
			}
			counted.Store(chunks)
			info.Seconds = earlier + round(time.Since(began).Seconds(), 1)
			if time.Since(told) > fillTell {
				told = time.Now()
				fillProgress(out, stored, info.Events, float64(stored)/max(1, info.Seconds))
				if err := info.save(dir); err != nil {
					return err
				}
			}
			if chunks >= p.chunks() {
				if stored != info.Events {
					return fmt.Errorf("NOT EXACT: of %d events of the population %d are stored", info.Events, stored)
				}
				return nil
			}
			if !pause(ctx, fillPoll) {
				return ctx.Err()
			}
		}
	})
	if err := g.Wait(); err != nil {
		return errors.Join(err, info.save(dir))
	}
	info.Filled = true
	return info.save(dir)
}

// population publishes chunks from a number on, some ahead of what is counted.
func (p *publisher) population(ctx context.Context, of *population, from int64, counted *atomic.Int64) error {
	var chunk eventlog.Chunk
	size := 0
	for n := from; n < of.chunks(); n++ {
		for (n-counted.Load())*chunkEvents > fillAhead/2 {
			if !pause(ctx, fillPoll) {
				return ctx.Err()
			}
		}
		data, err := of.encode(make([]byte, 0, size+size/8), &chunk, n)
		if err != nil {
			return err
		}
		size = len(data)
		if err := p.send(populationTenant, eventlog.KindChunk, "", data); err != nil {
			return err
		}
	}
	return p.wait(ctx)
}

// populated is how many chunks of the population are counted, and how many events of it are stored.
func (s *system) populated(ctx context.Context) (chunks, stored int64, err error) {
	n, err := s.numbers(ctx, `SELECT toInt64(count()), toInt64(sum(stored)) FROM countinghouse.ledger WHERE tenant = '`+populationTenant+`'`)
	if err != nil {
		return 0, 0, err
	}
	return n[0], n[1], nil
}

// settled waits until the ledger has the whole log.
func (s *system) settled(ctx context.Context) error {
	state, err := s.log.Info(ctx, 0)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, storeQuiet)
	defer cancel()
	for {
		last, err := s.number(ctx, `SELECT toInt64(max(seq)) FROM countinghouse.ledger WHERE shard < 1024`)
		if err != nil || last >= int64(state.Last) {
			return err
		}
		if !pause(ctx, fillPoll) {
			return fmt.Errorf("the ledger is at %d of %d messages after %s", last, state.Last, storeQuiet)
		}
	}
}
