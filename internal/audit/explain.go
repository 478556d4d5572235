package audit

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// oddity is a message whose rows do not agree with the log, and in which tables.
type oddity struct {
	*message
	verdict
	raw, pieces, dead bool
}

func (o *oddity) any() bool { return o.raw || o.pieces || o.dead }

// explainMax is how many messages are looked at event by event at a time.
const explainMax = 1000

// explain fetches the rows of odd messages and names what differs, event by event. Once the certificate
// lists all it can, the rest is counted by message.
func (w *walk) explain(ctx context.Context, odd []oddity) error {
	for part := range slices.Chunk(odd, explainMax) {
		if w.found.full(CheckRaw) {
			for i := range part {
				w.found.add(Difference{Check: CheckRaw, Tenant: part[i].tenant, Shard: w.number, Seq: part[i].seq, What: "rows differ from the log"})
			}
			continue
		}
		if err := w.explainRaw(ctx, part); err != nil {
			return fmt.Errorf("compare rows event by event: %w", err)
		}
		if err := w.explainPieces(ctx, part); err != nil {
			return fmt.Errorf("compare pieces event by event: %w", err)
		}
		if err := w.explainDead(ctx, part); err != nil {
			return fmt.Errorf("compare dead letters event by event: %w", err)
		}
	}
	return nil
}

// rawRow is a row of events as text, for people to compare.
type rawRow struct {
	seq    uint64
	idx    uint32
	sign   int8
	print  uint64
	fields [len(rawFields)]string
}

// rawFields name the columns that are compared one by one, in the order of rawRows.
var rawFields = [...]string{"tenant", "source", "id", "type", "account", "at", "meter", "quantity", "content_hash", "recorded_at",
	"duration", "pieces", "trial_expiry", "trial", "region", "platform", "plan"}

const rawRows = `
WITH ` + dimensionsText + ` AS dimensions_text
SELECT seq, idx, sign, xxh3(concat(` + eventColumns + `)), [CAST(tenant, 'String'), CAST(source, 'String'), id, CAST(type, 'String'),
    CAST(account, 'String'), toString(toUnixTimestamp64Milli(at)), CAST(meter, 'String'), toString(quantity), toString(content_hash),
    toString(toUnixTimestamp64Milli(recorded_at)), toString(duration), toString(pieces), toString(toUnixTimestamp64Milli(trial_expiry)),
    toString(trial), CAST(region, 'String'), CAST(platform, 'String'), CAST(plan, 'String')]
FROM {{db}}.events
WHERE {{range}} AND {{scope}} AND sign != -1 AND seq IN ({{seqs}})
ORDER BY seq, idx, sign`

func (w *walk) explainRaw(ctx context.Context, odd []oddity) error {
	odd = which(odd, func(o *oddity) bool { return o.raw })
	if len(odd) == 0 {
		return nil
	}
	rows, err := collect(ctx, w.Auditor, w.list(rawRows, "at", odd), w.args(), func(row warehouse.Rows, r *rawRow) error {
		var fields []string
		if err := row.Scan(&r.seq, &r.idx, &r.sign, &r.print, &fields); err != nil {
			return err
		}
		copy(r.fields[:], fields)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range odd {
		n := 0
		for n < len(rows) && rows[n].seq == odd[i].seq {
			n++
		}
		w.compareRaw(&odd[i], rows[:n])
		rows = rows[n:]
	}
	return nil
}

// compareRaw names the rows of one message that are missing, too many or different.
func (w *walk) compareRaw(o *oddity, rows []rawRow) {
	want := make(map[uint32]*event, len(o.kept))
	for _, e := range o.kept {
		if w.inMonths(e.at) {
			want[e.idx] = e
		}
	}
	for i := range rows {
		row := &rows[i]
		d := Difference{Check: CheckRaw, Tenant: row.fields[0], Shard: w.number, Seq: o.seq, Idx: row.idx, Source: row.fields[1], ID: row.fields[2]}
		e := want[row.idx]
		switch {
		case row.sign != 1:
			d.What, d.Want, d.Have = "sign", "1 or -1", strconv.Itoa(int(row.sign))
		case e == nil:
			d.What, d.Want, d.Have = "row without an event of the log to be stored", "no row", "a row"
		case row.fields[1] != e.Source || row.fields[2] != e.ID:
			d.What, d.Want, d.Have = "identity", e.Source+" "+e.ID, row.fields[1]+" "+row.fields[2]
			delete(want, row.idx)
		default:
			delete(want, row.idx)
			if row.print == w.printer.event(o.tenant, e) {
				continue
			}
			d.What, d.Want, d.Have = firstField(w.fields(o.tenant, e), row.fields)
		}
		w.found.add(d)
	}
	for _, idx := range sortedKeys(want) {
		e := want[idx]
		w.found.add(Difference{Check: CheckRaw, Tenant: o.tenant, Month: usage.MonthOf(usage.At(e.at * 1e6)).String(), Shard: w.number, Seq: o.seq,
			Idx: idx, Source: e.Source, ID: e.ID, What: "event of the log without a row, a dead letter or an earlier original", Want: "a row", Have: "no row"})
	}
}

// fields is an event's row as text.
func (w *walk) fields(tenant string, e *event) [len(rawFields)]string {
	m := e.Metered
	if m == nil {
		m = &usage.Metered{}
	}
	ms := func(n int64) string { return strconv.FormatInt(n, 10) }
	return [...]string{tenant, e.Source, e.ID, e.Type, e.Subject, ms(e.at), e.meter, e.quantity.String(), strconv.FormatUint(e.content, 10), ms(e.recorded),
		ms(duration(e)), strconv.Itoa(len(e.pieces)), ms(millisOr0(m.TrialExpiry)),
		strconv.FormatBool(m.TrialExpiry.Known() && e.at < m.TrialExpiry.Millis()), m.Region, m.Platform, m.Plan}
}

func firstField(want, have [len(rawFields)]string) (what, w, h string) {
	for i, name := range rawFields {
		if want[i] != have[i] {
			return name, want[i], have[i]
		}
	}
	return "a column not listed here: unit, asset, consumer, item, dimensions, data or extensions", "", ""
}

const pieceRows = `
SELECT seq, idx, count(), toString(sum(toDecimal256(quantity, 9))), CAST(any(tenant), 'String')
FROM {{db}}.pieces WHERE {{range}} AND {{scope}} AND sign = 1 AND seq IN ({{seqs}})
GROUP BY seq, idx ORDER BY seq, idx`

// explainPieces names events whose pieces are not those of Metered.Cut.
func (w *walk) explainPieces(ctx context.Context, odd []oddity) error {
	odd = which(odd, func(o *oddity) bool { return o.pieces })
	if len(odd) == 0 {
		return nil
	}
	type cut struct {
		idx    uint32
		have   string
		tenant string
	}
	have := map[uint64][]cut{}
	err := w.query(ctx, w.list(pieceRows, "at", odd), w.args(), func(row warehouse.Rows) error {
		var seq, n uint64
		var c cut
		var sum string
		if err := row.Scan(&seq, &c.idx, &n, &sum, &c.tenant); err != nil {
			return err
		}
		c.have = fmt.Sprintf("%d pieces, sum %s", n, sum)
		have[seq] = append(have[seq], c)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range odd {
		o := &odd[i]
		want := map[uint32]*event{}
		for _, e := range o.kept {
			if len(e.pieces) > 1 {
				want[e.idx] = e
			}
		}
		named := false
		add := func(idx uint32, e *event, tenant, want, have string) {
			named = true
			d := Difference{Check: CheckPieces, Tenant: tenant, Shard: w.number, Seq: o.seq, Idx: idx, What: "pieces", Want: want, Have: have}
			if e != nil {
				d.Source, d.ID = e.Source, e.ID
			}
			w.found.add(d)
		}
		for _, c := range have[o.seq] {
			e := want[c.idx]
			delete(want, c.idx)
			if text := w.cutText(e); text != c.have {
				add(c.idx, e, c.tenant, text, c.have)
			}
		}
		for _, idx := range sortedKeys(want) {
			if text := w.cutText(want[idx]); text != w.cutText(nil) {
				add(idx, want[idx], o.tenant, text, w.cutText(nil))
			}
		}
		if !named {
			add(0, nil, o.tenant, "pieces as Metered.Cut makes them", "as many with the same sums, but different")
		}
	}
	return nil
}

func (w *walk) cutText(e *event) string {
	n, sum := 0, usage.Quantity{}
	if e != nil {
		for i := range e.pieces {
			if w.inMonths(e.pieces[i].Start.Millis()) {
				n++
				sum = sum.Add(e.pieces[i].Quantity)
			}
		}
	}
	return fmt.Sprintf("%d pieces, sum %s", n, sum)
}

const deadRows = `
SELECT seq, idx, CAST(reason, 'String'), CAST(tenant, 'String'), source, id
FROM {{db}}.dead_letters WHERE {{range}} AND {{scope}} AND seq IN ({{seqs}})
ORDER BY seq, idx`

// explainDead names dead letters that are missing or that nothing of the log explains.
func (w *walk) explainDead(ctx context.Context, odd []oddity) error {
	odd = which(odd, func(o *oddity) bool { return o.dead })
	if len(odd) == 0 {
		return nil
	}
	have := map[uint64][]Difference{} // its What is the reason
	err := w.query(ctx, w.list(deadRows, "", odd), w.args(), func(row warehouse.Rows) error {
		d := Difference{Check: CheckDead, Shard: w.number}
		if err := row.Scan(&d.Seq, &d.Idx, &d.What, &d.Tenant, &d.Source, &d.ID); err != nil {
			return err
		}
		have[d.Seq] = append(have[d.Seq], d)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range odd {
		o := &odd[i]
		for _, d := range have[o.seq] {
			conflict, ok := o.refused[d.Idx]
			delete(o.refused, d.Idx)
			switch reason := d.What; {
			case !ok:
				d.What, d.Want, d.Have = "dead letter of an event that counts, or a second one", "none", reason
			case conflict != (reason == "conflict"):
				d.What, d.Want, d.Have = "reason", "another", reason
			default:
				continue
			}
			w.found.add(d)
		}
		for _, idx := range sortedKeys(o.refused) {
			w.found.add(Difference{Check: CheckDead, Tenant: o.tenant, Shard: w.number, Seq: o.seq, Idx: idx, What: "no dead letter", Want: "one", Have: "none"})
		}
	}
	return nil
}

func which(odd []oddity, is func(*oddity) bool) []oddity {
	var some []oddity
	for i := range odd {
		if is(&odd[i]) {
			some = append(some, odd[i])
		}
	}
	return some
}

// list completes a statement over some messages.
func (w *walk) list(sql, column string, odd []oddity) string {
	seqs := make([]string, len(odd))
	for i := range odd {
		seqs[i] = strconv.FormatUint(odd[i].seq, 10)
	}
	return strings.Replace(w.ranged(sql, column, odd[0].seq, odd[len(odd)-1].seq), "{{seqs}}", strings.Join(seqs, ", "), 1)
}
