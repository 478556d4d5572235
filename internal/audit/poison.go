package audit

import (
	"context"
	"fmt"
	"slices"

	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// readPoison reads which events a decoder panicked at when they were counted. This program may read them
// well: they count nowhere all the same, until they are sent again, because what was decided stays.
func (w *walk) readPoison(ctx context.Context, from, to uint64) (map[uint64][]uint32, error) {
	const sql = `SELECT seq, idx FROM {{db}}.dead_letters WHERE reason = 'poison' AND {{range}} AND {{scope}} ORDER BY seq, idx`
	poison := map[uint64][]uint32{}
	err := w.query(ctx, w.ranged(sql, "", from, to), w.args(), func(row warehouse.Rows) error {
		var seq uint64
		var idx uint32
		err := row.Scan(&seq, &idx)
		poison[seq] = append(poison[seq], idx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the poison of shard %d from %d to %d: %w", w.number, from, to, err)
	}
	return poison, nil
}

// spoil makes rejects of events that a decoder panicked at. Where the ledger knows of one event only, it was
// the message as a whole.
func (m *message) spoil(poison []uint32, ledger []ledgerRow) {
	switch {
	case len(poison) == 0:
	case len(poison) == 1 && len(ledger) == 1 && ledger[0].accepted == 1:
		m.events, m.rejects = nil, []uint32{0}
	default:
		kept := len(m.events)
		m.events = slices.DeleteFunc(m.events, func(e event) bool { return slices.Contains(poison, e.idx) })
		if kept > len(m.events) {
			m.rejects = append(m.rejects, poison...)
			slices.Sort(m.rejects)
			m.rejects = slices.Compact(m.rejects)
		}
	}
}

// carefully reads a message at which this program panics, event by event, as the aggregator does.
func (r *reader) carefully(out *message, m *eventlog.Message) {
	out.events, out.rejects = nil, nil
	defer func() {
		if recover() != nil { // what breaks a reader is quarantined whole, and so must the ledger say
			out.events, out.rejects = nil, []uint32{0}
		}
		r.parser, r.spare = usage.NewParser(usage.DefaultLimits()), nil
	}()
	if m.Kind == eventlog.KindChunk {
		r.spare = nil
		r.packed(out, m.Data, eventlog.DecodeCarefully)
		return
	}
	docs, err := usage.Split(m.Data)
	if err != nil || len(docs) > eventlog.DirectEventsMax {
		out.rejects = []uint32{0}
		return
	}
	for i, doc := range docs {
		if !r.alone(out, m, i, doc) {
			out.rejects = append(out.rejects, uint32(i))
		}
	}
}

// alone reads one event of a direct producer; false if it counts nothing.
func (r *reader) alone(out *message, m *eventlog.Message, i int, doc []byte) (counts bool) {
	defer func() {
		if recover() != nil {
			counts = false
		}
	}()
	r.parser = usage.NewParser(usage.DefaultLimits())
	e, faults := r.parser.Event(doc)
	if window := (usage.Window{Past: windowPast, Future: windowFuture}); len(faults) > 0 || len(window.Check(&e, m.Time)) > 0 {
		return false
	}
	out.take(&e, i, out.logged, out.logged)
	return true
}
