package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
)

const serverKey = "server."

// Place answers which ClickHouse server a partition of the log was given to: the one that the first caller
// ever named, whoever asks later and whatever they name. It settles the first ownership only; from then on
// the owner rows in the server's own tables say it, so the record may be lost with the bucket.
func (l *Leases) Place(ctx context.Context, partition int, server string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	kv, err := l.bucket(ctx)
	if err != nil {
		return "", err
	}
	key := serverKey + strconv.Itoa(partition)
	value, _ := json.Marshal(claim{Holder: server}) // two strings: cannot fail
	_, err = kv.Create(ctx, key, value)
	if err == nil {
		return server, nil
	}
	if !errors.Is(err, jetstream.ErrKeyExists) && !conflict(err) {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	entry, err := kv.Get(ctx, key)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var first claim
	if err := json.Unmarshal(entry.Value(), &first); err != nil {
		return "", fmt.Errorf("server of partition %d: %w", partition, err)
	}
	return first.Holder, nil
}
