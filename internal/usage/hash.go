package usage

import (
	"encoding/binary"
	"strings"

	"github.com/zeebo/xxh3"
)

// IdentityHash is the XXH3 of tenant, source and id with zero bytes between them. Neither a tenant nor
// a source can contain one (a source is a URI reference), so different identities never collide by
// construction. Stored for ever: it must not change.
func IdentityHash(tenant string, id Identity) uint64 {
	var buf [256]byte
	b := append(buf[:0], tenant...)
	b = append(b, 0)
	b = append(b, id.Source...)
	b = append(b, 0)
	b = append(b, id.ID...)
	return xxh3.Hash(b)
}

// ContentHash tells a retry from a conflict (I6). It covers what the producer sent about the
// fact itself: type, subject, time, data. It leaves out what a retry may carry differently
// (correlationid, causationid, traceparent, recordedtime, other extensions) and everything assigned.
// Spelling does not matter because the fields it reads are already canonical. Every field is
// length-prefixed, so no two events share an encoding. Stored for ever: it must not change.
func ContentHash(e *Event) uint64 {
	var buf [1024]byte
	b := appendText(buf[:0], e.Type)
	b = appendText(b, e.Subject)
	b = appendInstant(b, e.Time)
	if m := e.Metered; m != nil {
		b = appendMeteredHash(b, m)
	} else {
		b = append(b, 0)
	}
	b = appendText(b, e.Target.Source)
	b = appendText(b, e.Target.ID)
	b = appendText(b, e.Data)
	if hasBinaryData(e) {
		b = append(b, 1)
	}
	return xxh3.Hash(b)
}

func appendMeteredHash(b []byte, m *Metered) []byte {
	b = append(b, 1)
	b = appendText(b, m.Meter)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Quantity.Hi))
	b = binary.LittleEndian.AppendUint64(b, m.Quantity.Lo)
	for _, s := range [...]string{
		m.Unit, m.AssetID, m.AssetName, m.AssetType, m.Region, m.Platform,
		m.ConsumerID, m.ConsumerType, m.Item, m.ItemVersion, m.Plan,
	} {
		b = appendText(b, s)
	}
	b = appendInstant(b, m.Start)
	b = appendInstant(b, m.End)
	b = appendInstant(b, m.TrialExpiry)
	b = binary.AppendUvarint(b, uint64(len(m.Dimensions)))
	for _, d := range m.Dimensions {
		b = appendText(b, d.Key)
		b = appendText(b, d.Value)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendInstant(b []byte, i Instant) []byte {
	if !i.known {
		return append(b, 0)
	}
	return binary.LittleEndian.AppendUint64(append(b, 1), uint64(i.ns))
}

// binaryData is the member of Event.Extensions that says Data is the base64 text of binary data. An
// extension's name has no underscore and quotes inside strings are escaped, so finding it is exact.
const binaryData = `"data_base64":true`

func hasBinaryData(e *Event) bool {
	return e.Extensions != "" && strings.Contains(e.Extensions, binaryData)
}
