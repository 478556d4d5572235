package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/ingest"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// memlog is a log in memory whose calls fail as told: before their effect, or after it.
type memlog struct {
	mu     sync.Mutex
	call   int
	fault  func(call int) (apply bool, err error)
	chunks [][]string // ids, per chunk
	tenant []string
	msgIDs map[uuid.UUID]bool
}

func (m *memlog) Append(_ context.Context, tenant string, id uuid.UUID, chunk []byte) (eventlog.Receipt, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.call++
	apply, err := m.fault(m.call)
	if apply {
		var c eventlog.Chunk
		if derr := eventlog.DecodeChunk(chunk, &c); derr != nil {
			return eventlog.Receipt{}, derr
		}
		var ids []string
		for _, e := range c.Events {
			ids = append(ids, strings.Clone(e.ID))
		}
		if m.msgIDs[id] {
			return eventlog.Receipt{}, errors.New("id used for two chunks")
		}
		m.msgIDs[id] = true
		m.chunks, m.tenant = append(m.chunks, ids), append(m.tenant, tenant)
	}
	return eventlog.Receipt{}, err
}

func never(int) (bool, error)   { return true, nil }
func refuses(int) (bool, error) { return false, eventlog.ErrFull }
func forgets(int) (bool, error) { return true, eventlog.ErrUnavailable }
func sometimes(call int) (bool, error) {
	switch call % 4 {
	case 0:
		return false, eventlog.ErrUnavailable
	case 1:
		return true, eventlog.ErrUnavailable // stored, but the reply was lost
	}
	return true, nil
}

// Whatever the log does, a request that was confirmed is in it, in whole and once; nothing is in it
// that was not sent; and nothing stays charged.
func TestCommitFaults(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(int) (bool, error){
		"sound": never, "full": refuses, "stored, reply lost": forgets, "mixed": sometimes,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			log := &memlog{fault: fault, msgIDs: map[uuid.UUID]bool{}}
			c := ingest.NewCommitter(log.Append, ingest.CommitConfig{Wait: time.Minute, InFlight: 1 + rng.IntN(4), Abreast: 1 + rng.IntN(3),
				Linger: time.Duration(rng.IntN(2)) * time.Millisecond})
			memory := map[string]interface{ Used() int64 }{}
			sent, confirmed := map[string]bool{}, map[string]bool{}
			var mu sync.Mutex
			var wg sync.WaitGroup
			for _, tenant := range []string{"acme", "globex"} {
				account := ingest.Account(1<<40, 1<<40)
				memory[tenant] = account
				for r := range 60 {
					events := make([]usage.Event, 1+rng.IntN(1000)*rng.IntN(2))
					for i := range events {
						id := fmt.Sprintf("%s-%d-%d", tenant, r, i)
						events[i] = usage.Event{Source: "/s", ID: id, Type: usage.TypeActivity, Data: `{"pad":"` + strings.Repeat("x", rng.IntN(600)) + `"}`}
						sent[id] = true
					}
					ctx, cancel := context.WithCancel(t.Context())
					wg.Add(1)
					go func() {
						defer wg.Done()
						wait, err := c.Submit(ctx, tenant, account, events, time.Minute)
						cancel() // the client hangs up at once: that harms nobody
						if err != nil {
							t.Error(err)
							return
						}
						if wait() == nil {
							mu.Lock()
							defer mu.Unlock()
							for i := range events {
								confirmed[events[i].ID] = true
							}
						}
					}()
				}
			}
			wg.Wait()
			c.Wait()
			checkCommitted(t, log, sent, confirmed)
			for tenant, m := range memory {
				if m.Used() != 0 {
					t.Errorf("%s: %d bytes stay charged", tenant, m.Used())
				}
			}
			if name == "sound" && len(confirmed) != len(sent) || name != "sound" && name != "mixed" && len(confirmed) != 0 {
				t.Errorf("%d of %d confirmed", len(confirmed), len(sent))
			}
		})
	}
}

func checkCommitted(t *testing.T, log *memlog, sent, confirmed map[string]bool) {
	t.Helper()
	stored := map[string]bool{}
	for i, ids := range log.chunks {
		if len(ids) > eventlog.ChunkEventsMax {
			t.Errorf("a chunk of %d events", len(ids))
		}
		for _, id := range ids {
			if stored[id] || !sent[id] || !strings.HasPrefix(id, log.tenant[i]+"-") {
				t.Fatalf("%s: stored twice, never sent, or with another tenant's", id)
			}
			stored[id] = true
		}
	}
	for id := range confirmed {
		if !stored[id] {
			t.Fatalf("%s was confirmed and is not stored", id)
		}
	}
}

// What arrives while a chunk is in flight leaves together when it returns.
func TestRequestsShareChunks(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}, 100), make(chan struct{})
	log := &memlog{fault: never, msgIDs: map[uuid.UUID]bool{}}
	c := ingest.NewCommitter(func(ctx context.Context, tenant string, id uuid.UUID, chunk []byte) (eventlog.Receipt, error) {
		entered <- struct{}{}
		<-release
		return log.Append(ctx, tenant, id, chunk)
	}, ingest.CommitConfig{InFlight: 8})
	account := ingest.Account(1<<40, 1<<40)
	var waits []func() error
	for i := range 101 {
		wait, err := c.Submit(t.Context(), "acme", account, []usage.Event{{Source: "/s", ID: fmt.Sprint(i), Type: usage.TypeActivity}}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		waits = append(waits, wait)
		if i == 0 {
			<-entered
		}
	}
	close(release)
	for _, wait := range waits {
		if err := wait(); err != nil {
			t.Fatal(err)
		}
	}
	if len(log.chunks) != 2 || len(log.chunks[1]) != 100 {
		t.Errorf("101 requests made %d chunks, want the first alone and 100 together", len(log.chunks))
	}
}

// No more chunks than configured are on their way to a partition. The others wait where requests still
// join them, and leave in the order they came in.
func TestChunksGrowWhileTheLogIsBusy(t *testing.T) {
	t.Parallel()
	const abreast, tenants, requests = 3, 20, 7
	entered, release := make(chan string, 2*tenants), make(chan struct{})
	log := &memlog{fault: never, msgIDs: map[uuid.UUID]bool{}}
	c := ingest.NewCommitter(func(ctx context.Context, tenant string, id uuid.UUID, chunk []byte) (eventlog.Receipt, error) {
		entered <- tenant
		<-release
		return log.Append(ctx, tenant, id, chunk)
	}, ingest.CommitConfig{InFlight: 8, Abreast: abreast})
	account := ingest.Account(1<<40, 1<<40)
	var waits []func() error
	for r := range requests {
		for i := range tenants {
			name := fmt.Sprintf("t%02d", i)
			wait, err := c.Submit(t.Context(), name, account, []usage.Event{{Source: "/s", ID: fmt.Sprintf("%s-%d", name, r), Type: usage.TypeActivity}}, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			waits = append(waits, wait)
			if r == 0 && i < abreast {
				<-entered
			}
		}
	}
	if len(entered) != 0 {
		t.Errorf("%d chunks more than %d are on their way", len(entered), abreast)
	}
	close(release)
	for _, wait := range waits {
		if err := wait(); err != nil {
			t.Fatal(err)
		}
	}
	c.Wait()
	sizes := map[string][]int{}
	for i, ids := range log.chunks {
		sizes[log.tenant[i]] = append(sizes[log.tenant[i]], len(ids))
	}
	for i := range tenants {
		want := []int{requests}
		if i < abreast {
			want = []int{1, requests - 1}
		}
		if name := fmt.Sprintf("t%02d", i); !slices.Equal(sizes[name], want) {
			t.Errorf("%s: chunks of %v events, want %v", name, sizes[name], want)
		}
	}
}

// A partition that does not answer holds up its own tenants and nobody else.
func TestPartitionsDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	stall, release := make(chan struct{}), make(chan struct{})
	c := ingest.NewCommitter(func(_ context.Context, tenant string, _ uuid.UUID, _ []byte) (eventlog.Receipt, error) {
		partition := int(tenant[0] - 'a')
		select {
		case <-stall:
			if partition == 0 {
				<-release
			}
		default:
		}
		return eventlog.Receipt{Partition: partition}, nil
	}, ingest.CommitConfig{InFlight: 8, Abreast: 2})
	account := ingest.Account(1<<40, 1<<40)
	send := func(tenant string) func() error {
		wait, err := c.Submit(t.Context(), tenant, account, []usage.Event{{Source: "/s", ID: "1", Type: usage.TypeActivity}}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return wait
	}
	for i := range 10 { // until now nobody knows where a tenant is
		for _, p := range []string{"a", "b"} {
			if err := send(p + fmt.Sprint(i))(); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(stall)
	var held []func() error
	for i := range 10 {
		held = append(held, send("a"+fmt.Sprint(i)))
	}
	for i := range 10 {
		if err := send("b" + fmt.Sprint(i))(); err != nil {
			t.Fatal(err)
		}
	}
	close(release)
	for _, wait := range held {
		if err := wait(); err != nil {
			t.Fatal(err)
		}
	}
	c.Wait()
}

// One tenant that fills its share is refused at once; another one is not.
func TestOverloadIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	c := ingest.NewCommitter(func(context.Context, string, uuid.UUID, []byte) (eventlog.Receipt, error) {
		<-release
		return eventlog.Receipt{}, nil
	}, ingest.CommitConfig{InFlight: 1})
	noisy, quiet := ingest.Account(100<<10, 1<<30), ingest.Account(100<<10, 1<<30)
	events := make([]usage.Event, 10)
	for i := range events {
		events[i] = usage.Event{Source: "/s", ID: fmt.Sprint(i), Type: usage.TypeActivity}
	}
	taken, err := 0, error(nil)
	for err == nil && taken < 1000 {
		if _, err = c.Submit(t.Context(), "noisy", noisy, events, time.Minute); err == nil {
			taken++
		}
	}
	if !errors.Is(err, ingest.ErrOverloaded()) || taken == 0 {
		t.Errorf("after %d requests of 10 events: %v, want overloaded", taken, err)
	}
	if _, err := c.Submit(t.Context(), "quiet", quiet, events, time.Minute); err != nil {
		t.Errorf("another tenant: %v", err)
	}
	close(release)
	c.Wait()
	if noisy.Used() != 0 || quiet.Used() != 0 {
		t.Error("memory stays charged")
	}
}
