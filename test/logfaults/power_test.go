package logfaults_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

// F04: a power cut loses what is in memory only. Nobody can cut it here, so the server's system calls are
// watched: a message is written to its block, the block is synced, and only then its receipt is sent.
func TestF04PowerCut(t *testing.T) {
	t.Parallel()
	syncs, f := watched(t, uint64(fight.Rounds(100, 5000)), rig.Options{})
	t.Logf("%+v", syncs)
	if syncs.Acks == 0 || syncs.Unsynced > 0 {
		t.Errorf("%d of %d receipts were sent before the message was on the disk, first %s", syncs.Unsynced, syncs.Acks, syncs.First)
	}
	f.Note = fmt.Sprintf(" receipts=%d unsynced=%d of-an-earlier-life=%d writes=%d fsyncs=%d", syncs.Acks, syncs.Unsynced, syncs.Earlier, syncs.Writes, syncs.Fsyncs)
	f.End()
}

// F04: the same eyes see a server that syncs now and then.
func TestF04SeesLazySync(t *testing.T) {
	t.Parallel()
	syncs, f := watched(t, 20, rig.Options{LazySync: true, IngestFlags: []string{"--allow-lossy"}})
	if syncs.Acks == 0 || syncs.Unsynced == 0 {
		t.Errorf("a server with lazy sync: %+v; want receipts without a sync", syncs)
	}
	f.Note = fmt.Sprintf(" lazy receipts=%d unsynced=%d", syncs.Acks, syncs.Unsynced)
	f.End()
}

// watched lets a NATS server live under strace until it has stored some messages.
func watched(t *testing.T, messages uint64, opts rig.Options) (rig.Syncs, *fight.Fight) {
	t.Helper()
	if err := rig.CanTrace(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	f := fight.Begin(t, "F04", opts)
	back := f.Rig.NATS.Back()
	f.Rig.NATS.Arm(rig.WatchSyncs()...)
	f.Rig.NATS.Kill()
	f.Await(f.Rig.NATS, back)
	f.Recovered()
	from, err := f.Rig.Logged(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.Rig.Until(fmt.Sprintf("%d messages are stored", messages), 10*rig.SettleWait, func(ctx context.Context) bool {
		n, err := f.Rig.Logged(ctx)
		return err == nil && n >= from+messages
	})
	back = f.Rig.NATS.Back()
	f.Rig.NATS.Kill()
	f.Await(f.Rig.NATS, back)
	syncs, err := rig.ReadSyncs(f.Rig.NATSTrace(), usageStream)
	if err != nil {
		t.Fatal(err)
	}
	return syncs, f
}

// F04: one server that acknowledges before it syncs, or does not say, is not used.
func TestF04LazySyncIsRefused(t *testing.T) {
	t.Parallel()
	t.Cleanup(func() {
		if !t.Failed() {
			fmt.Println("F04 PASS lazy-sync=refused unknown-sync=refused allow-lossy=warned")
		}
	})
	for name, tt := range map[string]struct {
		lazy  bool
		flags []string
		ready bool
		says  string
	}{
		"lazy":          {lazy: true, says: "sync_interval: always"},
		"not known":     {flags: []string{"--nats-monitor-urls", "http://127.0.0.1:1"}, says: "sync unknown"},
		"lazy, allowed": {lazy: true, flags: []string{"--allow-lossy"}, ready: true, says: "allowed by allow_lossy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rig.Start(t, rig.Options{Program: fight.Program(), Unready: true, LazySync: tt.lazy, IngestFlags: tt.flags})
			ingest, _ := r.Admin()
			var said string
			r.Until("ingest has judged the log", rig.SettleWait, func(ctx context.Context) bool {
				status, body := ask(ctx, t, http.MethodGet, ingest+"/readyz?verbose", "", "")
				said = body
				return (status == http.StatusOK) == tt.ready && strings.Contains(body, tt.says)
			})
			want := http.StatusServiceUnavailable
			if tt.ready {
				want = http.StatusAccepted
			}
			event := `{"specversion":"1.0","type":"usage.metered","source":"/f04","id":"1","subject":"a","data":{"meter":"tokens","quantity":"1"}}`
			// Any other 503 says that the machine stood still, or that ingest knows no keys yet.
			var status int
			var answer string
			r.Until("ingest answers an event", rig.SettleWait, func(ctx context.Context) bool {
				status, answer = ask(ctx, t, http.MethodPost, r.URL(), r.Token("acme"), event)
				return status != 0 && (status != http.StatusServiceUnavailable || strings.Contains(answer, `"log-unsafe"`))
			})
			if status != want {
				t.Errorf("an event is answered %d %s; /readyz says %s", status, answer, said)
			}
		})
	}
}

// ask sends one request; status 0 is no answer.
func ask(ctx context.Context, t *testing.T, method, url, token, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Content-Type", "application/cloudevents+json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(text)
}
