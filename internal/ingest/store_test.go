package ingest_test

import (
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/control"
)

func (d *door) openStore(t testing.TB) {
	t.Helper()
	var err error
	if d.store, err = control.Open(t.Context(), d.log.Conn(), zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.store.Close)
}

func (d *door) newKey(t testing.TB, tenant string, scopes ...string) string {
	t.Helper()
	_, secret, err := d.store.Create(t.Context(), tenant, "test", scopes, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func (d *door) revoke(t testing.TB, secret string) {
	t.Helper()
	key, err := d.store.Verify(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.store.Revoke(t.Context(), key.ID); err != nil {
		t.Fatal(err)
	}
}
