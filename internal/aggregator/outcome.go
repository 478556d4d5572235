package aggregator

import (
	"errors"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// errBroken marks a broken invariant of our own: the process must stop; the log still has the data.
var errBroken = errors.New("invariant broken")

// Reasons of dead letters that only the aggregator can give; the others are fault codes of package usage.
const (
	resultDuplicate   = "duplicate" // not a dead letter: a metric
	reasonConflict    = "conflict"
	reasonVoidOfVoid  = "void-of-void"
	reasonUndecodable = "undecodable"
	reasonPoison      = "poison"
	reasonBadHeader   = "bad-header"
)

// fill makes r the stored row of an event: its own fields only, so that no later event can make it wrong.
func (d *decision) fill(r *eventRow, c *chunk, it *item, pos Position) {
	e := it.event
	at := e.Occurred(usage.At(c.acceptedAt * 1e6))
	reported := c.acceptedAt
	if e.Time.Known() {
		reported = e.Time.Millis()
	}
	*r = eventRow{
		pos: pos, sign: 1, tenant: c.tenant, event: e, idHash: it.idHash, contentHash: it.contentHash,
		at: at.Millis(), reportedAt: reported, recordedAt: it.recordedAt, acceptedAt: c.acceptedAt,
		correlation: e.CorrelationID, causation: e.CausationID,
	}
	if r.correlation == "" {
		r.correlation = correlationOf(c.shard, c.seq)
	}
	if r.causation == "" {
		r.causation = r.correlation
	}
	r.meter, r.quantity = e.Count()
	if e.Metered != nil {
		r.pieces = e.Metered.Cut()
	}
}

// duplicate notes a repeated delivery; repetitions within a chunk share a row.
func (d *decision) duplicate(c *chunk, it *item, says saying, id usage.Identity, pos, first Position) {
	d.note(resultDuplicate)
	if i, ok := d.repeats[says]; ok {
		d.duplicates[i].n++
		return
	}
	d.repeats[says] = len(d.duplicates)
	d.duplicates = append(d.duplicates, duplicateRow{
		pos: pos, n: 1, tenant: c.tenant, id: id, idHash: it.idHash, recordedAt: c.loggedAt, original: first,
	})
}

// conflict sends a second event under a used identity, but with other content, to the dead letters.
func (d *decision) conflict(c *chunk, it *item, id usage.Identity, pos Position, o found) {
	d.note(reasonConflict)
	d.router.dead(&deadRow{
		pos: pos, tenant: c.tenant, id: id, typ: it.event.Type, account: it.event.Subject, reason: reasonConflict,
		detail: "another event with this source and id and other content was stored first; send a correction as event.voided plus a new id",
		raw:    rawOf(it), recordedAt: c.loggedAt, contentHash: it.contentHash, original: o.pos, originalHash: o.contentHash,
	})
}

// quarantine sends what can never count to the dead letters, with its raw bytes.
func (d *decision) quarantine(c *chunk, r *reject, l *ledgerRow) {
	d.note(r.reason)
	l.quarantined++
	d.router.dead(&deadRow{
		pos: Position{Shard: c.shard, Seq: c.seq, Idx: r.idx}, tenant: c.tenant, id: r.id, typ: r.typ, account: r.account,
		reason: r.reason, detail: r.detail, raw: r.raw, recordedAt: c.loggedAt,
	})
}

func (d *decision) note(result string) {
	if d.counted != nil {
		d.counted(result, 1)
	}
}

// rawOf is the event as received, or as near as a chunk keeps it.
func rawOf(it *item) []byte {
	if it.raw != nil {
		return it.raw
	}
	return usage.AppendJSON(nil, it.event)
}
