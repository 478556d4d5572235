package audit_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countinghouse/countinghouse/internal/audit"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
)

const (
	benchChunks = 2_500
	benchEvents = 200 // a chunk
)

// fill packs usage of 50 tenants into the log, as ingest does under load: each chunk as often as times
// says.
func (r *rig) fill(chunks, times int) {
	r.Helper()
	start := base()
	c := &eventlog.Chunk{AcceptedAt: usage.AtTime(start)}
	var open sync.WaitGroup
	for n := range chunks {
		c.Events = c.Events[:0]
		for i := range benchEvents {
			k := n*benchEvents + i
			c.Events = append(c.Events, usage.Event{
				Source: fmt.Sprint("/gateway/", k%4), ID: uuid.NewString(), Type: usage.TypeMetered, Subject: fmt.Sprint("account-", k%97),
				Time: usage.AtTime(start.Add(-time.Duration(k%2_000_000) * time.Second)), CorrelationID: fmt.Sprint("correlation-", n),
				Metered: &usage.Metered{
					Meter: fmt.Sprint("meter-", k%5), Quantity: usage.Int(int64(k)), Region: "eu", Platform: "aws", ConsumerID: fmt.Sprint("user-", k%1000),
					Dimensions: []usage.Dimension{{Key: "model", Value: fmt.Sprint("m", k%3)}},
				},
			})
		}
		data, err := eventlog.EncodeChunk(nil, c)
		if err != nil {
			r.Fatal(err)
		}
		for range times {
			open.Add(1)
			err = r.log.AppendAsync(r.Context(), fmt.Sprintf("tenant-%02d", n%50), uuid.New(), data, func(_ eventlog.Receipt, err error) {
				defer open.Done()
				if err != nil {
					r.Error(err)
				}
			})
			if err != nil {
				r.Fatal(err)
			}
		}
	}
	open.Wait()
}

// BenchmarkRun is a whole audit; light is the hourly check of the same tables.
func BenchmarkRun(b *testing.B) {
	r := newRig(b)
	r.count(benchChunks, 1)
	for name, o := range map[string]audit.Options{"default": {}, "full": {Full: true}, "tenant": {Tenant: "tenant-07"}} {
		b.Run(name, func(b *testing.B) { r.measure(b, o) })
	}
	b.Run("light", func(b *testing.B) {
		for b.Loop() {
			if _, err := r.audit.Light(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)*benchChunks*benchEvents/b.Elapsed().Seconds(), "events/s")
	})
}

// BenchmarkDuplicates audits a log in which everything was sent twice: each event must be looked up.
func BenchmarkDuplicates(b *testing.B) {
	r := newRig(b)
	r.count(benchChunks/2, 2)
	r.measure(b, audit.Options{})
}

// count fills the log and waits until all of it is counted.
func (r *rig) count(chunks, times int) {
	r.Helper()
	r.fill(chunks, times)
	stop := r.start()
	defer stop()
	info, err := r.log.Info(r.Context(), 0)
	if err != nil {
		r.Fatal(err)
	}
	r.await(info.Last)
}

func (r *rig) measure(b *testing.B, o audit.Options) {
	for b.Loop() {
		c, err := r.audit.Run(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		if !c.OK {
			b.Fatalf("audit: %s", lines(c.Differences))
		}
	}
	b.ReportMetric(float64(b.N)*benchChunks*benchEvents/b.Elapsed().Seconds(), "events/s")
}
