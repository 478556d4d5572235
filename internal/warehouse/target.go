package warehouse

import (
	"fmt"
	"strconv"

	"github.com/countinghouse/countinghouse/internal/usage"
)

// Target is a table that is a projection of the log and carries its positions.
type Target uint8

// The targets, in the order a batch is inserted: the ledger is last, always (I9).
const (
	Events Target = iota
	Pieces
	Hourly
	Monthly
	Directory
	DeadLetters
	Duplicates
	Elastic
	Ledger
	Targets // number of targets
)

// String is the table's name.
func (t Target) String() string {
	switch t {
	case Events:
		return "events"
	case Pieces:
		return "pieces"
	case Hourly:
		return "usage_hourly"
	case Monthly:
		return "usage_monthly"
	case Directory:
		return "directory_events"
	case DeadLetters:
		return "dead_letters"
	case Duplicates:
		return "duplicates"
	case Elastic:
		return "elastic_lines"
	case Ledger:
		return "ledger"
	}
	return fmt.Sprintf("target(%d)", uint8(t))
}

// seqColumn is the column that holds the position a row came from.
func (t Target) seqColumn() string {
	if t == Hourly || t == Monthly {
		return "hi"
	}
	return "seq"
}

// Partition is a ClickHouse partition of a target: YYYYMM, or 0 for a table without PARTITION BY.
// One block into one partition is one part, which is what makes the watermark sound.
type Partition uint32

// String is ClickHouse's own _partition_id.
func (p Partition) String() string {
	if p == 0 {
		return "all"
	}
	return strconv.FormatUint(uint64(p), 10)
}

// ParsePartition reads a _partition_id.
func ParsePartition(id string) (Partition, error) {
	if id == "all" {
		return 0, nil
	}
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil || n < 197001 || n > 219912 {
		return 0, fmt.Errorf("partition id %q is neither 'all' nor a month of 1970 to 2199", id)
	}
	return Partition(n), nil
}

// PartitionOf is the partition a row of target t with the time at lands in. The time is the one the
// table partitions by: At of events, pieces and elastic lines, At of the rollups, RecordedAt of dead letters and
// duplicates; directory events and the ledger have one partition. It must equal _partition_id exactly,
// or the watermark filter keeps rows it must drop.
func PartitionOf(t Target, at usage.Instant) Partition {
	if t == Directory || t == Ledger {
		return 0
	}
	return monthOf(at.Millis())
}

// monthOf is toYYYYMM of a non-negative number of milliseconds since the epoch, without time.Time: it
// runs once per row. Days to civil date after Howard Hinnant's days_from_civil inverse.
func monthOf(ms int64) Partition {
	day := uint64(ms)/86_400_000 + 719_468
	era := day / 146_097
	doe := day % 146_097
	yoe := (doe - doe/1_460 + doe/36_524 - doe/146_096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	year, month := era*400+yoe, mp+3
	if month > 12 {
		month -= 12
		year++
	}
	return Partition(year*100 + month)
}
