package control_test

import (
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
				if _, _, err := s.Create(within(t), "acme", fmt.Sprintf("key %d of %d", i, w), []string{"usage:read"}, time.Time{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	s := open(t, n.URL())
	proofs, err := s.VerifyLogAt(within(t), "acme", "", time.Now().Add(time.Hour))
	if err != nil || len(proofs) != 1 || !proofs[0].OK() || proofs[0].Entries != writers*each {
		t.Fatalf("VerifyLog = %+v, %v", proofs, err)
	}
	newest, err := s.AuditLog(within(t), control.AuditQuery{Tenant: "acme", Limit: 3})
	if err != nil || len(newest) != 3 || newest[0].Number != writers*each || newest[0].SHA256 != proofs[0].Head || newest[0].Action != "key-created" {
		t.Fatalf("AuditLog = %+v, %v", newest, err)
	}
	older, err := s.AuditLog(within(t), control.AuditQuery{Tenant: "acme", Limit: 100, Before: newest[2].Number})
	if err != nil || len(older) != writers*each-3 || older[len(older)-1].Number != 1 {
		t.Errorf("AuditLog before %d = %d entries, %v", newest[2].Number, len(older), err)
	}
	if proofs, err := s.VerifyLog(within(t), "acme", "no-such-hash"); err != nil || proofs[0].OK() {
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
	o, err := here.CreateOperator(within(t), control.Actor{By: "test"}, control.OperatorSpec{
		Tenant: "acme", Login: "Ann", Password: password, Grants: []access.Grant{{Role: "auditor"}, {Role: access.Technician, Account: "A-2"}},
	})
	if err != nil || o.Grants[0].Role != access.Auditor {
		t.Fatalf("CreateOperator = %+v, %v", o, err)
	}
	for _, tenant := range []string{"acme", "other"} { // logins are unique over all tenants, whatever the case
		if _, err := there.CreateOperator(within(t), control.Actor{}, control.OperatorSpec{Tenant: tenant, Login: "aNN"}); !errors.Is(err, control.ErrTaken) {
			t.Errorf("a second Ann of %s: %v", tenant, err)
		}
	}
	for login, want := range map[string]error{"ann": nil, "ANN": nil, "bob": control.ErrSignIn} {
		if _, err := there.CheckPassword(within(t), login, password); !errors.Is(err, want) {
			t.Errorf("CheckPassword(%s) = %v, want %v", login, err, want)
		}
	}
	if _, err := there.CheckPassword(within(t), "ann", "another password"); !errors.Is(err, control.ErrSignIn) {
		t.Errorf("a wrong password: %v", err)
	}
	token, err := here.Begin(within(t), control.Actor{By: "operator:Ann"}, o, "password")
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the session is known there", func() bool { _, err := there.Session(within(t), token, limits); return err == nil })
	one, err := there.Session(within(t), token, limits)
	if v := one.Viewer(time.Now()); err != nil || !v.Fresh || !v.Allows(access.PartnerReports, access.View, "A-2", "A-1") || v.May(access.PartnerReports, access.Add) {
		t.Errorf("the viewer = %+v, %v", v, err)
	}
	if _, err := there.Session(within(t), token, control.SessionLimits{Idle: time.Hour, Life: time.Nanosecond}); !errors.Is(err, control.ErrSignIn) {
		t.Errorf("a session that is too old: %v", err)
	}
	if _, err := here.SetPassword(within(t), control.Actor{By: "test"}, "acme", "ann", password+"2"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the session is over everywhere", func() bool {
		_, err := there.Session(within(t), token, limits)
		return errors.Is(err, control.ErrSignIn)
	})
	if err := here.RemoveRole(within(t), control.Actor{}, "acme", access.Auditor); !errors.Is(err, control.ErrInvalid) {
		t.Errorf("RemoveRole of a system role = %v", err)
	}
	if _, err := here.Operator(within(t), "other", o.ID); !errors.Is(err, control.ErrUnknownOperator) {
		t.Errorf("another tenant's operator: %v", err)
	}
}
