package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/eventlog"
)

const (
	auditSubject   = "control.audit." // <tenant>
	auditConflicts = 50               // writers of one chain at a time, each of which needs a turn
	detailMax      = 256              // bytes of one text in an entry: whoever fails to sign in chooses some of them
)

// Actor is who changes something, for the audit log and for what they may do.
type Actor struct {
	By     string         // operator:<login>, key:<id>, or the name of a command
	From   string         // address, where there is one
	Viewer *access.Viewer // of an operator; nil: a key with scope admin, or whoever reaches NATS
}

// Entry is one line of a tenant's audit log. Each holds the SHA-256 of the one before, and its own over all of it:
// an entry that is changed or taken out breaks the chain.
type Entry struct {
	Number   uint64            `json:"number"` // from 1, without gaps
	Tenant   string            `json:"tenant"`
	At       time.Time         `json:"at"`
	By       string            `json:"by"`
	From     string            `json:"from,omitzero"`
	Action   string            `json:"action"`
	Target   string            `json:"target,omitzero"`
	Detail   map[string]string `json:"detail,omitzero"`
	Change   *StateChange      `json:"change,omitzero"` // the message of CONTROL that this tells of
	Late     bool              `json:"late,omitzero"`   // written by who found the change without an entry
	Previous string            `json:"previous"`
	SHA256   string            `json:"sha256"`
}

// StateChange names a message of CONTROL and what is in it.
type StateChange struct {
	Subject string `json:"subject"`
	SHA256  string `json:"sha256"`
}

// sum is the hash of an entry, its own field left out.
func (e Entry) sum() string {
	e.SHA256 = ""
	b, err := json.Marshal(e)
	if err != nil { // texts, numbers and a time: cannot fail
		return ""
	}
	return hexSum(b)
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// audited is a message of CONTROL that the audit log tells of.
type audited interface {
	// audit is the line for it; false if this change is none of the log's.
	audit() (Entry, bool)
}

// Record adds to the audit log what changed nothing in CONTROL: who signed in, who failed to.
func (s *Store) Record(ctx context.Context, by Actor, tenant, action, target string, detail map[string]string) error {
	if err := s.chain(ctx, Entry{Tenant: tenant, By: by.By, From: by.From, Action: action, Target: target, Detail: detail}); err != nil {
		return fmt.Errorf("audit log of %s: %w", tenant, err)
	}
	return nil
}

// tell adds the line for a change that was just written. It cannot be taken back any more, so a failure is noted
// only; Complete makes up for it.
func (s *Store) tell(ctx context.Context, subject string, data []byte, doc any) {
	a, ok := doc.(audited)
	if !ok {
		return
	}
	e, ok := a.audit()
	if !ok {
		return
	}
	if from, ok := ctx.Value(fromKey{}).(string); ok {
		e.From = from
	}
	e.Change = &StateChange{Subject: subject, SHA256: hexSum(data)}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	if err := s.chain(ctx, e); err != nil {
		s.log.Warn("a change is not in the audit log yet", zap.String("subject", subject), zap.Error(err))
	}
}

type fromKey struct{}

// From is a context in which the audit log notes the address that a change came from.
func From(ctx context.Context, address string) context.Context {
	return context.WithValue(ctx, fromKey{}, address)
}

// chain appends an entry. Of several writers one has its turn; the others look again at what is last.
func (s *Store) chain(ctx context.Context, e Entry) error {
	if !eventlog.ValidTenant(e.Tenant) {
		return badTenant(e.Tenant)
	}
	subject := auditSubject + e.Tenant
	s.chaining.Lock() // writers of this process take turns here, those of others at the server
	defer s.chaining.Unlock()
	for range auditConflicts {
		revision, data, err := s.last(ctx, subject)
		if err != nil {
			return err
		}
		var previous Entry
		if revision > 0 {
			if err := json.Unmarshal(data, &previous); err != nil {
				return fmt.Errorf("entry %d of %s: %w", revision, stream, err)
			}
		}
		_, err = s.write(ctx, subject, revision, e.after(previous, s.now()))
		if !errors.Is(err, ErrConflict) {
			return err
		}
		if pause(ctx, time.Duration(1+rand.IntN(20))*time.Millisecond) != nil {
			break
		}
	}
	return ErrConflict
}

// after is the entry as the one that follows previous.
func (e Entry) after(previous Entry, now time.Time) Entry {
	e.Number, e.Previous, e.At = previous.Number+1, previous.SHA256, now.UTC().Truncate(time.Millisecond)
	e.By, e.From, e.Target = cut(e.By), cut(e.From), cut(e.Target)
	detail := map[string]string{}
	for name, text := range e.Detail {
		detail[name] = cut(text)
	}
	if e.Detail = detail; len(detail) == 0 {
		e.Detail = nil
	}
	e.SHA256 = e.sum()
	return e
}

func cut(text string) string {
	if len(text) > detailMax {
		text = text[:detailMax] + "…"
	}
	return jsonText(text)
}

// jsonText is the text as JSON can hold it, so that what is hashed is what is read back.
func jsonText(text string) string {
	b, err := json.Marshal(text)
	if err != nil {
		return ""
	}
	var same string
	_ = json.Unmarshal(b, &same) // made a line above
	return same
}

// AuditQuery asks for entries, newest first.
type AuditQuery struct {
	Tenant         string
	By, Action     string // "" is any
	Target         string
	Before         uint64 // only entries with a lower number; 0: all
	Limit          int
	Since, Through time.Time // zero: no bound
}

func (q AuditQuery) wants(e *Entry) bool {
	return (q.By == "" || e.By == q.By) && (q.Action == "" || e.Action == q.Action) && (q.Target == "" || e.Target == q.Target) &&
		(q.Before == 0 || e.Number < q.Before) && (q.Since.IsZero() || !e.At.Before(q.Since)) && (q.Through.IsZero() || e.At.Before(q.Through))
}

// AuditLog lists entries of a tenant.
func (s *Store) AuditLog(ctx context.Context, q AuditQuery) ([]Entry, error) {
	if !eventlog.ValidTenant(q.Tenant) {
		return nil, badTenant(q.Tenant)
	}
	limit := max(1, q.Limit)
	newest := make([]Entry, 0, 2*limit)
	err := s.walk(ctx, auditSubject+q.Tenant, func(_ string, data []byte, _ time.Time) error {
		var e Entry
		if err := json.Unmarshal(data, &e); err != nil {
			return nil //nolint:nilerr // VerifyLog names it; the others are still of use
		}
		if q.wants(&e) {
			if newest = append(newest, e); len(newest) == 2*limit {
				newest = append(newest[:0], newest[limit:]...)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	newest = newest[max(0, len(newest)-limit):]
	slices.Reverse(newest)
	return newest, nil
}

// walk reads all messages of CONTROL under a subject that are there now, oldest first.
func (s *Store) walk(ctx context.Context, subject string, each func(subject string, data []byte, at time.Time) error) error {
	handle, err := s.conn.JetStream().Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	consumer, err := handle.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverAllPolicy, FilterSubject: subject, AckPolicy: jetstream.AckNonePolicy, MaxDeliver: 1,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: consumerIdle,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	pending := consumer.CachedInfo().NumPending
	if pending == 0 {
		return nil
	}
	messages, err := consumer.Messages(jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(heartbeat))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	for delivered := uint64(1); delivered <= pending; delivered++ {
		msg, err := messages.Next()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, errors.Join(err, ctx.Err()))
		}
		meta, err := msg.Metadata()
		if err != nil || meta.Sequence.Consumer != delivered {
			return fmt.Errorf("%w: a delivery was lost", ErrUnavailable)
		}
		if err := each(msg.Subject(), msg.Data(), meta.Timestamp); err != nil {
			return err
		}
	}
	return nil
}
