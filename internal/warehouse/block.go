package warehouse

import (
	"github.com/ClickHouse/ch-go/proto"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// Block is the rows of one insert into one target, column by column. Append rows, hand it to
// Writer.Insert, Reset it and use it again; its memory is kept. A block belongs to one goroutine.
type Block interface {
	Target() Target
	Rows() int
	Reset()
	base() *block
}

// block is what all blocks share: the columns as ch-go sends them, and the highest position of each
// partition, which becomes the watermark when the insert has succeeded.
type block struct {
	target Target
	input  proto.Input
	rows   int
	high   map[Partition]uint64
	cached Partition // the partition of the previous row and its highest position, not yet in high
	top    uint64
}

func (b *block) Target() Target { return b.target }
func (b *block) Rows() int      { return b.rows }
func (b *block) base() *block   { return b }

func (b *block) Reset() {
	b.input.Reset()
	b.rows, b.cached, b.top = 0, 0, 0
	clear(b.high)
}

// note records the position of an appended row.
func (b *block) note(at usage.Instant, seq uint64) {
	p := PartitionOf(b.target, at)
	if p != b.cached && b.rows > 0 {
		b.settle()
		b.top = 0
	}
	b.cached, b.top = p, max(b.top, seq)
	b.rows++
}

func (b *block) settle() {
	b.high[b.cached] = max(b.high[b.cached], b.top)
}

// highest is the highest position of every partition the block touches.
func (b *block) highest() map[Partition]uint64 {
	if b.rows > 0 {
		b.settle()
	}
	return b.high
}

func newBlock(t Target, input proto.Input) block {
	return block{target: t, input: input, high: make(map[Partition]uint64)}
}
