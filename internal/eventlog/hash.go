package eventlog

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/zeebo/xxh3"
)

// MessageHash is the 128-bit XXH3 of a stored message, as the ledger keeps it: it tells whether the log
// still holds the message it held when the row was written. Every part is length-prefixed and headers are
// taken in order of their names, so two different messages have no common spelling.
func MessageHash(subject string, header map[string][]string, data []byte) [16]byte {
	var h xxh3.Hasher
	var buf [binary.MaxVarintLen64]byte
	length := func(n int) { _, _ = h.Write(buf[:binary.PutUvarint(buf[:], uint64(n))]) }
	text := func(s string) {
		length(len(s))
		_, _ = h.WriteString(s)
	}
	text(subject)
	length(len(header))
	for _, name := range slices.Sorted(maps.Keys(header)) {
		text(name)
		length(len(header[name]))
		for _, v := range header[name] {
			text(v)
		}
	}
	length(len(data))
	_, _ = h.Write(data)
	return h.Sum128().Bytes()
}
