package control_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/eventlog"
	"github.com/countinghouse/countinghouse/internal/localstack"
)

func TestMain(m *testing.M) { localstack.Main(m) }

func startNATS(t *testing.T) *localstack.NATS {
	t.Helper()
	n, err := localstack.StartNATS(localstack.NATSConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	return n
}

func logger(t *testing.T) *zap.Logger {
	if testing.Verbose() {
		return zaptest.NewLogger(t)
	}
	return zap.NewNop()
}

// open opens a store with a connection of its own, as another program would.
func open(t *testing.T, url string) *control.Store {
	t.Helper()
	cfg := eventlog.DefaultConfig()
	cfg.URL = url
	conn, err := eventlog.Connect(cfg, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	s, err := control.Open(t.Context(), conn, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx := within(t)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

// answered asks until the answer is another than ErrUnavailable, which a server that stood still for seconds gives and
// which repeating heals, and answers that.
func answered(t *testing.T, ask func(context.Context) error) error {
	t.Helper()
	ctx := within(t)
	err := ask(ctx)
	for errors.Is(err, control.ErrUnavailable) && ctx.Err() == nil {
		err = ask(ctx)
	}
	return err
}

func create(t *testing.T, s *control.Store, tenant string, scopes ...string) (id, secret string) {
	t.Helper()
	secret = control.NewToken()
	err := answered(t, func(ctx context.Context) error {
		key, err := s.CreateWithSecret(ctx, secret, control.Spec{Tenant: tenant, Name: "test", Scopes: scopes})
		id = key.ID
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id, secret
}

// verifies asks once: while NATS is down the answer is ErrUnavailable.
func verifies(t *testing.T, s *control.Store, token string) error {
	t.Helper()
	_, err := s.Verify(within(t), token)
	return err
}

// judged is verifies where NATS is up.
func judged(t *testing.T, s *control.Store, token string) (key control.Key, err error) {
	t.Helper()
	err = answered(t, func(ctx context.Context) (err error) {
		key, err = s.Verify(ctx, token)
		return err
	})
	return key, err
}

func TestKeys(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	here, there := open(t, n.URL()), open(t, n.URL())
	id, secret := create(t, here, "acme", "usage:read", "events:write", "usage:read")
	for name, s := range map[string]*control.Store{"here": here, "there": there} {
		key, err := judged(t, s, secret)
		if err != nil {
			t.Fatalf("Verify %s: %v", name, err)
		}
		if key.ID != id || key.Tenant != "acme" || !slices.Equal(key.Scopes, []string{"events:write", "usage:read"}) || !key.Has("usage:read") || key.Has("admin") {
			t.Errorf("Verify %s = %+v", name, key)
		}
	}
	if err := answered(t, func(ctx context.Context) error { return there.Revoke(ctx, id) }); err != nil {
		t.Fatal(err)
	}
	if err := verifies(t, there, secret); !errors.Is(err, control.ErrRevoked) {
		t.Errorf("Verify where it was revoked = %v", err)
	}
	waitFor(t, "the other store hears of it", func() bool { return errors.Is(verifies(t, here, secret), control.ErrRevoked) })
	if err := answered(t, func(ctx context.Context) error { return here.Revoke(ctx, id) }); err != nil {
		t.Errorf("second Revoke = %v", err)
	}
	var key control.Key
	err := answered(t, func(ctx context.Context) (err error) { key, err = here.Get(ctx, id); return err })
	if err != nil || key.RevokedAt.IsZero() || key.CreatedAt.IsZero() {
		t.Errorf("Get = %+v, %v", key, err)
	}
	create(t, here, "beta-2", "admin")
	late := open(t, n.URL())
	waitFor(t, "the late store knows the keys", late.Ready)
	if tenants, err := late.Tenants(within(t)); err != nil || !slices.Equal(tenants, []string{"acme", "beta-2"}) {
		t.Errorf("Tenants = %v, %v", tenants, err)
	}
	if keys, err := late.List(within(t), "acme"); err != nil || len(keys) != 1 || keys[0].ID != id {
		t.Errorf("List = %+v, %v", keys, err)
	}
	if keys, err := late.List(within(t), ""); err != nil || len(keys) != 2 {
		t.Errorf("List of all = %+v, %v", keys, err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	s := open(t, n.URL())
	_, secret := create(t, s, "acme", "admin")
	_, other := create(t, s, "acme", "admin")
	short := control.NewToken()
	for life := 50 * time.Millisecond; ; life *= 2 { // it must not be over before it is made, on a machine however busy
		err := answered(t, func(ctx context.Context) error {
			_, err := s.CreateWithSecret(ctx, short, control.Spec{Tenant: "acme", Scopes: []string{"admin"}, Expires: time.Now().Add(life)})
			return err
		})
		if err == nil {
			break
		}
		if !errors.Is(err, control.ErrInvalid) || life > time.Minute {
			t.Fatal(err)
		}
	}
	waitFor(t, "the short-lived key expires", func() bool { return errors.Is(verifies(t, s, short), control.ErrExpired) })
	tests := map[string]struct {
		token string
		want  error
	}{
		"empty":           {"", control.ErrChecksum},
		"truncated":       {secret[:len(secret)-1], control.ErrChecksum},
		"one digit wrong": {secret[:20] + flip(secret[20]) + secret[21:], control.ErrChecksum},
		"two halves":      {secret[:30] + other[30:], control.ErrChecksum},
		"other case":      {strings.ToUpper(secret), control.ErrChecksum},
		"of nobody":       {control.NewToken(), control.ErrUnknownKey},
	}
	for name, tt := range tests {
		if _, err := judged(t, s, tt.token); !errors.Is(err, tt.want) {
			t.Errorf("%s: Verify = %v, want %v", name, err, tt.want)
		}
	}
	// Guessing well-formed keys is answered too, only without asking NATS each time.
	for range 100 {
		if _, err := judged(t, s, control.NewToken()); !errors.Is(err, control.ErrUnknownKey) {
			t.Fatalf("guess = %v, want ErrUnknownKey", err)
		}
	}
	if err := verifies(t, s, secret); err != nil {
		t.Errorf("a good key while others guess: %v", err)
	}
}

func flip(c byte) string {
	if c == 'a' {
		return "b"
	}
	return "a"
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	s := open(t, n.URL())
	good := control.Spec{Tenant: "acme", Scopes: []string{"admin"}}
	tests := map[string]func(*control.Spec){
		"tenant upper case": func(s *control.Spec) { s.Tenant = "Acme" },
		"tenant wildcard":   func(s *control.Spec) { s.Tenant = "*" },
		"tenant too long":   func(s *control.Spec) { s.Tenant = strings.Repeat("a", 64) },
		"no tenant":         func(s *control.Spec) { s.Tenant = "" },
		"no scope":          func(s *control.Spec) { s.Scopes = nil },
		"unknown scope":     func(s *control.Spec) { s.Scopes = []string{"root"} },
		"name with newline": func(s *control.Spec) { s.Name = "a\nb" },
		"already expired":   func(s *control.Spec) { s.Expires = time.Unix(1, 0) },
	}
	for name, change := range tests {
		spec := good
		change(&spec)
		if _, err := s.CreateWithSecret(within(t), control.NewToken(), spec); !errors.Is(err, control.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	if err := answered(t, func(ctx context.Context) error { return s.Revoke(ctx, "nobody") }); !errors.Is(err, control.ErrUnknownKey) {
		t.Errorf("Revoke of nothing = %v", err)
	}
}

func TestCreateWithSecret(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	s := open(t, n.URL())
	token := control.NewToken()
	spec := control.Spec{Tenant: "default", Name: "up", Scopes: control.Scopes()}
	created := func(s *control.Store, token string) (key control.Key, err error) {
		err = answered(t, func(ctx context.Context) (err error) { key, err = s.CreateWithSecret(ctx, token, spec); return err })
		return key, err
	}
	first, err := created(s, token)
	if err != nil {
		t.Fatal(err)
	}
	again, err := created(open(t, n.URL()), token)
	if err != nil || again.ID != first.ID || !again.CreatedAt.Equal(first.CreatedAt) {
		t.Errorf("second time = %+v, %v, want %+v", again, err, first)
	}
	spec.Tenant = "other"
	if _, err := created(s, token); !errors.Is(err, control.ErrConflict) {
		t.Errorf("for another tenant = %v, want ErrConflict", err)
	}
	if _, err := created(s, token[1:]); !errors.Is(err, control.ErrChecksum) {
		t.Errorf("damaged token = %v", err)
	}
	if err := answered(t, func(ctx context.Context) error { return s.Revoke(ctx, first.ID) }); err != nil {
		t.Fatal(err)
	}
	spec.Tenant = "default"
	if _, err := created(s, token); !errors.Is(err, control.ErrConflict) {
		t.Errorf("after revocation = %v, want ErrConflict: a revoked key stays revoked", err)
	}
}

func TestKeysWhileDown(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	s := open(t, n.URL())
	id, secret := create(t, s, "acme", "admin")
	n.Stop()
	if err := verifies(t, s, secret); err != nil {
		t.Errorf("known key while NATS is down = %v", err)
	}
	if err := verifies(t, s, control.NewToken()); !errors.Is(err, control.ErrUnavailable) {
		t.Errorf("unknown key while NATS is down = %v, want ErrUnavailable", err)
	}
	fresh := open(t, n.URL()) // started while NATS is down
	if err := verifies(t, fresh, secret); !errors.Is(err, control.ErrUnavailable) {
		t.Errorf("Verify before the keys were ever loaded = %v, want ErrUnavailable", err)
	}
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the fresh store loads", func() bool { return verifies(t, fresh, secret) == nil })
	if err := answered(t, func(ctx context.Context) error { return fresh.Revoke(ctx, id) }); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the first store follows again", func() bool { return errors.Is(verifies(t, s, secret), control.ErrRevoked) })
}

// Nothing that NATS stores contains a secret.
func TestSecretsAreNotStored(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	cfg := eventlog.DefaultConfig()
	cfg.URL = n.URL()
	conn, err := eventlog.Connect(cfg, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s := open(t, n.URL())
	id, secret := create(t, s, "acme", "admin")
	if err := answered(t, func(ctx context.Context) error { return s.RevokeBy(ctx, id, "ann") }); err != nil {
		t.Fatal(err)
	}
	stream, err := conn.JetStream().Stream(within(t), "CONTROL")
	if err != nil {
		t.Fatal(err)
	}
	var trail []string
	for seq := uint64(1); seq <= stream.CachedInfo().State.LastSeq; seq++ {
		m, err := stream.GetMsg(within(t), seq)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(m.Subject, "control.key.") { // the others are the audit log, which tells the same
			trail = append(trail, string(m.Data))
		}
		if strings.Contains(string(m.Data), secret[16:40]) {
			t.Error("the secret is in the log of changes")
		}
	}
	if len(trail) != 2 || !strings.Contains(trail[0], `"created"`) || !strings.Contains(trail[1], `"revoked"`) || !strings.Contains(trail[1], `"by":"ann"`) {
		t.Errorf("trail = %v", trail)
	}
}
