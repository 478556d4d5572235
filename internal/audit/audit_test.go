package audit_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/audit"
	"github.com/countinghouse/countinghouse/internal/usage"
)

func base() time.Time { return time.Now().UTC().Add(-26 * time.Hour).Truncate(time.Hour) }

// TestSound audits what the real aggregator made of every kind of message.
func TestSound(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	defer r.start()()
	at := base()
	r.await(r.everything(at))

	for name, o := range map[string]audit.Options{
		"everything": {}, "full": {Full: true}, "one tenant": {Tenant: "acme"}, "other tenant": {Tenant: "beta", Full: true},
		"unknown tenant": {Tenant: "nobody"},
	} {
		t.Run(name, func(t *testing.T) {
			r := *r
			r.TB = t
			r.sound(o)
		})
	}
	month := usage.MonthOf(usage.AtTime(at))
	r.sound(audit.Options{From: &month, To: &month})

	c := r.sound(audit.Options{})
	var sum audit.TenantReport
	for _, row := range c.Tenants {
		if row.Accepted != row.Stored+row.Duplicate+row.Conflict+row.Quarantined {
			t.Errorf("identity of %+v", row)
		}
		if row.RawRows != row.Stored {
			t.Errorf("raw rows of %+v", row)
		}
		for _, m := range row.Meters {
			if m.Raw != m.Rollup {
				t.Errorf("%s %s: %+v", row.Tenant, row.Month, m)
			}
		}
		sum.Accepted += row.Accepted
		sum.Stored += row.Stored
		sum.Duplicate += row.Duplicate
		sum.Conflict += row.Conflict
		sum.Quarantined += row.Quarantined
		sum.Voided += row.Voided
	}
	have := r.query("SELECT sum(accepted), sum(stored), sum(duplicate), sum(conflict), sum(quarantined), sum(voided) FROM {db}.ledger")
	text, err := json.Marshal([]uint64{sum.Accepted, sum.Stored, sum.Duplicate, sum.Conflict, sum.Quarantined, sum.Voided})
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Trim(strings.ReplaceAll(string(text), ",", "\t"), "[]"); have != want {
		t.Errorf("ledger %q, certificate %q", have, want)
	}
	if digest, err := c.Sum(); err != nil || digest != c.SHA256 {
		t.Errorf("sha256 %s, want %s (%v)", c.SHA256, digest, err)
	}
	off, err := r.audit.Light(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for tenant, n := range off {
		if n != 0 {
			t.Errorf("light: %q is off by %d", tenant, n)
		}
	}
	t.Logf("%d messages, %d events", c.Messages, c.Events)
}
