// Package refused sends what must not be counted, and shows what its producer sees of it.
package refused_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/test/rig"
)

func TestMain(m *testing.M) { localstack.Main(m) }

const good = `{"specversion":"1.0","id":"ID","source":"/shop","type":"usage.metered","subject":"acme-emea","time":"NOW","data":{"meter":"tokens","quantity":"3"}}`

// TestRefused prints one line of what a producer sees for each kind of bad input. Over HTTP that is the
// answer; where only the aggregator can know, it is the dead letter.
func TestRefused(t *testing.T) {
	program, err := rig.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := rig.Start(t, rig.Options{Program: program, IngestFlags: []string{"--commit-wait", "1m"}}) // a slow disk is nothing of what is sent
	now := time.Now().UTC()
	event := func(id string, changes ...string) string {
		return strings.NewReplacer(append(changes, "ID", id, "NOW", now.Format(time.RFC3339))...).Replace(good)
	}
	at := func(ago time.Duration) string { return now.Add(-ago).Format(time.RFC3339) }
	const ahead = "AHEAD" // six minutes from when it is sent: written now, it may be less than five by then
	for _, tt := range []struct {
		name, token, body string
		status            int
		says              string
	}{
		{"a good event", "acme", event("1"), 202, `"accepted":1`},
		{"bad JSON", "acme", event("2")[:40], 422, "bad-json"},
		{"unknown type", "acme", event("3", "usage.metered", "usage.guessed"), 422, "unknown-type"},
		{"unknown field", "acme", event("4", `"meter"`, `"colour":"red","meter"`), 422, "unknown-field"},
		{"naive time", "acme", event("5", "NOW", now.Format("2006-01-02T15:04:05")), 422, "naive-time"},
		{"1e400", "acme", event("6", `"3"`, "1e400"), 422, "bad-quantity"},
		{"duplicate key", "acme", event("7", `"subject"`, `"id":"again","subject"`), 422, "duplicate-key"},
		{"36 days old", "acme", event("8", "NOW", at(36*24*time.Hour)), 422, "time-window"},
		{"6 minutes in the future", "acme", event("9", "NOW", ahead), 422, "time-window"},
		{"70 KB event", "acme", event("10", `"meter"`, `"item":"`+strings.Repeat("x", 70<<10)+`","meter"`), 422, "event-too-large"},
		{"wrong tenant", "acme", event("11", `"subject"`, `"tenant":"beta","subject"`), 403, "wrong-tenant"},
		{"the same id of another tenant: good", "beta", event("1"), 202, `"accepted":1`},
		{"no key", "", event("12"), 401, "unauthorized"},
	} {
		body := strings.Replace(tt.body, ahead, time.Now().UTC().Add(6*time.Minute).Format(time.RFC3339), 1)
		status, answer := post(t, r, r.Token(tt.token), body)
		show(tt.name, fmt.Sprint(status), answer)
		if status != tt.status || !strings.Contains(answer, tt.says) {
			t.Errorf("%s: answered %d %s, want %d with %s", tt.name, status, answer, tt.status, tt.says)
		}
	}
	if err := r.Revoke("gamma"); err != nil {
		t.Fatal(err)
	}
	r.Until("a revoked key is refused", rig.SettleWait, func(ctx context.Context) bool {
		status, answer := post(t, r, r.Token("gamma"), event("13"))
		if status == http.StatusUnauthorized {
			show("revoked key", "401", answer)
		}
		return status == http.StatusUnauthorized
	})
	deadLetters(t, r, event)
}

// deadLetters sends what only the aggregator can refuse: it is in the log, and so in the dead letters.
func deadLetters(t *testing.T, r *rig.Rig, event func(id string, changes ...string) string) {
	t.Helper()
	if status, answer := post(t, r, r.Token("acme"), event("1", `"3"`, `"4"`)); status != http.StatusAccepted {
		t.Errorf("conflict: answered %d %s, want 202: ingest knows no state", status, answer)
	}
	publish(t, r, event("20", `"meter"`, `"colour":"red","meter"`))
	publish(t, r, "\xff\xfe\x00 poison")
	r.Settle()
	rows, err := r.Warehouse().Rows(t.Context(), "SELECT reason, id, detail, hex(substring(raw, 1, 3)) FROM "+rig.Database+".dead_letters ORDER BY seq, idx")
	if err != nil {
		t.Fatal(err)
	}
	want := []struct{ name, reason, id string }{
		{"conflict: a known id, another quantity", "conflict", "1"},
		{"unknown field, published to NATS", "unknown-field", "20"},
		{"poison, published to NATS", "undecodable", ""},
	}
	if len(rows) != len(want) {
		t.Fatalf("dead letters: %q", rows)
	}
	for i, w := range want {
		show(w.name, "dead letter", strings.Join(rows[i][:3], " "))
		if rows[i][0] != w.reason || rows[i][1] != w.id {
			t.Errorf("%s: dead letter %q", w.name, rows[i])
		}
	}
	n, err := r.Warehouse().Numbers(t.Context(), "SELECT count(), uniqExact(tenant, source, id) FROM "+rig.Database+".events WHERE tenant != 'gamma'") // whose key works until its revocation is known
	if err != nil || n[0] != 2 || n[1] != 2 {
		t.Errorf("stored %v, %v; want the two good events", n, err)
	}
}

// show prints what a producer sees, in one line.
func show(name, status, answer string) {
	var p struct {
		Code, Detail string
		Errors       []struct {
			Index                 *int
			Pointer, Code, Detail string
		}
	}
	if json.Unmarshal([]byte(answer), &p) == nil && p.Code != "" {
		answer = p.Code + ": " + p.Detail
		for _, e := range p.Errors[:min(1, len(p.Errors))] {
			answer = fmt.Sprintf("%s %s %s: %s", p.Code, e.Pointer, e.Code, e.Detail)
		}
	}
	fmt.Printf("REFUSED SEEN %-36s %s %.160s\n", name, status, strings.TrimSpace(answer))
}

func post(t *testing.T, r *rig.Rig, token, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + token}}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

// publish sends to NATS, past ingest.
func publish(t *testing.T, r *rig.Rig, body string) {
	t.Helper()
	nc, err := nats.Connect(r.NATSURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "usage.in.acme.events", []byte(body)); err != nil {
		t.Fatal(err)
	}
}
