package warehouse

import "github.com/countinghouse/countinghouse/internal/usage"

// Position is where the log holds an event: partition and incarnation, stream sequence, index in the chunk.
type Position struct {
	Shard uint16
	Seq   uint64
	Idx   uint32
}

// EventRow is a row of `events`. The fields are those of the table, in its order; an absent instant is
// stored as the epoch.
type EventRow struct {
	Position
	Sign          int8
	Tenant        string
	Source        string
	ID            string
	IDHash        uint64
	ContentHash   uint64
	Type          string
	Account       string
	At            usage.Instant
	ReportedAt    usage.Instant
	RecordedAt    usage.Instant
	AcceptedAt    usage.Instant
	WrittenAt     usage.Instant
	CorrelationID string
	CausationID   string
	Meter         string
	Quantity      usage.Quantity
	Unit          string
	AssetID       string
	AssetName     string
	AssetType     string
	EndAt         usage.Instant // absent: = At
	Pieces        uint16
	TrialExpiry   usage.Instant
	Trial         bool
	Region        string
	Platform      string
	ConsumerType  string
	ConsumerID    string
	Item          string
	ItemVersion   string
	Plan          string
	Dimensions    []usage.Dimension
	Data          string
	Extensions    string
	VoidEffect    string
}

// PieceRow is a row of `pieces`.
type PieceRow struct {
	Position
	Piece        uint16
	Sign         int8
	Tenant       string
	Source       string
	ID           string
	Account      string
	At           usage.Instant
	EndAt        usage.Instant
	RecordedAt   usage.Instant
	Meter        string
	Quantity     usage.Quantity
	AssetID      string
	AssetName    string
	AssetType    string
	TrialExpiry  usage.Instant
	Trial        bool
	Region       string
	Platform     string
	ConsumerType string
	ConsumerID   string
	Item         string
	Plan         string
	Dimensions   []usage.Dimension
}

// RollupRow is a row of `usage_hourly` or `usage_monthly`: the partial sum of one batch for one cell.
type RollupRow struct {
	Shard    uint16
	Hi       uint64
	Tenant   string
	Account  string
	Meter    string
	At       usage.Instant // first instant of the hour, or of the month
	Region   string
	Platform string
	Trial    bool
	Plan     string
	Quantity usage.Quantity
	Events   int64
	Voids    uint64
	Rows     uint64
	Low      usage.Quantity
	High     usage.Quantity
	FirstAt  usage.Instant
	LastAt   usage.Instant
}

// DirectoryRow is a row of `directory_events`.
type DirectoryRow struct {
	Position
	Sign          int8
	Tenant        string
	Source        string
	ID            string
	Type          string
	Account       string
	At            usage.Instant
	RecordedAt    usage.Instant
	CorrelationID string
	Data          string
}

// DeadLetterRow is a row of `dead_letters`.
type DeadLetterRow struct {
	Position
	Tenant       string
	Source       string
	ID           string
	Type         string
	Account      string
	Reason       string
	Detail       string
	Raw          []byte
	RecordedAt   usage.Instant
	ContentHash  uint64
	Original     Position
	OriginalHash uint64
}

// DuplicateRow is a row of `duplicates`.
type DuplicateRow struct {
	Position
	N          uint32
	Tenant     string
	Source     string
	ID         string
	IDHash     uint64
	RecordedAt usage.Instant
	Original   Position
}

// LedgerRow is a row of `ledger`: one message of the log and what became of its events.
type LedgerRow struct {
	Shard       uint16
	Seq         uint64
	Tenant      string
	LoggedAt    usage.Instant
	Hash        [16]byte
	Missing     bool
	Accepted    uint32
	Stored      uint32
	Duplicate   uint32
	Conflict    uint32
	Quarantined uint32
	Voided      uint32
}
