package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/eventlog"
)

const (
	sessionsBucket = "SESSIONS"
	sessionsMost   = 24 * time.Hour  // the longest life that SessionLimits may give: the bucket forgets older ones
	sessionBytes   = 64 << 20        // of the bucket
	sessionFresh   = 2 * time.Second // how long a session is believed without asking: bounds how long one lives that was ended elsewhere
	sessionStale   = time.Minute     // the same while NATS is away
	sessionTouch   = time.Minute     // how exact the time of the last request is
	sessionsHeld   = 10_000          // in memory
)

// ErrSignIn: nobody is signed in with this token, or no longer; or login and password are not of an operator.
var ErrSignIn = errors.New("not signed in")

// SessionLimits bound the life of a session.
type SessionLimits struct{ Idle, Life time.Duration }

// Session is an operator signed in. What they may do was settled when it began.
type Session struct {
	Operator string        `json:"operator"`
	Tenant   string        `json:"tenant"`
	Login    string        `json:"login"`
	Name     string        `json:"name"`
	Held     []access.Held `json:"held"`
	Form     string        `json:"form_token"` // what forms send back
	How      string        `json:"how"`        // password, oidc
	Began    time.Time     `json:"began"`
	Seen     time.Time     `json:"seen"`   // to the minute
	Proven   time.Time     `json:"proven"` // when they last proved who they are
	revision uint64
	looked   time.Time
}

// Viewer is who the session is of.
func (s *Session) Viewer(now time.Time) *access.Viewer {
	v := &access.Viewer{
		Tenant: s.Tenant, ID: s.Operator, Login: s.Login, Name: s.Name, Held: s.Held, SignedAt: s.Began,
		Fresh: now.Sub(s.Proven) < access.ProofMax,
	}
	for _, h := range s.Held {
		v.Roles = append(v.Roles, h.Role)
	}
	return v
}

// sessions is the bucket, and what was read of it a moment ago.
type sessions struct {
	store *Store
	mu    sync.Mutex
	held  map[string]Session // by key
	kv    jetstream.KeyValue
}

func newSessions(s *Store) *sessions { return &sessions{store: s, held: map[string]Session{}} }

// sessionKey: the token itself is nowhere but in the browser.
func sessionKey(token string) string { return hexSum([]byte(token)) }

func newSecret() string { return random(32, secretLength) }

func (s *sessions) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	s.mu.Lock()
	kv := s.kv
	s.mu.Unlock()
	if kv != nil {
		return kv, nil
	}
	kv, err := makeSessions(ctx, s.store.conn)
	if err != nil {
		return nil, fmt.Errorf("%w: bucket %s: %w", ErrUnavailable, sessionsBucket, err)
	}
	s.mu.Lock()
	s.kv = kv
	s.mu.Unlock()
	return kv, nil
}

func makeSessions(ctx context.Context, conn *eventlog.Conn) (jetstream.KeyValue, error) {
	kv, err := conn.JetStream().KeyValue(ctx, sessionsBucket)
	if !errors.Is(err, jetstream.ErrBucketNotFound) {
		return kv, err
	}
	kv, err = conn.JetStream().CreateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: sessionsBucket, Description: "operators signed in (internal/control)", History: 1, TTL: sessionsMost, MaxBytes: sessionBytes,
		Storage: jetstream.FileStorage, Replicas: conn.Replicas(),
	})
	if errors.Is(err, jetstream.ErrBucketExists) {
		return conn.JetStream().KeyValue(ctx, sessionsBucket)
	}
	return kv, err
}

// get reads a session; ErrSignIn if there is none.
func (s *sessions) get(ctx context.Context, key string) (Session, error) {
	now := s.store.now()
	s.mu.Lock()
	have, known := s.held[key]
	s.mu.Unlock()
	if known && now.Sub(have.looked) < sessionFresh {
		return have, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var entry jetstream.KeyValueEntry
	kv, err := s.bucket(ctx)
	if err == nil {
		entry, err = kv.Get(ctx, key)
	}
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		s.forget(key)
		return Session{}, ErrSignIn
	case err != nil && known && now.Sub(have.looked) < sessionStale:
		return have, nil
	case err != nil:
		return Session{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var one Session
	if err := json.Unmarshal(entry.Value(), &one); err != nil {
		return one, fmt.Errorf("session: %w", err)
	}
	one.revision, one.looked = entry.Revision(), now
	s.hold(key, one)
	return one, nil
}

func (s *sessions) hold(key string, one Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.held) >= sessionsHeld {
		clear(s.held) // all are in the bucket
	}
	s.held[key] = one
}

func (s *sessions) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, key)
}

// put writes a session; revision 0: a new one.
func (s *sessions) put(ctx context.Context, key string, one Session) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	kv, err := s.bucket(ctx)
	if err != nil {
		return err
	}
	value, err := json.Marshal(one)
	if err != nil {
		return fmt.Errorf("session: %w", err)
	}
	if one.revision == 0 {
		one.revision, err = kv.Create(ctx, key, value)
	} else {
		one.revision, err = kv.Update(ctx, key, value, one.revision)
	}
	if conflict(err) || errors.Is(err, jetstream.ErrKeyExists) {
		s.forget(key)
		return ErrConflict
	}
	if err != nil {
		return fmt.Errorf("%w: session: %w", ErrUnavailable, err)
	}
	one.looked = s.store.now()
	s.hold(key, one)
	return nil
}

func (s *sessions) end(ctx context.Context, key string) error {
	s.forget(key)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	kv, err := s.bucket(ctx)
	if err != nil {
		return err
	}
	if err := kv.Delete(ctx, key); err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return fmt.Errorf("%w: end session: %w", ErrUnavailable, err)
	}
	return nil
}

// Begin signs an operator in, with what their roles allow at this moment. The token goes to the browser and nowhere
// else; it is a new one each time, so that nobody can have planted it.
func (p *People) Begin(ctx context.Context, by Actor, o Operator, how string) (token string, err error) {
	held, err := p.held(ctx, o)
	if err != nil {
		return "", err
	}
	now := p.store.now().UTC()
	one := Session{Operator: o.ID, Tenant: o.Tenant, Login: o.Login, Name: o.Name, Held: held, Form: newSecret(), How: how, Began: now, Seen: now, Proven: now}
	token = newSecret()
	if err := p.sessions.put(ctx, sessionKey(token), one); err != nil {
		return "", err
	}
	return token, p.store.Record(ctx, by, o.Tenant, "signed-in", o.Login, map[string]string{"how": how, "roles": grantTexts(o.Grants)})
}

// Session is the session of a token; ErrSignIn if there is none, or it is over: too old, idle for too long, its operator
// disabled or given another password since.
func (p *People) Session(ctx context.Context, token string, limits SessionLimits) (Session, error) {
	key := sessionKey(token)
	one, err := p.sessions.get(ctx, key)
	if err != nil {
		return one, err
	}
	now := p.store.now()
	if now.Sub(one.Began) >= limits.Life || now.Sub(one.Seen) >= limits.Idle+sessionTouch {
		return Session{}, ErrSignIn
	}
	o, known, err := p.known(ctx, one.Operator)
	if err == nil && (!known || o.ends(one)) {
		// Memory may be a moment behind: the operator was made, or let in again, elsewhere just before they signed in.
		if have, asked := p.Operator(ctx, one.Tenant, one.Operator); !known || !errors.Is(asked, ErrUnavailable) {
			o, err = have, asked
		}
	}
	if err == nil && o.ends(one) || errors.Is(err, ErrUnknownOperator) {
		return Session{}, ErrSignIn
	}
	if err != nil {
		return Session{}, err
	}
	if now.Sub(one.Seen) >= sessionTouch {
		one.Seen = now.UTC()
		if err := p.sessions.put(ctx, key, one); err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrUnavailable) {
			return one, err
		}
	}
	return one, nil
}

// ends reports whether a session of the operator is over.
func (o *Operator) ends(one Session) bool {
	return !o.DisabledAt.IsZero() || !one.Began.After(o.EndsSessions)
}

// known is an operator as memory has it.
func (p *People) known(ctx context.Context, id string) (Operator, bool, error) {
	if !p.operators.Ready() {
		if _, err := p.operators.all(ctx, func(Operator) bool { return false }); err != nil { // waits a little
			return Operator{}, false, err
		}
	}
	p.operators.mu.Lock()
	defer p.operators.mu.Unlock()
	o, known := p.operators.items[operatorSubject+id]
	return o, known, nil
}

// Prove notes that the operator of a session has just proved who they are, again if the time of a request was noted
// meanwhile.
func (p *People) Prove(ctx context.Context, token string) error {
	key := sessionKey(token)
	for range conflictsMax {
		p.sessions.forget(key)
		one, err := p.sessions.get(ctx, key)
		if err != nil {
			return err
		}
		one.Proven = p.store.now().UTC()
		if err := p.sessions.put(ctx, key, one); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return ErrConflict
}

// End signs out: the token is worth nothing from now on, at other reporters within 2 s.
func (p *People) End(ctx context.Context, by Actor, token string) error {
	key := sessionKey(token)
	one, err := p.sessions.get(ctx, key)
	if errors.Is(err, ErrSignIn) {
		return nil
	}
	if err := errors.Join(err, p.sessions.end(ctx, key)); err != nil {
		return err
	}
	return p.store.Record(ctx, by, one.Tenant, "signed-out", one.Login, nil)
}

// CheckPassword answers the operator of login and password; ErrSignIn if there is none who may sign in so. The operator
// is answered in that case as well where there is one, for the audit log. It takes as long for a login that does not
// exist.
func (p *People) CheckPassword(ctx context.Context, login, password string) (Operator, error) {
	o, err := p.Operator(ctx, "", operatorID(login))
	if err != nil && !errors.Is(err, ErrUnknownOperator) {
		return Operator{}, err
	}
	if !p.hashing.matches(o.hash, password) || err != nil || !o.DisabledAt.IsZero() {
		return o, ErrSignIn
	}
	return o, nil
}

// BySubject answers the operator of somebody who signed in at an issuer: who has this subject or, if nobody has, who has
// the login and no subject yet, who has it from then on. ErrSignIn if there is none who may sign in.
func (p *People) BySubject(ctx context.Context, subject, login string) (Operator, error) {
	found, err := p.operators.all(ctx, func(o Operator) bool { return o.Subject == subject })
	if err != nil {
		return Operator{}, err
	}
	if len(found) > 1 || len(found) == 0 && login == "" {
		return Operator{}, ErrSignIn
	}
	id := operatorID(login)
	if len(found) == 1 {
		id = found[0].ID
	}
	o, err := p.Operator(ctx, "", id)
	if errors.Is(err, ErrUnknownOperator) {
		return o, ErrSignIn
	}
	if err != nil {
		return o, err
	}
	switch {
	case !o.DisabledAt.IsZero(), o.Subject != "" && o.Subject != subject:
		return o, ErrSignIn
	case o.Subject == "":
		return p.EditOperator(ctx, Actor{By: "operator:" + o.Login}, o.Tenant, o.ID, OperatorEdit{Subject: &subject})
	}
	return o, nil
}
