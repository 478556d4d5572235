package audit

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// A fingerprint is the XXH3 of a row's columns in a fixed order, numbers as their little-endian bytes,
// texts followed by a zero byte. ClickHouse computes it over the tables, this file over the log. The rows
// of a message are summed modulo 2^64: a message whose sum agrees has the same rows, up to a chance of
// 2^-64 that no fault of the pipeline can steer.

// eventColumns are the columns of `events` that the event alone decides; ids of correlation are left out,
// because those of direct producers are assigned.
const eventColumns = `reinterpretAsFixedString(idx), reinterpretAsFixedString(content_hash),
    reinterpretAsFixedString(at), reinterpretAsFixedString(recorded_at), reinterpretAsFixedString(duration),
    reinterpretAsFixedString(pieces), reinterpretAsFixedString(trial_expiry), reinterpretAsFixedString(trial),
    reinterpretAsFixedString(quantity),
    tenant, '\0', source, '\0', id, '\0', type, '\0', account, '\0', meter, '\0', region, '\0', platform, '\0', plan, '\0',
    unit, '\0', asset_id, '\0', asset_name, '\0', asset_type, '\0', consumer_type, '\0', consumer_id, '\0',
    item, '\0', item_version, '\0', dimensions_text, '\0', data, '\0', extensions, '\0'`

const dimensionsText = `arrayStringConcat(arrayMap((k, v) -> concat(k, '=', v, '\0'), mapKeys(dimensions), mapValues(dimensions)))`

// pieceColumns is the same for a row of `pieces`.
const pieceColumns = `reinterpretAsFixedString(idx), reinterpretAsFixedString(piece), reinterpretAsFixedString(at),
    reinterpretAsFixedString(end_at), reinterpretAsFixedString(recorded_at), reinterpretAsFixedString(trial_expiry),
    reinterpretAsFixedString(trial), reinterpretAsFixedString(quantity),
    tenant, '\0', source, '\0', id, '\0', account, '\0', meter, '\0', region, '\0', platform, '\0', plan, '\0',
    asset_id, '\0', asset_name, '\0', asset_type, '\0', consumer_type, '\0', consumer_id, '\0', item, '\0', dimensions_text, '\0'`

// printer computes fingerprints of the rows that an event must have. Not for concurrent use.
type printer struct{ buf []byte }

func (p *printer) u64(n uint64)  { p.buf = binary.LittleEndian.AppendUint64(p.buf, n) }
func (p *printer) text(s string) { p.buf = append(append(p.buf, s...), 0) }

func (p *printer) flag(b bool) {
	n := byte(0)
	if b {
		n = 1
	}
	p.buf = append(p.buf, n)
}

func (p *printer) quantity(q usage.Quantity) {
	p.u64(q.Lo)
	p.u64(uint64(q.Hi))
}

// event is the fingerprint of the row of sign 1.
func (p *printer) event(tenant string, e *event) uint64 {
	p.buf = binary.LittleEndian.AppendUint32(p.buf[:0], e.idx)
	p.u64(e.content)
	p.u64(uint64(e.at))
	p.u64(uint64(e.recorded))
	m := e.Metered
	if m == nil {
		m = &usage.Metered{}
	}
	p.u64(uint64(duration(e)))
	p.buf = binary.LittleEndian.AppendUint16(p.buf, uint16(len(e.pieces)))
	p.u64(uint64(millisOr0(m.TrialExpiry)))
	p.flag(m.TrialExpiry.Known() && e.at < m.TrialExpiry.Millis())
	p.quantity(e.quantity)
	for _, s := range [...]string{tenant, e.Source, e.ID, e.Type, e.Subject, e.meter, m.Region, m.Platform, m.Plan,
		m.Unit, m.AssetID, m.AssetName, m.AssetType, m.ConsumerType, m.ConsumerID, m.Item, m.ItemVersion} {
		p.text(s)
	}
	p.dimensions(m.Dimensions)
	p.text(e.Data)
	p.text(e.Extensions)
	return xxh3.Hash(p.buf)
}

func (p *printer) dimensions(all []usage.Dimension) {
	for _, d := range all {
		p.buf = append(append(p.buf, d.Key...), '=')
		p.text(d.Value)
	}
	p.buf = append(p.buf, 0)
}

// piece is the fingerprint of the n-th of two or more pieces.
func (p *printer) piece(tenant string, e *event, n int) uint64 {
	m, c := e.Metered, &e.pieces[n]
	p.buf = binary.LittleEndian.AppendUint32(p.buf[:0], e.idx)
	p.buf = binary.LittleEndian.AppendUint16(p.buf, uint16(n))
	p.u64(uint64(c.Start.Millis()))
	p.u64(uint64(c.End.Millis()))
	p.u64(uint64(e.recorded))
	p.u64(uint64(millisOr0(m.TrialExpiry)))
	p.flag(c.Trial)
	p.quantity(c.Quantity)
	for _, s := range [...]string{tenant, e.Source, e.ID, e.Subject, e.meter, m.Region, m.Platform, m.Plan,
		m.AssetID, m.AssetName, m.AssetType, m.ConsumerType, m.ConsumerID, m.Item} {
		p.text(s)
	}
	p.dimensions(m.Dimensions)
	return xxh3.Hash(p.buf)
}

// dead is the fingerprint of a dead letter: where it is, and whether it is a conflict.
func (p *printer) dead(idx uint32, conflict bool) uint64 {
	p.buf = binary.LittleEndian.AppendUint32(p.buf[:0], idx)
	p.flag(conflict)
	return xxh3.Hash(p.buf)
}

// duplicate is the fingerprint of a row of `duplicates`.
func (p *printer) duplicate(d *repeated) uint64 {
	p.buf = binary.LittleEndian.AppendUint32(p.buf[:0], d.idx)
	p.buf = binary.LittleEndian.AppendUint32(p.buf, d.n)
	p.buf = binary.LittleEndian.AppendUint16(p.buf, d.original.Shard)
	p.u64(d.original.Seq)
	p.buf = binary.LittleEndian.AppendUint32(p.buf, d.original.Idx)
	for _, s := range [...]string{d.tenant, d.source, d.id} {
		p.text(s)
	}
	return xxh3.Hash(p.buf)
}

func duration(e *event) int64 {
	if e.Metered != nil && e.Metered.End.Known() {
		return e.Metered.End.Millis() - e.at
	}
	return 0
}

func millisOr0(i usage.Instant) int64 {
	if !i.Known() {
		return 0
	}
	return i.Millis()
}
