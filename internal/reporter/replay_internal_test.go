package reporter

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/ingest"
	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/report"
)

// TestReplayOfThePast sends dead letters of years ago again: who manages all roles may, others are told what is missing.
func TestReplayOfThePast(t *testing.T) {
	stack := localstack.Start(t, localstack.Options{NoClickHouse: true})
	cfg := ingest.DefaultConfig()
	cfg.Listen, cfg.AdminListen, cfg.HTTP.DrainDelay = "127.0.0.1:0", "127.0.0.1:0", 0
	cfg.NATS.URL, cfg.NATS.MonitorURLs, cfg.NATS.MaxBytes = stack.NATSURL, []string{stack.MonitorURL}, 1<<30
	door, err := ingest.Start(t.Context(), cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = door.Close(context.WithoutCancel(t.Context())) }()
	store, err := control.Dial(t.Context(), cfg.NATS, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	viewer := func(login, role string) *access.Viewer {
		r, known := access.SystemRole(role)
		if !known {
			t.Fatalf("no role %s", role)
		}
		return &access.Viewer{Tenant: "acme", Login: login, Held: []access.Held{{Grant: access.Grant{Role: role}, Rights: r.Rights, ManageAll: r.ManageAll}}}
	}
	r := &resender{ingest: "http://" + door.Addr(), control: store.Store, now: time.Now, wait: 2 * time.Minute}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for door.Health().Ready() != nil {
		select {
		case <-ctx.Done():
			t.Fatal("ingest is not ready")
		case <-tick.C:
		}
	}
	now := time.Now().UTC()
	for name, tt := range map[string]struct {
		who    *access.Viewer
		at     time.Time
		more   string
		refuse []string // in the error; none: taken
	}{
		"of today, anybody":        {who: viewer("help", access.HelpDesk), at: now},
		"of 2020, anybody":         {who: viewer("help", access.HelpDesk), at: now.AddDate(-6, 0, 0), refuse: []string{"ingest refused it", "events:backfill", "manages all roles"}},
		"of 2020, super":           {who: viewer("root", access.SuperAdministrator), at: now.AddDate(-6, 0, 0)},
		"recorded in 2020, super":  {who: viewer("root", access.SuperAdministrator), at: now.AddDate(-6, 0, 0), more: `,"recordedtime":"2020-06-01T00:00:00Z"`},
		"of the future, super":     {who: viewer("root", access.SuperAdministrator), at: now.AddDate(1, 0, 0), refuse: []string{"ingest refused it", "/time"}},
		"no quantity, super":       {who: viewer("root", access.SuperAdministrator), at: now.AddDate(-6, 0, 0), more: `,"data":{"meter":"calls"}`, refuse: []string{"ingest refused it"}},
		"recorded by hand, nobody": {who: viewer("help", access.HelpDesk), at: now, more: `,"recordedtime":"2020-06-01T00:00:00Z"`},
	} {
		data := `,"data":{"meter":"calls","quantity":"1"}`
		if strings.Contains(tt.more, "data") {
			data = ""
		}
		doc := fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"s","type":"usage.metered","subject":"A-1","time":%q%s%s}`, name, tt.at.Format(time.RFC3339), data, tt.more)
		err := r.send(t.Context(), tt.who, report.Position{Shard: 1, Seq: 2, Idx: 3}, []byte(doc))
		if (err == nil) != (len(tt.refuse) == 0) {
			t.Errorf("%s: %v", name, err)
		}
		for _, text := range tt.refuse {
			if !strings.Contains(fmt.Sprint(err), text) {
				t.Errorf("%s: %v, want it to say %s", name, err, text)
			}
		}
	}
	keys, err := store.List(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if k.Has("events:backfill") && k.CreatedBy != "operator:root" {
			t.Errorf("a key with events:backfill was made for %s", k.CreatedBy)
		}
	}
}
