package warehouse

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// The columns of a block, in ClickHouse's native encoding. ch-go's own are used where they append
// without work; strings are encoded while appending, so that sending a block is a chain of writes, and
// low-cardinality columns build their dictionary while appending, so that a row costs one map lookup at
// most and no allocation. Appended strings are copied: callers may reuse their buffers.

// Names of column types, exactly as the tables declare them.
const (
	typeInstant    = proto.ColumnType("DateTime64(3, 'UTC')")
	typeQuantity   = proto.ColumnType("Decimal(38, 9)")
	typeSum        = proto.ColumnType("Decimal(76, 9)")
	typeWord       = proto.ColumnType("LowCardinality(String)")
	typeDimensions = proto.ColumnType("Map(LowCardinality(String), String)")
)

// texts is a String column.
type texts struct {
	buf  []byte
	rows int
}

func (c *texts) add(s string) {
	if s == "" { // most fields of most events
		c.buf = append(c.buf, 0)
		c.rows++
		return
	}
	c.buf = binary.AppendUvarint(c.buf, uint64(len(s)))
	c.buf = append(c.buf, s...)
	c.rows++
}

func (c *texts) addBytes(s []byte) {
	c.buf = binary.AppendUvarint(c.buf, uint64(len(s)))
	c.buf = append(c.buf, s...)
	c.rows++
}

func (c *texts) Type() proto.ColumnType       { return proto.ColumnTypeString }
func (c *texts) Rows() int                    { return c.rows }
func (c *texts) Reset()                       { c.buf, c.rows = c.buf[:0], 0 }
func (c *texts) EncodeColumn(b *proto.Buffer) { b.Buf = append(b.Buf, c.buf...) }
func (c *texts) WriteColumn(w *proto.Writer)  { w.ChainWrite(c.buf) }

// words is a LowCardinality(String) column. Half of the columns of a block hold one word in all rows, mostly the
// empty one: as long as there is no second, rows are only counted.
type words struct {
	index texts
	names []string
	known map[string]uint32
	keys  []uint32 // of the rows, once there are two words
	rows  int
	last  uint32
}

func (c *words) add(s string) {
	if c.rows > 0 && c.names[c.last] == s { // rows of one chunk repeat the previous word nearly always
		c.note(c.last)
		return
	}
	k, ok := c.known[s]
	if !ok {
		if c.known == nil {
			c.known = make(map[string]uint32)
		}
		s = strings.Clone(s)
		k = uint32(len(c.names))
		c.names = append(c.names, s)
		c.index.add(s)
		c.known[s] = k
		if k == 1 { // all rows so far have the first word
			c.keys = slices.Grow(c.keys[:0], c.rows+1)[:c.rows]
			clear(c.keys)
		}
	}
	c.last = k
	c.note(k)
}

// note adds a row with a known word.
func (c *words) note(k uint32) {
	c.rows++
	if len(c.names) > 1 {
		c.keys = append(c.keys, k)
	}
}

func (c *words) Type() proto.ColumnType { return typeWord }
func (c *words) Rows() int              { return c.rows }

func (c *words) Reset() {
	c.index.Reset()
	clear(c.known)
	clear(c.names)
	c.names, c.keys, c.rows, c.last = c.names[:0], c.keys[:0], 0, 0
}

// EncodeState writes the version of the key serialization, ahead of the column's data.
func (c *words) EncodeState(b *proto.Buffer) { b.PutInt64(1) }

// EncodeColumn writes dictionary and keys; the flags say "dictionary included, replaces any before it".
func (c *words) EncodeColumn(b *proto.Buffer) {
	if c.rows == 0 {
		return
	}
	const dictionaryIncluded = 1<<9 | 1<<10
	width := proto.KeyUInt32
	switch n := len(c.names); {
	case n <= 1<<8:
		width = proto.KeyUInt8
	case n <= 1<<16:
		width = proto.KeyUInt16
	}
	b.PutInt64(dictionaryIncluded | int64(width))
	b.PutInt64(int64(len(c.names)))
	c.index.EncodeColumn(b)
	b.PutInt64(int64(c.rows))
	if len(c.names) == 1 {
		b.Buf = append(b.Buf, make([]byte, c.rows)...)
		return
	}
	switch width {
	case proto.KeyUInt8:
		for _, k := range c.keys {
			b.Buf = append(b.Buf, byte(k))
		}
	case proto.KeyUInt16:
		for _, k := range c.keys {
			b.Buf = binary.LittleEndian.AppendUint16(b.Buf, uint16(k))
		}
	default:
		for _, k := range c.keys {
			b.Buf = binary.LittleEndian.AppendUint32(b.Buf, k)
		}
	}
}

func (c *words) WriteColumn(w *proto.Writer) { w.ChainBuffer(c.EncodeColumn) }

// labels is a Map(LowCardinality(String), String) column.
type labels struct {
	offsets proto.ColUInt64
	keys    words
	values  texts
}

func (c *labels) add(dimensions []usage.Dimension) {
	for i := range dimensions {
		c.keys.add(dimensions[i].Key)
		c.values.add(dimensions[i].Value)
	}
	c.offsets = append(c.offsets, uint64(c.values.rows))
}

func (c *labels) Type() proto.ColumnType      { return typeDimensions }
func (c *labels) Rows() int                   { return len(c.offsets) }
func (c *labels) EncodeState(b *proto.Buffer) { c.keys.EncodeState(b) }

func (c *labels) Reset() {
	c.offsets = c.offsets[:0]
	c.keys.Reset()
	c.values.Reset()
}

func (c *labels) EncodeColumn(b *proto.Buffer) {
	c.offsets.EncodeColumn(b)
	c.keys.EncodeColumn(b)
	c.values.EncodeColumn(b)
}

func (c *labels) WriteColumn(w *proto.Writer) {
	c.offsets.WriteColumn(w)
	c.keys.WriteColumn(w)
	c.values.WriteColumn(w)
}

// instants is a DateTime64(3, 'UTC') column; an absent instant is stored as the epoch.
type instants struct{ proto.ColInt64 }

func (c *instants) add(i usage.Instant)  { c.ColInt64 = append(c.ColInt64, i.Millis()) }
func (*instants) Type() proto.ColumnType { return typeInstant }

// quantities is a Decimal(38, 9) column.
type quantities struct{ proto.ColDecimal128 }

func (c *quantities) add(q usage.Quantity) {
	c.ColDecimal128 = append(c.ColDecimal128, proto.Decimal128{Low: q.Lo, High: uint64(q.Hi)})
}
func (*quantities) Type() proto.ColumnType { return typeQuantity }

// sums is a Decimal(76, 9) column.
type sums struct{ proto.ColDecimal256 }

func (c *sums) add(q usage.Quantity) {
	sign := uint64(q.Hi >> 63)
	c.ColDecimal256 = append(c.ColDecimal256, proto.Decimal256{
		Low:  proto.UInt128{Low: q.Lo, High: uint64(q.Hi)},
		High: proto.UInt128{Low: sign, High: sign},
	})
}
func (*sums) Type() proto.ColumnType { return typeSum }
