package control_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
)

// Several programs write to one tenant's log at once: it is one chain all the same, and tells of every change once.
func TestChainOfSeveralWriters(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	const writers, each = 4, 5
	var running sync.WaitGroup
	for w := range writers {
		s := open(t, n.URL())
		running.Go(func() {
			for i := range each {
				token := control.NewToken()
				err := answered(t, func(ctx context.Context) error {
					_, err := s.CreateWithSecret(ctx, token, control.Spec{Tenant: "acme", Name: fmt.Sprintf("key %d of %d", i, w), Scopes: []string{"usage:read"}})
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	s := open(t, n.URL())
	var proofs []control.LogProof
	var err error
	waitFor(t, "every change to be in the log, those as well that its writer did not get to tell of", func() bool {
		if _, err = s.Complete(within(t)); err == nil {
			proofs, err = s.VerifyLogAt(within(t), "acme", "", time.Now().Add(time.Hour))
		}
		return err == nil && len(proofs) == 1 && proofs[0].OK()
	})
	if err != nil || len(proofs) != 1 || !proofs[0].OK() || proofs[0].Entries != writers*each {
		t.Fatalf("VerifyLog = %+v, %v", proofs, err)
	}
	log := func(q control.AuditQuery) (all []control.Entry, err error) {
		err = answered(t, func(ctx context.Context) (err error) { all, err = s.AuditLog(ctx, q); return err })
		return all, err
	}
	newest, err := log(control.AuditQuery{Tenant: "acme", Limit: 3})
	if err != nil || len(newest) != 3 || newest[0].Number != writers*each || newest[0].SHA256 != proofs[0].Head || newest[0].Action != "key-created" {
		t.Fatalf("AuditLog = %+v, %v", newest, err)
	}
	older, err := log(control.AuditQuery{Tenant: "acme", Limit: 100, Before: newest[2].Number})
	if err != nil || len(older) != writers*each-3 || older[len(older)-1].Number != 1 {
		t.Errorf("AuditLog before %d = %d entries, %v", newest[2].Number, len(older), err)
	}
	err = answered(t, func(ctx context.Context) (err error) {
		proofs, err = s.VerifyLog(ctx, "acme", "no-such-hash")
		return err
	})
	if err != nil || proofs[0].OK() {
		t.Errorf("VerifyLog with a head that is not there = %+v, %v", proofs, err)
	}
}

func TestOperators(t *testing.T) {
	t.Parallel()
	n := startNATS(t)
	here, there := open(t, n.URL()).People(t.Context()), open(t, n.URL()).People(t.Context())
	t.Cleanup(here.Close)
	t.Cleanup(there.Close)
	const password = "a long enough password"
	limits := control.SessionLimits{Idle: time.Hour, Life: time.Hour}
	waitFor(t, "operators and roles are known", func() bool { return here.Ready() && there.Ready() })
	o, err := here.CreateOperator(within(t), control.Actor{By: "test"}, control.OperatorSpec{
		Tenant: "acme", Login: "Ann", Password: password, Grants: []access.Grant{{Role: "auditor"}, {Role: access.Technician, Account: "A-2"}},
	})
	if err != nil || o.Grants[0].Role != access.Auditor {
		t.Fatalf("CreateOperator = %+v, %v", o, err)
	}
	for _, tenant := range []string{"acme", "other"} { // logins are unique over all tenants, whatever the case
		err := answered(t, func(ctx context.Context) error {
			_, err := there.CreateOperator(ctx, control.Actor{}, control.OperatorSpec{Tenant: tenant, Login: "aNN"})
			return err
		})
		if !errors.Is(err, control.ErrTaken) {
			t.Errorf("a second Ann of %s: %v", tenant, err)
		}
	}
	check := func(login, password string) error {
		return answered(t, func(ctx context.Context) error { _, err := there.CheckPassword(ctx, login, password); return err })
	}
	for login, want := range map[string]error{"ann": nil, "ANN": nil, "bob": control.ErrSignIn} {
		if err := check(login, password); !errors.Is(err, want) {
			t.Errorf("CheckPassword(%s) = %v, want %v", login, err, want)
		}
	}
	if err := check("ann", "another password"); !errors.Is(err, control.ErrSignIn) {
		t.Errorf("a wrong password: %v", err)
	}
	token, err := here.Begin(within(t), control.Actor{By: "operator:Ann"}, o, "password")
	if err != nil {
		t.Fatal(err)
	}
	session := func(limits control.SessionLimits) (one control.Session, err error) {
		err = answered(t, func(ctx context.Context) (err error) { one, err = there.Session(ctx, token, limits); return err })
		return one, err
	}
	one, err := session(limits) // though the operator was made elsewhere a moment ago
	if v := one.Viewer(time.Now()); err != nil || !v.Fresh || !v.Allows(access.PartnerReports, access.View, "A-2", "A-1") || v.May(access.PartnerReports, access.Add) {
		t.Errorf("the viewer = %+v, %v", v, err)
	}
	if _, err := session(control.SessionLimits{Idle: time.Hour, Life: time.Nanosecond}); !errors.Is(err, control.ErrSignIn) {
		t.Errorf("a session that is too old: %v", err)
	}
	err = answered(t, func(ctx context.Context) error {
		_, err := here.SetPassword(ctx, control.Actor{By: "test"}, "acme", "ann", password+"2")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the session is over everywhere", func() bool {
		_, err := there.Session(within(t), token, limits)
		return errors.Is(err, control.ErrSignIn)
	})
	if err := here.RemoveRole(within(t), control.Actor{}, "acme", access.Auditor); !errors.Is(err, control.ErrInvalid) {
		t.Errorf("RemoveRole of a system role = %v", err)
	}
	if err := answered(t, func(ctx context.Context) error { _, err := here.Operator(ctx, "other", o.ID); return err }); !errors.Is(err, control.ErrUnknownOperator) {
		t.Errorf("another tenant's operator: %v", err)
	}
}
