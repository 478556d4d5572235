package usage

import "time"

// Limits bound one event (architecture 10). A field left zero takes its default.
type Limits struct {
	EventBytes     int           // longest event, in bytes of JSON
	Dimensions     int           // most dimensions of one event
	DimensionBytes int           // longest name and longest value of a dimension
	ExtraTypes     []string      // further types that are taken, stored and not metered, with data of any kind
	MaxSpan        time.Duration // longest end - start
}

// DefaultLimits is what architecture 10 and events.md 7 promise.
func DefaultLimits() Limits {
	return Limits{EventBytes: 64 << 10, Dimensions: 64, DimensionBytes: 256, MaxSpan: 400 * 24 * time.Hour}
}

// Parser reads CloudEvents. It keeps buffers between calls, so it is reusable but not concurrent; what
// it returns shares no memory with them or with the document.
type Parser struct {
	limits Limits
	extra  map[string]bool
}
