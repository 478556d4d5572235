package usage

import "time"

// Instant is a point in time as sent: nanoseconds since the Unix epoch, UTC. The zero value means
// absent, which is why presence is kept beside the number: 1970-01-01T00:00:00Z is a legal time.
type Instant struct {
	ns    int64
	known bool
}

// The storable range (architecture 3, point 10): what ClickHouse's DateTime64 and an int64 of
// nanoseconds both hold with room to spare.
var (
	minInstant = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	maxInstant = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
)

// At is the instant ns nanoseconds after the Unix epoch.
func At(ns int64) Instant { return Instant{ns: ns, known: true} }

// AtTime converts a time.Time; it must lie within the storable range.
func AtTime(t time.Time) Instant { return At(t.UnixNano()) }

// Known reports whether the instant is present.
func (i Instant) Known() bool { return i.known }

// Nanos is nanoseconds since the Unix epoch; 0 when absent.
func (i Instant) Nanos() int64 { return i.ns }

// Millis is milliseconds since the Unix epoch, finer digits cut (events.md 1).
func (i Instant) Millis() int64 {
	if i.ns < 0 {
		return (i.ns - 999_999) / 1_000_000
	}
	return i.ns / 1_000_000
}

// Time is the instant as a time.Time in UTC.
func (i Instant) Time() time.Time { return time.Unix(0, i.ns).UTC() }

// Storable reports whether the instant lies in [1970, 2200).
func (i Instant) Storable() bool { return i.ns >= minInstant && i.ns < maxInstant }

// Before reports whether i is earlier than o.
func (i Instant) Before(o Instant) bool { return i.ns < o.ns }
