package control

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/eventlog"
)

// Why a key is refused. All are 401; ErrUnavailable is not one of them.
var (
	ErrUnknownKey = errors.New("API key unknown")
	ErrRevoked    = errors.New("API key revoked")
	ErrExpired    = errors.New("API key expired")
)

// Scopes lists every scope there is. None implies another.
func Scopes() []string {
	return []string{
		"events:write", "events:backfill", "usage:read", "reports:read", "reports:write",
		"months:close", "dlq:read", "dlq:write", "sql:read", "admin",
	}
}

// Key is an API key without its secret.
type Key struct {
	ID        string    `json:"id"`
	Tenant    string    `json:"tenant"`
	Name      string    `json:"name"`
	Scopes    []string  `json:"scopes"`
	CreatedAt time.Time `json:"created_at"`
	CreatedBy string    `json:"created_by,omitzero"`
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: never
	RevokedAt time.Time `json:"revoked_at,omitzero"` // zero: in force
	RevokedBy string    `json:"revoked_by,omitzero"`
}

// Has reports whether the key has scope.
func (k *Key) Has(scope string) bool { return slices.Contains(k.Scopes, scope) }

// Spec is what a new key is to be.
type Spec struct {
	Tenant  string
	Name    string // for people; may be empty
	Scopes  []string
	Expires time.Time // zero: never
	By      string    // who makes it; may be empty
}

const nameMax = 128 // bytes

// event is one message of CONTROL: what happened, and the state after it.
type event struct {
	Change string    `json:"change"` // created, revoked
	At     time.Time `json:"at"`
	By     string    `json:"by,omitzero"`
	Key    Key       `json:"key"`
	Hash   []byte    `json:"secret_sha256"`
}

// record is a key as the cache holds it.
type record struct {
	Key
	hash     []byte
	revision uint64
}

// Create makes a key; secret is shown here and never again. The tenant exists from its first key.
func (s *Store) Create(ctx context.Context, tenant, name string, scopes []string, expires time.Time) (id, secret string, err error) {
	secret = NewToken()
	key, err := s.CreateWithSecret(ctx, secret, Spec{Tenant: tenant, Name: name, Scopes: scopes, Expires: expires})
	if err != nil {
		return "", "", err
	}
	return key.ID, secret, nil
}

// CreateWithSecret makes the key of a token that NewToken made earlier, unless it is there already: for
// programs that keep the token and may start over. A key with this id that is revoked, or has another
// secret, tenant or other scopes, is ErrConflict.
func (s *Store) CreateWithSecret(ctx context.Context, token string, spec Spec) (Key, error) {
	id, hash, err := parse(token)
	if err != nil {
		return Key{}, err
	}
	if err := s.validate(&spec); err != nil {
		return Key{}, err
	}
	now := s.now().UTC().Truncate(time.Millisecond)
	key := Key{ID: id, Tenant: spec.Tenant, Name: spec.Name, Scopes: spec.Scopes, CreatedAt: now, CreatedBy: spec.By, ExpiresAt: spec.Expires}
	if _, err := s.current(ctx, id); errors.Is(err, ErrUnknownKey) {
		var revision uint64
		if revision, err = s.write(ctx, keySubject+id, 0, event{Change: "created", At: now, By: spec.By, Key: key, Hash: hash[:]}); err == nil {
			s.put(record{Key: key, hash: hash[:], revision: revision})
			return key, nil
		}
		if !errors.Is(err, ErrConflict) {
			return Key{}, fmt.Errorf("create key: %w", err)
		}
	}
	have, err := s.current(ctx, id)
	if err != nil {
		return Key{}, fmt.Errorf("create key: %w", err)
	}
	if !equal(have.hash, hash) || !have.RevokedAt.IsZero() || have.Tenant != spec.Tenant || !slices.Equal(have.Scopes, spec.Scopes) {
		return Key{}, fmt.Errorf("create key: %w: key %s exists and is another", ErrConflict, id)
	}
	return have.Key, nil
}

func (s *Store) validate(spec *Spec) error {
	if !eventlog.ValidTenant(spec.Tenant) {
		return badTenant(spec.Tenant)
	}
	if !printable(spec.Name, nameMax) {
		return refused("name", "want at most %d bytes, none of them a control character", nameMax)
	}
	if len(spec.Scopes) == 0 {
		return refused("scopes", "want at least one of %s", strings.Join(Scopes(), ", "))
	}
	for _, scope := range spec.Scopes {
		if !slices.Contains(Scopes(), scope) {
			return refused("scopes", "%q is none; want some of %s", scope, strings.Join(Scopes(), ", "))
		}
	}
	spec.Scopes = slices.Compact(slices.Sorted(slices.Values(spec.Scopes)))
	if !spec.Expires.IsZero() && !spec.Expires.After(s.now()) {
		return refused("expires", "want an instant to come")
	}
	return nil
}

// printable reports whether a text has at most so many bytes, none of them a control character.
func printable(s string, most int) bool {
	return len(s) <= most && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// Revoke ends a key for ever; revoking it again changes nothing. ErrUnknownKey if there is none.
func (s *Store) Revoke(ctx context.Context, id string) error { return s.RevokeBy(ctx, id, "") }

// RevokeBy is Revoke that notes who did it.
func (s *Store) RevokeBy(ctx context.Context, id, by string) error {
	for range conflictsMax {
		have, err := s.current(ctx, id)
		if err != nil {
			return fmt.Errorf("revoke key: %w", err)
		}
		if !have.RevokedAt.IsZero() {
			s.put(have)
			return nil
		}
		have.RevokedAt, have.RevokedBy = s.now().UTC().Truncate(time.Millisecond), by
		have.revision, err = s.write(ctx, keySubject+id, have.revision, event{Change: "revoked", At: have.RevokedAt, By: by, Key: have.Key, Hash: have.hash})
		if err == nil {
			s.put(have)
			return nil
		}
		if !errors.Is(err, ErrConflict) {
			return fmt.Errorf("revoke key: %w", err)
		}
		if pause(ctx, retryConflict) != nil {
			break
		}
	}
	return fmt.Errorf("revoke key: %w", ErrConflict)
}

// current reads a key from the server, not from the cache.
func (s *Store) current(ctx context.Context, id string) (record, error) {
	if len(id) != idLength || !alphanumeric(id) {
		return record{}, ErrUnknownKey
	}
	revision, data, err := s.last(ctx, keySubject+id)
	if err != nil {
		return record{}, err
	}
	if revision == 0 {
		return record{}, ErrUnknownKey
	}
	return decode(revision, data)
}

func decode(revision uint64, data []byte) (record, error) {
	var e event
	if err := json.Unmarshal(data, &e); err != nil {
		return record{}, fmt.Errorf("message %d of %s: %w", revision, stream, err)
	}
	return record{Key: e.Key, hash: e.Hash, revision: revision}, nil
}

// Verify answers the key of a token, from memory. The error is ErrChecksum, ErrUnknownKey, ErrRevoked,
// ErrExpired, or ErrUnavailable when it cannot be known.
func (s *Store) Verify(ctx context.Context, token string) (Key, error) {
	id, hash, err := parse(token)
	if err != nil {
		return Key{}, err
	}
	s.mu.RLock()
	have, known := s.keys[id]
	s.mu.RUnlock()
	if !known {
		if have, err = s.unknown(ctx, id); err != nil {
			return Key{}, err
		}
	}
	switch {
	case !equal(have.hash, hash):
		return Key{}, ErrUnknownKey // right id, wrong secret: say no more
	case !have.RevokedAt.IsZero():
		return Key{}, ErrRevoked
	case !have.ExpiresAt.IsZero() && !s.now().Before(have.ExpiresAt):
		return Key{}, ErrExpired
	}
	key := have.Key
	key.Scopes = slices.Clone(key.Scopes)
	return key, nil
}

func equal(stored []byte, hash [sha256.Size]byte) bool {
	return subtle.ConstantTimeCompare(stored, hash[:]) == 1
}

// unknown looks once more for a key that is not in memory: it may have been made a moment ago, elsewhere.
func (s *Store) unknown(ctx context.Context, id string) (record, error) {
	if err := s.loaded(ctx, firstLoad); err != nil {
		return record{}, err
	}
	s.mu.RLock()
	have, known := s.keys[id]
	synced := s.synced
	s.mu.RUnlock()
	if known {
		return have, nil
	}
	// Requests that come together with a key just made ask once: only guesses of many ids are held back.
	answer, err, _ := s.asking.Do(id, func() (any, error) {
		if !s.lookups.Allow() {
			if synced {
				return record{}, ErrUnknownKey
			}
			return record{}, ErrUnavailable
		}
		have, err := s.current(context.WithoutCancel(ctx), id) // others wait for it too; it has its own limit
		if err != nil {
			return record{}, err
		}
		s.put(have)
		return have, nil
	})
	if err != nil {
		return record{}, err
	}
	return answer.(record), nil
}

// List answers the keys of a tenant, or of all if tenant is "", revoked and expired ones included, oldest
// first.
func (s *Store) List(ctx context.Context, tenant string) ([]Key, error) {
	if err := s.loaded(ctx, writeTimeout); err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var keys []Key
	for _, r := range s.keys {
		if tenant == "" || r.Tenant == tenant {
			k := r.Key
			k.Scopes = slices.Clone(k.Scopes)
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b Key) int {
		if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return keys, nil
}

// Get answers one key; ErrUnknownKey if there is none.
func (s *Store) Get(ctx context.Context, id string) (Key, error) {
	have, err := s.current(ctx, id)
	if err != nil {
		return Key{}, fmt.Errorf("get key: %w", err)
	}
	return have.Key, nil
}

// Tenants lists every tenant that ever had a key, sorted.
func (s *Store) Tenants(ctx context.Context) ([]string, error) {
	if err := s.loaded(ctx, writeTimeout); err != nil {
		return nil, fmt.Errorf("list tenants: %w", err)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	seen := map[string]bool{}
	var names []string
	for _, r := range s.keys {
		if !seen[r.Tenant] {
			seen[r.Tenant] = true
			names = append(names, r.Tenant)
		}
	}
	slices.Sort(names)
	return names, nil
}

// put keeps a newer state of a key. What a process wrote itself it knows at once.
func (s *Store) put(r record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, known := s.keys[r.ID]; !known || have.revision < r.revision {
		s.keys[r.ID] = r
	}
}

// keyFollower feeds the cache of a Store.
type keyFollower struct {
	*Store
	loading map[string]record // from begin to synced
}

func (f *keyFollower) source() (string, string) { return stream, keySubject + "*" }

func (f *keyFollower) ensure(ctx context.Context, conn *eventlog.Conn) error {
	return ensure(ctx, conn)
}

func (f *keyFollower) begin() { f.loading = map[string]record{} }

func (f *keyFollower) apply(subject string, revision uint64, _ string, data []byte) {
	r, err := decode(revision, data)
	if err != nil || keySubject+r.ID != subject {
		f.log.Error("control state holds a message that is no key", zap.String("subject", subject), zap.Uint64("seq", revision), zap.Error(err))
		return
	}
	if f.loading != nil {
		f.loading[r.ID] = r
		return
	}
	f.put(r)
}

func (f *keyFollower) synced() {
	f.mu.Lock()
	defer f.mu.Unlock()
	// The stream is right even where memory has a higher revision: after CONTROL was restored from an older
	// copy the numbers mean something else. What this process wrote a moment ago is delivered next.
	f.keys, f.loading, f.Store.synced = f.loading, nil, true
	if !f.Ready() {
		close(f.ready)
	}
}

func (f *keyFollower) lost() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Store.synced = false
}
