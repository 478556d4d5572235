package oracle

import (
	"bufio"
	"context"
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// Result is what a check found.
type Result struct {
	Acked      int // sends acknowledged
	Stored     int // rows of events that count: sign 1
	Voided     int // their negations
	Duplicate  int
	Conflict   int
	Lost       int // acknowledged and not there
	Doubled    int // there more than once
	Phantom    int // there and never sent, or not as sent
	Violations []string
}

// violationsMax bounds what a report prints; the counts are always complete.
const violationsMax = 20

func (r *Result) violate(format string, args ...any) {
	if len(r.Violations) < violationsMax {
		r.Violations = append(r.Violations, fmt.Sprintf(format, args...))
	}
}

// Err is nil if every invariant holds.
func (r *Result) Err() error {
	if len(r.Violations) == 0 {
		return nil
	}
	return fmt.Errorf("the warehouse is not what was sent (lost %d, doubled %d, phantom %d):\n  %s",
		r.Lost, r.Doubled, r.Phantom, strings.Join(r.Violations, "\n  "))
}

// Check compares everything with the tables of database db. The producers must have stopped and the
// warehouse must have caught up.
func (o *Oracle) Check(ctx context.Context, ch ClickHouse, db string) (Result, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := Result{Acked: o.acked}
	rows, err := o.readEvents(ctx, ch, db, &r)
	if err != nil {
		return r, err
	}
	o.checkIdentities(rows, &r)
	want := o.sums(rows)
	for _, check := range []func(context.Context, ClickHouse, string, *Result) error{
		func(ctx context.Context, ch ClickHouse, db string, r *Result) error {
			return checkRaw(ctx, ch, db, want, r)
		},
		func(ctx context.Context, ch ClickHouse, db string, r *Result) error {
			return checkRollup(ctx, ch, db, want, r)
		},
		o.checkLedger,
	} {
		if err := check(ctx, ch, db, &r); err != nil {
			return r, err
		}
	}
	return r, nil
}

// found is how often the rows of an identity are there.
type found struct{ plus, minus int }

// readEvents reads every raw row and compares it with what was sent (P).
func (o *Oracle) readEvents(ctx context.Context, ch ClickHouse, db string, r *Result) (map[key]found, error) {
	body, err := ch.Stream(ctx, `SELECT tenant, source, id, sign, type, account, meter, toString(quantity), toUnixTimestamp64Milli(at) FROM `+db+`.events FORMAT TSV`)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	rows := make(map[key]found, len(o.identities))
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		f := strings.Split(lines.Text(), "\t")
		if len(f) != 9 {
			return nil, fmt.Errorf("events: row of %d columns: %q", len(f), lines.Text())
		}
		k := key{f[0], f[1], f[2]}
		n := rows[k]
		if f[3] == "1" {
			n.plus++
			r.Stored++
		} else {
			n.minus++
			r.Voided++
		}
		rows[k] = n
		id := o.identities[k]
		if id == nil || id.sent == 0 {
			r.Phantom++
			r.violate("P: nobody sent %s %s %s", k.tenant, k.source, k.id)
			continue
		}
		if e := id.event; f[4] != e.Type || f[5] != e.Account || f[6] != e.Meter || nanos(f[7]).Cmp(e.nanos()) != 0 || f[8] != strconv.FormatInt(e.At, 10) {
			r.Phantom++
			r.violate("P: %s %s is stored as %v, sent as %+v", k.source, k.id, f[4:], *e)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	return rows, nil
}

// checkIdentities is D, the once of X, and the effect of voids.
func (o *Oracle) checkIdentities(rows map[key]found, r *Result) {
	for k, id := range o.identities {
		n := rows[k]
		switch {
		case n.plus > 1:
			r.Doubled++
			r.violate("X: %s %s %s is stored %d times", k.tenant, k.source, k.id, n.plus)
		case n.plus == 0 && id.acked > 0:
			r.Lost++
			r.violate("D: %s %s %s was acknowledged %d times and is not stored", k.tenant, k.source, k.id, id.acked)
		}
		switch {
		case n.minus > 1:
			r.Doubled++
			r.violate("X: %s %s %s is voided %d times", k.tenant, k.source, k.id, n.minus)
		case n.minus > 0 && id.voidsSent == 0:
			r.Phantom++
			r.violate("P: nobody voided %s %s %s", k.tenant, k.source, k.id)
		case n.minus == 0 && n.plus > 0 && id.voidsAcked > 0:
			r.Lost++
			r.violate("D: %s %s %s was voided and counts", k.tenant, k.source, k.id)
		case n.minus > 0 && n.plus == 0:
			r.violate("X: %s %s %s is voided and not stored", k.tenant, k.source, k.id)
		}
	}
}

// cell is a key of the rollup. The quantity of an event with start and end is spread over hours by
// rules that the oracle does not repeat: it is summed under hour spread.
type cell struct {
	tenant, meter string
	hour          int64 // Unix s
}

const spread = -1

type total struct {
	nanos  *big.Int
	events int64
}

// sums are the oracle's own totals of what is there and not voided.
func (o *Oracle) sums(rows map[key]found) map[cell]total {
	sums := map[cell]total{}
	for k, n := range rows {
		id := o.identities[k]
		if n.plus == 0 || id == nil || id.event == nil || id.event.Meter == "" {
			continue
		}
		e := id.event
		c := cell{e.Tenant, e.Meter, e.At / 3_600_000 * 3600}
		if e.Spans {
			c.hour = spread
		}
		s, known := sums[c]
		if !known {
			s.nanos = new(big.Int) // a cell of which everything was voided is still there
		}
		if n.minus == 0 {
			s.nanos.Add(s.nanos, e.Nanos)
			s.events++
		}
		sums[c] = s
	}
	return sums
}

func (e *Event) nanos() *big.Int {
	if e.Nanos == nil {
		return new(big.Int)
	}
	return e.Nanos
}

// nanos reads a decimal of at most nine places.
func nanos(text string) *big.Int {
	whole, fraction, _ := strings.Cut(text, ".")
	n, ok := new(big.Int).SetString(whole+(fraction + "000000000")[:9], 10)
	if !ok {
		return big.NewInt(-1) // equals nothing that is sent
	}
	return n
}
