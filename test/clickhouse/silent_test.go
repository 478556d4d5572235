package clickhouse_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/proxy"
	"github.com/countinghouse/countinghouse/test/rig"
)

const (
	// Goroutines that a fault may add: those of connections that are being made and given up.
	goroutinesMore = 60
	latencyMost    = 200         // percent: p99 of ingest may double
	lasting        = time.Minute // a fault, in the full form
	// receiveTimeout is when the server drops who stopped sending.
	receiveTimeout = 5 * time.Second
	// patientLease outlives the seconds in which a loaded machine lets nobody run: who loses a lease gives its inserts up
	// before their deadline, and rightly.
	patientLease = 30 * time.Second
)

// F10: ClickHouse is frozen, for longer than an insert waits and than it waits itself when it goes on.
func TestF10Frozen(t *testing.T) {
	s := silence(t, "F10", 2*time.Second)
	for range fight.Rounds(1, 2) {
		s.lasts(receiveTimeout+time.Second, s.Rig.ClickHouse.Freeze, s.Rig.ClickHouse.Thaw)
		s.givenUp()
	}
	s.end()
}

// F10: what lies before ClickHouse accepts connections and never answers. Afterwards what was sent is lost,
// with its connections or without a word about them, or it arrives: an insert that its writer has long given up.
func TestF10BlackHole(t *testing.T) {
	s := silence(t, "F10h", time.Second)
	for i := range fight.Rounds(1, 2) {
		s.lasts(2*s.deadline, func() { s.proxy.BlackHole(true) }, func() {
			if err := s.proxy.Heal(); err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 {
				s.proxy.Reset()
			}
		})
		s.givenUp()
		s.lasts(2*s.deadline, func() { s.hold(true) }, func() { s.hold(false) })
	}
	s.end()
}

// silent is a fight against a ClickHouse that does not answer.
type silent struct {
	*fight.Fight
	proxy    *proxy.Proxy
	watch    *watch
	deadline time.Duration // of an insert

	normal, during []time.Duration // requests to ingest, sorted
	goroutines     [2]int64        // before the faults and the most of them
	gaveUp         []time.Duration // the insert that ended, in each fault
	ended          []time.Duration // of the last fault
}

// silence begins: in the full form with the deadline that the product has, 30 s.
func silence(t *testing.T, name string, deadline time.Duration) *silent {
	s := &silent{deadline: deadline}
	if fight.Soak {
		s.deadline = 30 * time.Second
	}
	s.Fight = fight.Begin(t, name, rig.Options{
		ClickHouseOfAggregator: proxy.Between(t, &s.proxy),
		AggregatorFlags:        []string{"--clickhouse-insert-timeout", s.deadline.String()},
		BatchRows:              100_000, // as the product has it: a minute's backlog is part of the recovery
		LeaseTTL:               patientLease,
	})
	s.Limit(recovery)
	if fight.Soak {
		s.Cap += lasting // there is as much to catch up with
	}
	s.watch = watchInserts(s.proxy)
	s.normal = s.Normal()
	s.goroutines[0] = s.goroutinesNow()
	return s
}

func (s *silent) hold(on bool) {
	s.proxy.Hold(proxy.ToServer, on)
	s.proxy.Hold(proxy.ToClient, on)
}

// lasts lets a fault last: 60 s in the full form.
func (s *silent) lasts(short time.Duration, begin, end func()) {
	s.T.Helper()
	s.watch.take()
	// With an insert under way: the last byte of its rows comes when the server is silent.
	cut := s.CutNext(s.proxy, "events", fight.Place{Direction: proxy.ToServer, FromEnd: true, Bytes: 1}, proxy.Stall)
	begin()
	cut.Release()
	over := time.Now().Add(short)
	if fight.Soak {
		over = time.Now().Add(lasting)
	}
	s.Load.Latencies()
	var took []time.Duration
	s.Rig.Until("the fault is over, and ingest has acknowledged requests while ClickHouse was silent", rig.SettleWait, func(context.Context) bool {
		s.goroutines[1] = max(s.goroutines[1], s.goroutinesNow())
		took = append(took, s.Load.Latencies()...)
		return time.Now().After(over) && len(took) > 0
	})
	slices.Sort(took)
	s.during = append(s.during, took...)
	s.ended, _ = s.watch.take()
	s.T.Logf("ingest: p99 %s of %d; goroutines %d, before %d; inserts given up after %s", rig.Percentile(took, 99), len(took), s.goroutines[1], s.goroutines[0], s.ended)
	end()
	s.Recovered()
	if _, breaches := s.watch.take(); len(breaches) > 0 {
		s.T.Errorf("%s seed=%d: a second insert while the first may live: %s", s.Name, s.Seed, breaches)
	}
}

// givenUp notes when the last fault's inserts were: its siblings end with the first one.
func (s *silent) givenUp() {
	s.T.Helper()
	if len(s.ended) == 0 {
		s.T.Fatalf("%s seed=%d: no insert was given up", s.Name, s.Seed)
	}
	s.gaveUp = append(s.gaveUp, slices.Max(s.ended))
}

func (s *silent) goroutinesNow() int64 {
	s.T.Helper()
	n, err := s.Rig.Aggregators[0].Metric(s.T.Context(), "go_goroutines")
	if err != nil {
		s.T.Fatal(err)
	}
	return n
}

// end compares with what was promised, and asks the oracle.
func (s *silent) end() {
	s.T.Helper()
	for _, took := range s.gaveUp {
		if took < s.deadline*9/10 {
			s.T.Errorf("%s seed=%d: an insert was given up after %s, its deadline is %s", s.Name, s.Seed, took, s.deadline)
		}
		s.Within("giving an insert up, after a tenth more than its deadline,", took-s.deadline*11/10, time.Second)
	}
	if s.goroutines[1] > s.goroutines[0]+goroutinesMore {
		s.T.Errorf("%s seed=%d: %d goroutines, %d before", s.Name, s.Seed, s.goroutines[1], s.goroutines[0])
	}
	slices.Sort(s.during)
	s.Unaffected(s.normal, s.during, latencyMost)
	if breaches := overlaps(s.Fight); len(breaches) > 0 {
		s.T.Errorf("%s seed=%d: %s", s.Name, s.Seed, breaches)
	}
	s.Note += fmt.Sprintf(" deadline=%s given_up=%s goroutines=%d before=%d", s.deadline, slices.Max(s.gaveUp).Round(time.Millisecond), s.goroutines[1], s.goroutines[0])
	s.End()
}

// overlaps are inserts of one name that the server ran at the same time, by its own log.
func overlaps(f *fight.Fight) (found []string) {
	f.T.Helper()
	ctx := f.T.Context()
	flushed, err := f.Rig.Warehouse().Stream(ctx, "SYSTEM FLUSH LOGS")
	if err != nil {
		f.T.Fatal(err)
	}
	_ = flushed.Close() // it says nothing
	rows, err := f.Rig.Warehouse().Rows(ctx, `SELECT query_id, toString(query_start_time_microseconds AS begun), toString(max(event_time_microseconds))
		FROM system.query_log WHERE startsWith(query_id, 'agg-') AND type IN ('QueryFinish', 'ExceptionWhileProcessing') GROUP BY query_id, begun ORDER BY ALL`)
	if err != nil {
		f.T.Fatal(err)
	}
	for i := range len(rows) - 1 {
		if earlier, later := rows[i], rows[i+1]; earlier[0] == later[0] && later[1] < earlier[2] {
			found = append(found, fmt.Sprintf("%s ran from %s to %s and from %s", later[0], earlier[1], earlier[2], later[1]))
		}
	}
	f.T.Logf("the server ran %d inserts", len(rows))
	return found
}
