package control

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/countinghouse/countinghouse/internal/eventlog"
)

// kind is one kind of things that tenants have in CONTROL, each under an id: report jobs, schedules. Every message is
// what happened to one of them, and its state after it.
type kind[T any] struct {
	word    string // for people, and in front of the ids of its subjects: control.<word>.<tenant>.<id>
	unknown error
	place   func(*T) (tenant, id string, revision *uint64)
	wrap    func(change, by string, at time.Time, one T) any // the message
	unwrap  func(data []byte) (T, error)
}

func (k kind[T]) prefix() string { return "control." + k.word + "." }

func (k kind[T]) subject(tenant, id string) (string, error) {
	if !eventlog.ValidTenant(tenant) || !validID(id) {
		return "", fmt.Errorf("%w: no %s of a tenant: %q of %q", ErrInvalid, k.word, id, tenant)
	}
	return k.prefix() + tenant + "." + id, nil
}

const idMax = 64

// validID reports whether an id is one token of a subject, and no trouble anywhere else.
func validID(id string) bool {
	return id != "" && len(id) <= idMax && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	})
}

// change makes one, which was read and then changed, the state of its thing, if nobody changed it since; ErrConflict if
// somebody did.
func (k kind[T]) change(ctx context.Context, s *Store, one T, change, by string, at time.Time) (T, error) {
	var none T
	tenant, id, revision := k.place(&one)
	subject, err := k.subject(tenant, id)
	if err != nil {
		return none, err
	}
	if *revision, err = s.write(ctx, subject, *revision, k.wrap(change, by, at.UTC().Truncate(time.Millisecond), one)); err != nil {
		return none, fmt.Errorf("%s %s of %s %s: %w", k.word, id, tenant, change, err)
	}
	return one, nil
}

// add is change for one that is not there yet; ErrConflict if it is.
func (k kind[T]) add(ctx context.Context, s *Store, one T, change, by string, at time.Time) (T, error) {
	_, _, revision := k.place(&one)
	*revision = 0
	return k.change(ctx, s, one, change, by, at)
}

// read reads one from the server, not from memory.
func (k kind[T]) read(ctx context.Context, s *Store, tenant, id string) (T, error) {
	var none T
	subject, err := k.subject(tenant, id)
	if err != nil {
		return none, k.unknown
	}
	revision, data, err := s.last(ctx, subject)
	if err != nil {
		return none, fmt.Errorf("read %s %s of %s: %w", k.word, id, tenant, err)
	}
	if revision == 0 {
		return none, k.unknown
	}
	return k.decode(revision, data)
}

func (k kind[T]) decode(revision uint64, data []byte) (T, error) {
	one, err := k.unwrap(data)
	if err != nil {
		return one, fmt.Errorf("message %d of %s: %w", revision, stream, err)
	}
	_, _, at := k.place(&one)
	*at = revision
	return one, nil
}

// follow starts following all of the kind. It outlives ctx until Close.
func (k kind[T]) follow(ctx context.Context, s *Store) *kept[T] {
	return keep(ctx, s, k.prefix(), k.decode, func(one T) (string, uint64) {
		tenant, id, revision := k.place(&one)
		name, err := k.subject(tenant, id)
		if err != nil {
			name = ""
		}
		return name, *revision
	})
}
