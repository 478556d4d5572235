package aggregator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// TestPackedAndPlainAgree: a chunk that stays packed until it is decided, and whose rows are made again
// when something in flight is voided, gives the rows of the same events decoded beforehand.
func TestPackedAndPlainAgree(t *testing.T) {
	t.Parallel()
	voided, repeated := 0, 0
	for seed := range uint64(400) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		packed, plain := twice(t, simLog(rnd))
		cuts := rnd.Uint64()
		got, want := decideAll(t, packed, cuts), decideAll(t, plain, cuts)
		for target := range warehouse.Targets {
			if err := differ(got[target], want[target]); err != nil {
				t.Fatalf("seed %d: %s: %v", seed, target, err)
			}
		}
		voided += len(got[warehouse.Pieces])
		repeated += len(got[warehouse.Duplicates])
	}
	if voided == 0 || repeated == 0 {
		t.Errorf("%d pieces, %d duplicates: nothing was tried", voided, repeated)
	}
}

// twice is a log as it comes from ingest, and the same log with everything decoded.
func twice(t *testing.T, log []*chunk) (packed, plain []*chunk) {
	t.Helper()
	d := newDecoder(0, 0, newHasher())
	for _, c := range log {
		if c.missing || len(c.events) == 0 {
			continue
		}
		in := eventlog.Chunk{AcceptedAt: millis(c.acceptedAt), Backfill: true}
		for i := range c.events {
			e := *c.events[i].event
			if e.Type == usage.TypeVoided {
				e.Data = `{"reason":"r"}`
			}
			if e.Type == "account.created" {
				e.Data = `{"name":"n"}`
			}
			e.RecordedTime = millis(c.events[i].recordedAt)
			in.Events = append(in.Events, e)
		}
		data, err := eventlog.EncodeChunk(nil, &in)
		if err != nil {
			t.Fatal(err)
		}
		m := &eventlog.Message{Seq: uint64(len(packed) + 1), Tenant: c.tenant, Kind: eventlog.KindChunk, Data: data, Time: millis(c.loggedAt)}
		one := d.decode(m)
		two := d.decode(m)
		items, rejects, err := new(opener).open(two) // an opener of its own: what it returns stays
		if err != nil {
			t.Fatal(err)
		}
		two.events, two.rejects, two.packed, two.ids, two.targets = items, rejects, nil, nil, nil
		packed, plain = append(packed, one), append(plain, two)
	}
	return packed, plain
}

// decideAll decides a log in batches, some of them retired, and counts the rows.
func decideAll(t *testing.T, log []*chunk, cuts uint64) (rows [warehouse.Targets]map[string]int) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(cuts, 1))
	w := &world{parts: map[warehouse.Target]map[warehouse.Partition][]simRow{}, ended: endings{}}
	d := &decider{history: w, filter: newFilter(64), memory: newMemory(), router: newRouter(nil), waiting: map[identityKey]Waiting{}}
	d.memory.keep = rnd.IntN(40)
	hash := d.memory.hash.again()
	for target := range rows {
		rows[target] = map[string]int{}
	}
	var flying []*batch
	for at := 0; at < len(log); {
		cut := min(len(log), at+1+rnd.IntN(5))
		for _, c := range log[at:cut] { // as this decider's own reader would have named them
			for i := range c.ids {
				c.ids[i].ident = identOf(t, c, i, &hash)
			}
		}
		b, err := d.decide(context.Background(), log[at:cut], &simRows{})
		if err != nil {
			t.Fatal(err)
		}
		at = cut
		for flying = append(flying, b); len(flying) > rnd.IntN(4); flying = flying[1:] {
			land(w, flying[0], &rows)
			d.retire(flying[0])
		}
	}
	for _, b := range flying {
		land(w, b, &rows)
	}
	return rows
}

func identOf(t *testing.T, c *chunk, n int, hash *hasher) (out ident) {
	t.Helper()
	i := 0
	err := new(eventlog.Scanner).Scan(c.packed, func(id, _ usage.Identity) {
		if i == n {
			out = hash.of(c.tenant, id)
		}
		i++
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// land stores the rows of a batch in the model warehouse, and counts them.
func land(w *world, b *batch, rows *[warehouse.Targets]map[string]int) {
	for target := range warehouse.Targets {
		for _, p := range b.rows.(*simRows).parts(target) {
			if w.parts[target] == nil {
				w.parts[target] = map[warehouse.Partition][]simRow{}
			}
			w.parts[target][p.part] = append(w.parts[target][p.part], p.rows...)
			for _, r := range p.rows {
				key := r.key
				if r.cell != nil {
					key = fmt.Sprintf("%s %s %d %d %d %s %s", r.key, r.cell.quantity, r.cell.events, r.cell.voids, r.cell.rows, r.cell.low, r.cell.high)
				}
				rows[target][key]++
			}
		}
	}
}
