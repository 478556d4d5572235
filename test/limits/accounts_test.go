package limits_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

func contains(text []byte, what string) bool { return bytes.Contains(text, []byte(what)) }

// signers are the keys of an operator and an account of NATS, and the users that the account knows.
type signers struct {
	operator, account nkeys.KeyPair
	claims            *jwt.AccountClaims
	users             map[string]string // public key by name
}

func public(t *testing.T, k nkeys.KeyPair) string {
	t.Helper()
	p, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func made(t *testing.T, k nkeys.KeyPair, err error) nkeys.KeyPair {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// startAccounts starts a NATS server in this process with one account that has the log.
func startAccounts(t *testing.T, dir string) *accounts {
	t.Helper()
	operator, err := nkeys.CreateOperator()
	s := &signers{operator: made(t, operator, err), users: map[string]string{}}
	account, err := nkeys.CreateAccount()
	s.account = made(t, account, err)
	system, err := nkeys.CreateAccount()
	made(t, system, err)
	trusted := jwt.NewOperatorClaims(public(t, s.operator))
	trusted.SystemAccount = public(t, system)
	s.claims = jwt.NewAccountClaims(public(t, s.account))
	s.claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	s.claims.AddMapping("usage.in.*.*", jwt.WeightedMapping{Subject: "usage.log.{{partition(1,1)}}.{{wildcard(1)}}.{{wildcard(2)}}", Weight: 100})
	resolver := &server.MemAccResolver{}
	for _, c := range []*jwt.AccountClaims{s.claims, jwt.NewAccountClaims(public(t, system))} {
		text, err := c.Encode(s.operator)
		if err == nil {
			err = resolver.Store(c.Subject, text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	ns, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, HTTPHost: "127.0.0.1", HTTPPort: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: dir, SyncAlways: true,
		TrustedOperators: []*jwt.OperatorClaims{trusted}, SystemAccount: trusted.SystemAccount, AccountResolver: resolver,
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() {
		ns.Shutdown()
		ns.WaitForShutdown()
	})
	if !ns.ReadyForConnections(rotationWait) {
		t.Fatal("NATS does not start")
	}
	return &accounts{Server: ns, t: t, signers: s}
}

// user makes a user and answers the text of its credentials file.
func (a *accounts) user(name string) []byte {
	a.t.Helper()
	user, err := nkeys.CreateUser()
	made(a.t, user, err)
	a.users[name] = public(a.t, user)
	text, err := jwt.NewUserClaims(a.users[name]).Encode(a.account)
	if err != nil {
		a.t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		a.t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(text, seed)
	if err != nil {
		a.t.Fatal(err)
	}
	return creds
}

// revoke takes a user's rights away; the server ends its connections.
func (a *accounts) revoke(name string) {
	a.t.Helper()
	a.claims.RevokeAt(a.users[name], time.Now().Add(time.Second))
	account, err := a.LookupAccount(a.claims.Subject)
	if err != nil {
		a.t.Fatal(err)
	}
	a.UpdateAccountClaims(account, a.claims)
}

// connections is how many a user has.
func (a *accounts) connections(name string) int {
	a.t.Helper()
	all, err := a.Connz(&server.ConnzOptions{Username: true})
	if err != nil {
		a.t.Fatal(err)
	}
	n := 0
	for _, c := range all.Conns {
		if c.AuthorizedUser == a.users[name] {
			n++
		}
	}
	return n
}
