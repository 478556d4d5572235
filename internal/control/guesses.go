package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	guessesBucket = "GUESSES"
	guessesKept   = 2 * time.Hour // since the last change: longer than anybody remembers a failure
	guessesBytes  = 64 << 20      // of the bucket: some 200,000 logins and addresses
	guessesTries  = 20            // of one change while others change the same
)

// Guess is how often who one is was proved wrongly, of one login or one address.
type Guess struct {
	Failures int       `json:"failures"`
	Last     time.Time `json:"last"`
	Until    time.Time `json:"until,omitzero"` // nothing is looked at before
}

// Guesses are failed proofs, counted by all reporters together: each change is made with compare-and-set, so of many at
// the same time none is lost. What is counted is in nobody's interest after an hour, and goes by itself.
type Guesses struct {
	store *Store
	mu    sync.Mutex
	kv    jetstream.KeyValue
}

// Guesses opens the bucket at its first use.
func (s *Store) Guesses() *Guesses { return &Guesses{store: s} }

func (g *Guesses) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	g.mu.Lock()
	kv := g.kv
	g.mu.Unlock()
	if kv != nil {
		return kv, nil
	}
	conn := g.store.conn
	kv, err := conn.JetStream().KeyValue(ctx, guessesBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = conn.JetStream().CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: guessesBucket, Description: "failed sign-ins (internal/control)", History: 1, TTL: guessesKept, MaxBytes: guessesBytes,
			Storage: jetstream.FileStorage, Replicas: conn.Replicas(),
		})
		if errors.Is(err, jetstream.ErrBucketExists) {
			kv, err = conn.JetStream().KeyValue(ctx, guessesBucket)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: bucket %s: %w", ErrUnavailable, guessesBucket, err)
	}
	g.mu.Lock()
	g.kv = kv
	g.mu.Unlock()
	return kv, nil
}

// Change reads what is known of a name, and writes what edit makes of it, again while others change the same. edit
// answers false for nothing to write. The answer is what is there then.
func (g *Guesses) Change(ctx context.Context, name string, edit func(*Guess) bool) (Guess, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	kv, err := g.bucket(ctx)
	if err != nil {
		return Guess{}, err
	}
	key := hexSum([]byte(name)) // whatever somebody typed
	for range guessesTries {
		var have Guess
		var revision uint64
		entry, err := kv.Get(ctx, key)
		switch {
		case err == nil:
			if err := json.Unmarshal(entry.Value(), &have); err != nil {
				return Guess{}, fmt.Errorf("guesses: %w", err)
			}
			revision = entry.Revision()
		case !errors.Is(err, jetstream.ErrKeyNotFound):
			return Guess{}, fmt.Errorf("%w: guesses: %w", ErrUnavailable, err)
		}
		if !edit(&have) {
			return have, nil
		}
		value, err := json.Marshal(have)
		if err != nil {
			return Guess{}, fmt.Errorf("guesses: %w", err)
		}
		if revision == 0 {
			_, err = kv.Create(ctx, key, value)
		} else {
			_, err = kv.Update(ctx, key, value, revision)
		}
		if err == nil {
			return have, nil
		}
		if !conflict(err) && !errors.Is(err, jetstream.ErrKeyExists) {
			return Guess{}, fmt.Errorf("%w: guesses: %w", ErrUnavailable, err)
		}
	}
	return Guess{}, fmt.Errorf("guesses: %w", ErrConflict)
}

// Forget forgets what is known of a name.
func (g *Guesses) Forget(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	kv, err := g.bucket(ctx)
	if err == nil {
		err = kv.Delete(ctx, hexSum([]byte(name)))
	}
	if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("%w: guesses: %w", ErrUnavailable, err)
	}
	return nil
}
