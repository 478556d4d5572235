package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// electionMin is less than the four seconds for which the servers of a cluster miss their leader before they elect another.
const electionMin = 3 * time.Second

// Head is the last sequence of a partition, 0 where nothing was ever stored: what anybody was promised to be stored before
// Head was asked is at or below it. A leader that was cut off, and knows nothing of what its successor takes, does not answer
// for the log: ErrUnavailable.
func (l *Log) Head(ctx context.Context, partition int) (uint64, error) {
	if err := l.valid(partition); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	stream, err := l.conn.js.Stream(ctx, streamName(partition))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("head of partition %d: %w", partition, l.conn.apiError(err))
	}
	info := stream.CachedInfo()
	if silence := unheard(info); silence >= electionMin {
		return 0, fmt.Errorf("head of partition %d: %w: its leader has not heard from most of its replicas for %s", partition, ErrUnavailable, silence)
	}
	return info.State.LastSeq, nil
}
