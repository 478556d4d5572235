// Package demo makes sample data: a group of companies over half a year. Northwind sells sign-in, networks,
// certificates and elastic software licences, itself and through resellers; forty accounts, three levels below
// it, use them.
//
// Guarantee: the events are a pure function of the day on which the demo began and of now, and what happened
// until an earlier now is a part of them, unchanged. So sending them again, on a later day or after a restart,
// only adds what is new since. They go in over HTTP like any producer's, by a key that may say when events were
// recorded: history has a past.
//
// There is something to see in every report, and on purpose some things that go wrong: an event after the close
// of its month, a void, a gap, broken rules, a producer that contradicts itself.
package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/countinghouse/countinghouse/internal/client"
)

// months before the current one that have usage at the first start.
const months = 6

// Began is the day on which a demo begins that is started now.
func Began(now time.Time) time.Time {
	return time.Date(now.UTC().Year(), now.UTC().Month()-months, 1, 0, 0, 0, 0, time.UTC)
}

// Sender posts a JSON array of events.
type Sender interface {
	SendEvents(ctx context.Context, batch []byte) (client.Receipt, error)
}

// Events calls each for every event of a demo that began on a day, up to now, in batches of a JSON array.
func Events(began, now time.Time, each func(batch []byte, events int) error) error {
	s := &stage{began: began.UTC().Truncate(24 * time.Hour), now: now, each: each}
	return s.run()
}

// Send sends the demo and says how many events ingest took.
func Send(ctx context.Context, to Sender, began, now time.Time) (int, error) {
	sent := 0
	err := Events(began, now, func(batch []byte, n int) error {
		r, err := to.SendEvents(ctx, batch)
		if err != nil {
			return fmt.Errorf("send sample data: %w", err)
		}
		if r.Accepted != n {
			return fmt.Errorf("send sample data: %d of %d events refused: %+v", n-r.Accepted, n, r.Errors)
		}
		sent += n
		return nil
	})
	return sent, err
}
