package ingest_test

import (
	"errors"
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
	var secret string
	await(t, "making a key", func() (ok bool) {
		var err error
		_, secret, err = d.store.Create(t.Context(), tenant, "test", scopes, time.Time{})
		return err == nil
	})
	return secret
}

func (d *door) revoke(t testing.TB, secret string) {
	t.Helper()
	await(t, "revoking a key", func() bool {
		key, err := d.store.Verify(t.Context(), secret)
		return errors.Is(err, control.ErrRevoked) || err == nil && d.store.Revoke(t.Context(), key.ID) == nil
	})
}
