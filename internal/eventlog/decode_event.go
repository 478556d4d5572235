package eventlog

import (
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// event reads one event from b[i:end].
func (d *decoder) event(e *usage.Event, i, end int) (code, detail string) {
	*e = usage.Event{}
	last := uint64(0)
	for i < end {
		tag, next := uvarint(d.b, i)
		if next < 0 || next >= end || tag <= last {
			return CodeSyntax, fmt.Sprintf("field %d is cut off or out of order", tag>>3)
		}
		last = tag
		var fault string
		if tag&7 == wireBytes {
			var s []byte
			if s, i = d.bytes(next, end); i < 0 {
				return CodeSyntax, fmt.Sprintf("field %d is cut off", tag>>3)
			}
			code, fault = d.eventBytes(e, tag>>3, s, i)
		} else {
			var v uint64
			if v, i = uvarint(d.b, next); i < 0 || i > end {
				return CodeSyntax, fmt.Sprintf("field %d is cut off", tag>>3)
			}
			code, fault = d.eventVarint(e, tag, v)
		}
		if code != "" {
			return code, fault
		}
	}
	if e.Metered != nil {
		if e.Type != "" {
			return CodeSyntax, "type and metered exclude each other"
		}
		e.Type = usage.TypeMetered
	}
	if e.CausationID == "" && e.Filled&usage.FilledCausation != 0 {
		e.CausationID = e.CorrelationID
	}
	return "", ""
}

// eventBytes takes a length-delimited field of an event; after is the index behind it.
func (d *decoder) eventBytes(e *usage.Event, field uint64, s []byte, after int) (code, detail string) {
	switch field {
	case 1:
		if len(s) != 16 {
			return CodeSyntax, "id_uuid is not 16 bytes"
		}
		e.ID = d.uuid(s)
		return "", ""
	case 10:
		n := len(d.c.metered)
		d.c.metered = append(d.c.metered, usage.Metered{})
		e.Metered = &d.c.metered[n]
		return d.metered(e.Metered, after-len(s), after)
	case 14:
		if len(s) != 16 {
			return CodeSyntax, "credits_wide is not 16 bytes"
		}
		if !e.Credits.IsZero() {
			return CodeSyntax, "credits given twice"
		}
		e.Credits = wide(s)
		return "", ""
	case 2, 11, 18:
	default:
		return CodeSyntax, fmt.Sprintf("unknown field %d", field)
	}
	if len(s) == 0 {
		return CodeSyntax, fmt.Sprintf("field %d is empty", field)
	}
	if !utf8.Valid(s) {
		return CodeText, fmt.Sprintf("field %d", field)
	}
	switch field {
	case 2:
		if e.ID != "" {
			return CodeSyntax, "id given twice"
		}
		e.ID = alias(s)
	case 11:
		e.Data = alias(s)
	case 18:
		e.Extensions = alias(s)
	}
	return "", ""
}

func (d *decoder) eventVarint(e *usage.Event, tag, v uint64) (code, detail string) {
	var to *string
	switch tag {
	case 3 << 3:
		to = &e.Source
	case 4 << 3:
		to = &e.Type
	case 5 << 3:
		to = &e.Subject
	case 8 << 3:
		to = &e.CorrelationID
	case 9 << 3:
		to = &e.CausationID
	case 15 << 3:
		to = &e.TraceParent
	case 19 << 3:
		to = &e.Target.Source
	case 20 << 3:
		to = &e.Target.ID
	case 6 << 3, 7 << 3:
		return d.instant(&e.Time, tag, v)
	case 16 << 3, 17 << 3:
		return d.instant(&e.RecordedTime, tag, v)
	case 12 << 3:
		if v > math.MaxUint8 {
			return CodeSyntax, "unknown bit in filled"
		}
		e.Filled = usage.Filled(v)
		return "", ""
	case 13 << 3:
		e.Credits = unpackQuantity(v)
		return "", ""
	default:
		return CodeSyntax, fmt.Sprintf("unknown field %d of wire type %d", tag>>3, tag&7)
	}
	if v >= uint64(len(d.c.refs)) || v != 0 && d.c.refs[v] == "" {
		return CodeSyntax, fmt.Sprintf("field %d refers to nothing", tag>>3)
	}
	*to = d.c.refs[v]
	return "", ""
}

// instant takes a time: even field numbers are milliseconds, odd ones nanoseconds.
func (d *decoder) instant(t *usage.Instant, tag, v uint64) (code, detail string) {
	if t.Known() {
		return CodeSyntax, fmt.Sprintf("field %d: time given twice", tag>>3)
	}
	delta := unzigzag(v)
	// Deltas that overflow lie outside the storable range anyway: both bases are in [0, 2200).
	if tag>>3&1 == 0 {
		ms := d.acceptedMs + delta
		if delta > math.MaxInt64/2 || ms < 0 || ms > math.MaxInt64/1_000_000 {
			return CodeTime, fmt.Sprintf("field %d", tag>>3)
		}
		*t = usage.At(ms * 1e6)
	} else {
		if delta > math.MaxInt64-d.accepted {
			return CodeTime, fmt.Sprintf("field %d", tag>>3)
		}
		*t = usage.At(d.accepted + delta)
	}
	return "", ""
}

// metered reads the payload of usage.metered from b[i:end].
func (d *decoder) metered(m *usage.Metered, i, end int) (code, detail string) {
	last := uint64(0)
	for i < end {
		tag, next := uvarint(d.b, i)
		if next < 0 || next >= end || tag <= last {
			return CodeSyntax, fmt.Sprintf("metered field %d is cut off or out of order", tag>>3)
		}
		last = tag
		if tag&7 == wireBytes {
			var s []byte
			if s, i = d.bytes(next, end); i < 0 {
				return CodeSyntax, fmt.Sprintf("metered field %d is cut off", tag>>3)
			}
			code, detail = d.meteredBytes(m, tag>>3, s)
		} else {
			var v uint64
			if v, i = uvarint(d.b, next); i < 0 || i > end {
				return CodeSyntax, fmt.Sprintf("metered field %d is cut off", tag>>3)
			}
			code, detail = d.meteredVarint(m, tag, v)
		}
		if code != "" {
			return code, detail
		}
	}
	return "", ""
}

func (d *decoder) meteredBytes(m *usage.Metered, field uint64, s []byte) (code, detail string) {
	switch field {
	case 3:
		if len(s) != 16 {
			return CodeSyntax, "quantity_wide is not 16 bytes"
		}
		if !m.Quantity.IsZero() {
			return CodeSyntax, "quantity given twice"
		}
		m.Quantity = wide(s)
		return "", ""
	case 15:
		return d.dimensions(m, s)
	}
	return CodeSyntax, fmt.Sprintf("unknown metered field %d", field)
}

func (d *decoder) dimensions(m *usage.Metered, s []byte) (code, detail string) {
	c, start := d.c, len(d.c.dims)
	for i := 0; i < len(s); {
		k, next := uvarint(s, i)
		if next < 0 {
			return CodeSyntax, "dimensions are cut off"
		}
		v, next := uvarint(s, next)
		if next < 0 {
			return CodeSyntax, "dimensions are cut off"
		}
		i = next
		if max(k, v) >= uint64(len(c.refs)) || k != 0 && c.refs[k] == "" || v != 0 && c.refs[v] == "" {
			return CodeSyntax, "a dimension refers to nothing"
		}
		c.dims = append(c.dims, usage.Dimension{Key: c.refs[k], Value: c.refs[v]})
	}
	// Cut to its own capacity: a later append must not write into the neighbour.
	m.Dimensions = c.dims[start:len(c.dims):len(c.dims)]
	return "", ""
}

func (d *decoder) meteredVarint(m *usage.Metered, tag, v uint64) (code, detail string) {
	var to *string
	switch tag {
	case 1 << 3:
		to = &m.Meter
	case 2 << 3:
		m.Quantity = unpackQuantity(v)
		return "", ""
	case 4 << 3:
		to = &m.Unit
	case 5 << 3:
		to = &m.AssetID
	case 6 << 3:
		to = &m.AssetName
	case 7 << 3:
		to = &m.AssetType
	case 8 << 3:
		to = &m.Region
	case 9 << 3:
		to = &m.Platform
	case 10 << 3:
		to = &m.ConsumerID
	case 11 << 3:
		to = &m.ConsumerType
	case 12 << 3:
		to = &m.Item
	case 13 << 3:
		to = &m.ItemVersion
	case 14 << 3:
		to = &m.Plan
	case 16 << 3, 17 << 3:
		return d.instant(&m.Start, tag, v)
	case 18 << 3, 19 << 3:
		return d.instant(&m.End, tag, v)
	case 20 << 3, 21 << 3:
		return d.instant(&m.TrialExpiry, tag, v)
	default:
		return CodeSyntax, fmt.Sprintf("unknown metered field %d of wire type %d", tag>>3, tag&7)
	}
	if v >= uint64(len(d.c.refs)) || v != 0 && d.c.refs[v] == "" {
		return CodeSyntax, fmt.Sprintf("metered field %d refers to nothing", tag>>3)
	}
	*to = d.c.refs[v]
	return "", ""
}
