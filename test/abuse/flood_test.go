package abuse_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/oracle"
	"github.com/countinghouse/countinghouse/test/rig"
)

const (
	floodBatch = 500
	floodHands = 4 // over HTTP; one more to NATS
	// floodPause is how long a producer of the load waits between two requests meanwhile: what is compared is what the
	// flood costs, and the load costs the more the longer a slow machine takes for it.
	floodPause = 300 * time.Millisecond
)

// F22: one id, again and again, over both roads at once. It counts once, whoever else uses the id counts too,
// other content under it is named, and it costs no more than twice what different ids cost.
func TestF22DuplicateFlood(t *testing.T) {
	f := fight.Begin(t, "F22", rig.Options{FlushWait: 200 * time.Millisecond, BatchRows: 50_000, IngestFlags: patient()})
	flood := fight.Rounds(50_000, 1_000_000)
	s, other := newSender(f, "flooded", "/flood"), newSender(f, "bystander", "/flood")
	elsewhere := *s
	elsewhere.source = "/flood/elsewhere"

	f.Load.Think(floodPause)
	usual := drive(f, flood, func() []*oracle.Event { return s.events(floodBatch) })
	the := s.named("the-one", 1)
	one := func() []*oracle.Event {
		all := make([]*oracle.Event, floodBatch)
		for i := range all {
			all[i] = the
		}
		return all
	}
	flooded := drive(f, flood, one)

	namesakes(f, other, &elsewhere)
	conflicts := contradict(f, s)
	letters := checkFlood(f, s, other, conflicts)
	percent := int64(100)
	if flooded > 0 {
		percent = int64(100 * usual / flooded)
	}
	f.Note = fmt.Sprintf(" flood=%d contradictions=%d letters=%d usual=%s flooded=%s rate=%d%%", flood, conflicts, letters, usual.Round(10*time.Millisecond), flooded.Round(10*time.Millisecond), percent)
	if percent < 50 {
		t.Errorf("%s seed=%d: %d duplicates took %s of CPU time, as many different events %s", f.Name, f.Seed, flood, flooded, usual)
	}
	f.End()
}

// drive sends n events over both roads, waits until they are counted, and answers the CPU time that all parts
// took for it. Others use the machine too: only that is comparable.
func drive(f *fight.Fight, n int, next func() []*oracle.Event) time.Duration {
	f.T.Helper()
	nc, err := nats.Connect(f.Rig.NATSURL())
	if err != nil {
		f.T.Fatal(err)
	}
	defer nc.Close()
	p := publisher(f, nc)
	s := newSender(f, "flooded", "/flood")
	before := spent(f)
	var mu sync.Mutex // of next
	left := n
	take := func() []*oracle.Event {
		mu.Lock()
		defer mu.Unlock()
		if left <= 0 {
			return nil
		}
		left -= floodBatch
		return next()
	}
	var running sync.WaitGroup
	for hand := range floodHands + 1 {
		running.Go(func() {
			for events := take(); events != nil; events = take() {
				if hand == 0 {
					p.deliver(subject(s, "events"), batch(events), items(oracle.Original, events))
					continue
				}
				deliver(f, s, events)
			}
		})
	}
	running.Wait()
	logged, err := f.Rig.Logged(f.T.Context())
	if err != nil {
		f.T.Fatal(err)
	}
	f.Counting(logged - 1)
	return spent(f) - before
}

// deliver posts until it is acknowledged.
func deliver(f *fight.Fight, s *sender, events []*oracle.Event) {
	for f.T.Context().Err() == nil {
		a := s.send(f.T.Context(), oracle.Original, events...)
		switch a.status {
		case http.StatusAccepted:
			return
		case http.StatusServiceUnavailable, 0: // as producers do
		default:
			f.T.Errorf("%s seed=%d: %s", f.Name, f.Seed, &a)
			return
		}
	}
}

// deliver publishes until it is acknowledged.
func (d *direct) deliver(subject string, data []byte, items []oracle.Item) {
	for d.f.T.Context().Err() == nil {
		if ack, err := d.try(subject, data, nil, items); err == nil && !ack.Duplicate {
			return
		}
	}
}

// spent is the CPU time of all parts so far.
func spent(f *fight.Fight) (sum time.Duration) {
	f.T.Helper()
	for _, p := range f.Parts() {
		sum += cost(f, p).CPU
	}
	return sum
}

// namesakes are other events that happen to have the id: of another tenant, and of another source.
func namesakes(f *fight.Fight, others ...*sender) {
	f.T.Helper()
	for _, s := range others {
		deliver(f, s, []*oracle.Event{s.named("the-one", 7)})
	}
}

// contradictions of one kind are in one request.
const contradictions = 200

// contradict sends other content under the id, over both roads, and answers how often it is acknowledged.
func contradict(f *fight.Fight, s *sender) (acknowledged int) {
	f.T.Helper()
	nc, err := nats.Connect(f.Rig.NATSURL())
	if err != nil {
		f.T.Fatal(err)
	}
	defer nc.Close()
	p := publisher(f, nc)
	for _, units := range []int64{2, 3} {
		same := slices.Repeat([]*oracle.Event{s.named("the-one", units)}, contradictions)
		if a := s.send(f.T.Context(), oracle.Conflict, same...); a.status != http.StatusAccepted {
			f.T.Fatalf("%s seed=%d: %s", f.Name, f.Seed, &a)
		}
		p.publish(subject(s, "events"), batch(same), nats.Header{jetstream.MsgIDHeader: {fmt.Sprint("contradiction-", units)}}, items(oracle.Conflict, same))
		acknowledged += 2 * contradictions
	}
	return acknowledged
}

// lettersMax is how often the contradictions may be recorded: of each there are two requests, and one of
// them may be cut into two chunks.
const lettersMax = 2 * 3

// checkFlood looks at what became of the one id, and answers how often a conflict was recorded.
func checkFlood(f *fight.Fight, s, other *sender, conflicts int) (letters int64) {
	f.T.Helper()
	f.Rig.Until("the conflicts are recorded, once a chunk, with both hashes", rig.SettleWait, func(ctx context.Context) bool {
		n, err := f.Rig.Warehouse().Numbers(ctx, `SELECT count(), uniqExact(content_hash), countIf(original_hash = 0 OR content_hash = 0 OR original_hash = content_hash), uniqExact(original_hash),
			(SELECT toInt64(sum(n)) FROM `+rig.Database+`.duplicates WHERE id = 'the-one' AND tenant = '`+s.tenant+`' AND (original_seq, original_idx) IN
			(SELECT seq, idx FROM `+rig.Database+`.dead_letters WHERE id = 'the-one' AND tenant = '`+s.tenant+`'))
			FROM `+rig.Database+`.dead_letters WHERE id = 'the-one' AND reason = 'conflict' AND tenant = '`+s.tenant+`'`)
		if err != nil {
			return false
		}
		letters = n[0]
		return letters <= lettersMax && n[1] == 2 && n[2] == 0 && n[3] == 1 && letters+n[4] == int64(conflicts)
	})
	for _, tt := range []struct {
		tenant, source string
		units          int64
	}{{s.tenant, s.source, 1}, {s.tenant, s.source + "/elsewhere", 7}, {other.tenant, other.source, 7}} {
		f.Rig.Until("the namesake is counted", rig.SettleWait, func(ctx context.Context) bool {
			n, err := f.Rig.Warehouse().Numbers(ctx, `SELECT count(), toInt64(sum(quantity)) FROM `+rig.Database+`.events WHERE id = 'the-one' AND tenant = '`+tt.tenant+`' AND source = '`+tt.source+`'`)
			return err == nil && n[0] == 1 && n[1] == tt.units
		})
	}
	return letters
}
