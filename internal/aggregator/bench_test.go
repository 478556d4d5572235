package aggregator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
)

// The steps between the log and the server, each alone: what an event costs. 200 tenants, 5 meters,
// random UUID ids, chunks of 100.

const (
	benchChunks = 1000
	benchEvents = 100
)

type empty struct{}

func (empty) Lookup(context.Context, []Key) ([]Evidence, error)         { return nil, nil }
func (empty) Negatable(context.Context, []Evidence) ([]eventRow, error) { return nil, nil }

func benchMessages(tb testing.TB) []eventlog.Message {
	tb.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	now := time.Date(2025, 11, 20, 12, 0, 0, 0, time.UTC)
	messages := make([]eventlog.Message, benchChunks)
	for i := range messages {
		c := eventlog.Chunk{AcceptedAt: usage.AtTime(now)}
		request := uuid.Must(uuid.NewV7()).String()
		for range benchEvents {
			c.Events = append(c.Events, usage.Event{
				Source: "/bench", ID: uuid.NewString(), Type: usage.TypeMetered, Subject: fmt.Sprint("account-", rnd.IntN(50)),
				Time: usage.AtTime(now.Add(time.Duration(rnd.IntN(3_600_000)) * time.Millisecond)), CorrelationID: request,
				CausationID: request, Filled: usage.FilledCorrelation | usage.FilledCausation,
				Metered: &usage.Metered{Meter: fmt.Sprint("meter-", rnd.IntN(5)), Quantity: usage.Int(int64(rnd.IntN(1000)))},
			})
		}
		b, err := eventlog.EncodeChunk(nil, &c)
		if err != nil {
			tb.Fatal(err)
		}
		messages[i] = eventlog.Message{Seq: uint64(i + 1), Time: usage.AtTime(now), Tenant: fmt.Sprint("tenant-", rnd.IntN(200)), Kind: eventlog.KindChunk, Data: b}
	}
	return messages
}

func perEvent(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(benchChunks*benchEvents), "ns/event")
}

func decodeAll(messages []eventlog.Message, hash hasher) []*chunk {
	d := newDecoder(0, 0, hash)
	chunks := make([]*chunk, len(messages))
	for i := range messages {
		chunks[i] = d.decode(&messages[i])
	}
	return chunks
}

func BenchmarkDecode(b *testing.B) {
	messages := benchMessages(b)
	b.ReportAllocs()
	for b.Loop() {
		decodeAll(messages, newHasher())
	}
	perEvent(b)
}

func BenchmarkDecide(b *testing.B) {
	to := newBlocks()
	d := &decider{history: empty{}, filter: newFilter(1 << 20), memory: newMemory(), router: newRouter(nil), waiting: map[identityKey]Waiting{}}
	chunks := decodeAll(benchMessages(b), d.memory.hash.again())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.decide(context.Background(), chunks, to); err != nil {
			b.Fatal(err)
		}
		d.memory.recycle(d.memory.live[0]) // and nothing is a duplicate the next time
		d.memory.live = nil
	}
	perEvent(b)
}

func BenchmarkFilter(b *testing.B) {
	for _, keys := range []uint64{1 << 20, 1 << 24} {
		f := newFilter(filterFirst)
		rnd := rand.New(rand.NewPCG(1, 2))
		for range keys {
			f.add(rnd.Uint64())
		}
		b.Run(fmt.Sprint(keys), func(b *testing.B) {
			hits := 0
			for b.Loop() {
				if f.has(rnd.Uint64()) {
					hits++
				}
			}
			b.ReportMetric(float64(hits)/float64(b.N)*100, "%wrong")
		})
	}
}
