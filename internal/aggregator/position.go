package aggregator

// Position is where an event stands in the log: shard (partition and incarnation of its stream),
// stream sequence of its chunk, index in the chunk. Positions of one partition are totally ordered.
type Position struct {
	Shard uint16
	Seq   uint64
	Idx   uint32
}

// incarnationShift splits a shard number: the low ten bits are the partition, so a shard of a stream
// that was never recreated is simply its partition number (ADR 0007).
const incarnationShift = 10

// incarnationMost is the highest incarnation a shard number has room for.
const incarnationMost = 1<<(16-incarnationShift) - 1

// Shard is the shard number of an incarnation of a partition.
func Shard(partition, incarnation uint16) uint16 {
	return incarnation<<incarnationShift | partition
}

// Partition is the partition a shard belongs to.
func Partition(shard uint16) uint16 { return shard & (1<<incarnationShift - 1) }

// Incarnation counts how often the partition's stream was lost and begun anew.
func Incarnation(shard uint16) uint16 { return shard >> incarnationShift }

// Before reports whether p was logged earlier than o; both must belong to the same partition.
func (p Position) Before(o Position) bool {
	if a, b := Incarnation(p.Shard), Incarnation(o.Shard); a != b {
		return a < b
	}
	if p.Seq != o.Seq {
		return p.Seq < o.Seq
	}
	return p.Idx < o.Idx
}
