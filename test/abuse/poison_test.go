package abuse_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/oracle"
	"github.com/countinghouse/countinghouse/test/rig"
)

// A bug in each of the two decoders: an event whose id begins so makes it panic.
const (
	packedBug = "boom"
	plainBug  = "bang"
)

// buggy are the programs with them.
func buggy() []rig.Mutation {
	return []rig.Mutation{
		{
			File: "internal/eventlog/decode.go",
			Old:  "\tif code, detail = d.event(e, start, end); code == \"\" {",
			New: "\tfor i := start; i+4 <= end; i++ {\n\t\tif string(d.b[i:i+4]) == \"" + packedBug + "\" {\n\t\t\tpanic(\"planted\")\n\t\t}\n\t}\n" +
				"\tif code, detail = d.event(e, start, end); code == \"\" {",
		},
		{
			File: "internal/aggregator/decode.go",
			Old:  "\te.RecordedTime = usage.Instant{} // honoured only through ingest with events:backfill\n",
			New:  "\te.RecordedTime = usage.Instant{}\n\tif strings.HasPrefix(e.ID, \"" + plainBug + "\") {\n\t\tpanic(\"planted\")\n\t}\n",
		},
	}
}

// F19: poison at the door and past it, in a system whose decoders panic at some events. Nothing ends, nothing
// but the bad events is lost from sight, and mended they count.
func TestF19Poison(t *testing.T) {
	dir := t.TempDir()
	program, err := rig.Build(t.Context(), dir, buggy()...)
	if err != nil {
		t.Fatal(err)
	}
	f := fight.Begin(t, "F19", rig.Options{Program: program, IngestFlags: patient()})
	teller, reporter := f.Rig.StartReporter()
	s := newSender(f, "victim", "/victim")
	nc, err := nats.Connect(f.Rig.NATSURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	p := publisher(f, nc)

	want := poisons(f, s, p)
	forged := forge(f, s, p)
	broken := panicking(f, s, p)
	letters := await(f, s, len(want)+len(broken))
	compare(f, want, letters)
	counted(f, s)
	if n := f.Crashes(); n != 0 {
		t.Errorf("%s seed=%d: %d processes ended", f.Name, f.Seed, n)
	}

	mended, err := os.ReadFile(fight.Program())
	if err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(dir, "mended")
	if err := os.WriteFile(next, mended, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, program); err != nil {
		t.Fatal(err)
	}
	for _, part := range []*rig.Part{f.Rig.Aggregators[0], teller} {
		back := part.Back()
		part.Kill()
		f.Await(part, back)
	}
	f.Rig.Until("the mended reporter answers", rig.SettleWait, func(ctx context.Context) bool {
		a := s.get(ctx, reporter+"/api/v1/freshness")
		return a.status == http.StatusOK
	})
	replay(f, s, reporter, letters, broken)
	f.Check() // the load has ended after it
	audited(f, s, reporter)
	f.Note = fmt.Sprintf(" poison=%d forged=%d panics=%d replayed=%d", len(want), forged, len(broken), len(broken))
	f.End()
}

// letter is a dead letter as it is stored.
type letter struct{ position, reason, id, raw string }

// poisons publishes bad events between good ones, and answers the dead letters that must follow: reason by
// raw bytes.
func poisons(f *fight.Fight, s *sender, p *direct) map[string]string {
	f.T.Helper()
	const limit = 64 << 10
	bad := func(old, changed string) string { return strings.Replace(text(s.event()), old, changed, 1) }
	deep := strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)
	want := map[string]string{}
	for _, poison := range []struct{ reason, event string }{
		{"duplicate-key", bad(`"subject"`, `"id":"again","subject"`)},
		{"bad-utf8", bad(`"subject":"abused"`, "\"subject\":\"\xff\xfe\"")},
		{"too-deep", bad(`"quantity":"1"`, `"quantity":`+deep)},
		{"bad-quantity", bad(`"quantity":"1"`, `"quantity":1e400`)},
		{"bad-quantity", bad(`"quantity":"1"`, `"quantity":"NaN"`)},
		{"event-too-large", bad(`"subject":"abused"`, `"subject":"`+strings.Repeat("x", 10*limit)+`"`)},
		{"unknown-type", bad("usage.metered", "usage.imagined")},
		{"unknown-field", bad(`"meter"`, `"colour":"red","meter"`)},
		{"time-window", bad(s.at.Format("2006-01-02"), "9999-01-02")},
		{"bad-attribute", `{"id":5}`},
		{"", ""}, // nothing: a batch of good ones
	} {
		good := s.events(2)
		sent := items(oracle.Original, good)
		body := text(good[0]) + "," + text(good[1])
		if poison.event != "" {
			body = text(good[0]) + "," + poison.event + "," + text(good[1])
			sent = append(sent, oracle.Item{Kind: oracle.Poison})
			want[poison.event] = poison.reason
		}
		p.publish(subject(s, "events"), []byte("["+body+"]"), nil, sent)
	}
	for _, whole := range []struct {
		kind, data string
		header     nats.Header
	}{
		{kind: "events", data: "\xff\xfe\x00 no JSON"},
		{kind: "events", data: `{"quantity":NaN}`},
		{kind: "events", data: "[" + text(s.event())},
		{kind: "events", data: text(s.event()), header: nats.Header{"Content-Type": {"text/xml"}}},
		{kind: "chunk", data: "\x08\x01 no chunk"},
		{kind: "chunk", data: text(s.event())},
		{kind: "other", data: text(s.event())},
	} {
		p.publish(subject(s, whole.kind), []byte(whole.data), whole.header, []oracle.Item{{Kind: oracle.Poison}})
		want[whole.data] = "undecodable"
	}
	return want
}

func subject(s *sender, kind string) string { return "usage.in." + s.tenant + "." + kind }

// forge publishes good events with headers that mean something to NATS, or to somebody who trusts them.
func forge(f *fight.Fight, s *sender, p *direct) int {
	f.T.Helper()
	taken := []nats.Header{
		{"Nats-Msg-Id": {"mine"}},
		{"Tenant": {"beta"}, "Countinghouse-Tenant": {"beta"}, "X-Tenant": {"beta"}},
		{"Ce-Source": {"/other"}, "Ce-Id": {"other"}, "Content-Type": {"application/cloudevents+json"}},
		{"Nats-Sequence": {"1"}, "Nats-Stream": {"CONTROL"}, "Nats-Subject": {"usage.log.0.beta.events"}, "Nats-Time-Stamp": {"2001-01-01T00:00:00Z"}},
	}
	for _, h := range taken {
		e := s.event()
		if ack := p.publish(subject(s, "events"), []byte(text(e)), h, items(oracle.Original, []*oracle.Event{e})); ack.Duplicate {
			f.T.Errorf("%s seed=%d: %v is taken for a duplicate", f.Name, f.Seed, h)
		}
	}
	// The same message id with other content: the PubAck says that it is no promise.
	e := s.event()
	if ack := p.publish(subject(s, "events"), []byte(text(e)), taken[0], items(oracle.Original, []*oracle.Event{e})); !ack.Duplicate {
		f.T.Errorf("%s seed=%d: a message id was taken twice", f.Name, f.Seed)
	}
	refused := []nats.Header{
		{"Nats-Expected-Last-Sequence": {"1"}}, {"Nats-Expected-Stream": {"CONTROL"}}, {"Nats-Expected-Last-Msg-Id": {"nobody's"}},
		{"Nats-Expected-Last-Subject-Sequence": {"7"}}, {"Nats-Rollup": {"all"}}, {"Nats-TTL": {"1s"}}, {"Nats-Schedule": {"@at 2030-01-01T00:00:00Z"}},
	}
	for _, h := range refused {
		e := s.event()
		// Refused by the server, or a dead letter: never a counted event that could go away again.
		if ack, err := p.try(subject(s, "events"), []byte(text(e)), h, []oracle.Item{{Kind: oracle.Poison}}); err == nil {
			f.T.Errorf("%s seed=%d: a message with %v was stored at %d", f.Name, f.Seed, h, ack.Sequence)
		}
	}
	return len(taken) + 1 + len(refused)
}

// panicking sends events at which the decoders of this build panic, among good ones, on both roads.
func panicking(f *fight.Fight, s *sender, p *direct) []*oracle.Event {
	f.T.Helper()
	var broken []*oracle.Event
	for road, bug := range []string{packedBug, plainBug} {
		events := s.events(40)
		for _, i := range []int{0, 17, 39} {
			events[i].ID = bug + "-" + events[i].ID
			broken = append(broken, events[i])
		}
		if road == 0 {
			// Accepted, so it must be stored in the end, although it first is a dead letter.
			if a := s.send(f.T.Context(), oracle.Original, events...); a.status != 202 {
				f.T.Fatalf("%s seed=%d: %s", f.Name, f.Seed, &a)
			}
			continue
		}
		p.publish(subject(s, "events"), batch(events), nil, items(oracle.Original, events))
	}
	return broken
}

// await waits for n dead letters of the tenant.
func await(f *fight.Fight, s *sender, n int) []letter {
	f.T.Helper()
	var letters []letter
	f.Rig.Until(fmt.Sprintf("%d dead letters", n), rig.SettleWait, func(ctx context.Context) bool {
		rows, err := f.Rig.Warehouse().Rows(ctx, "SELECT concat(toString(shard), ':', toString(seq), ':', toString(idx)), reason, id, hex(raw) FROM "+rig.Database+".dead_letters WHERE tenant = '"+s.tenant+"' ORDER BY seq, idx")
		letters = letters[:0]
		for _, r := range rows {
			raw, hexErr := hex.DecodeString(r[3])
			if hexErr != nil {
				return false
			}
			letters = append(letters, letter{position: r[0], reason: r[1], id: r[2], raw: string(raw)})
		}
		return err == nil && len(letters) >= n
	})
	return letters
}

// compare checks reason and bytes of what is not a panic.
func compare(f *fight.Fight, want map[string]string, letters []letter) {
	f.T.Helper()
	panics := 0
	for _, l := range letters {
		if l.reason == "poison" {
			panics++
			continue
		}
		if reason, sent := want[l.raw]; !sent || reason != l.reason {
			f.T.Errorf("%s seed=%d: dead letter %s is %s with %.200q, want %q", f.Name, f.Seed, l.position, l.reason, l.raw, reason)
		}
	}
	if panics+len(want) != len(letters) {
		f.T.Errorf("%s seed=%d: %d dead letters, %d of panics, want %d others", f.Name, f.Seed, len(letters), panics, len(want))
	}
}

// counted waits until the good neighbours are there.
func counted(f *fight.Fight, s *sender) {
	f.T.Helper()
	// 22 beside poison, 4 with forged headers, twice 37 beside panics.
	const good = 22 + 4 + 2*37
	f.Rig.Until(fmt.Sprintf("%d good neighbours are counted", good), rig.SettleWait, func(ctx context.Context) bool {
		n, err := f.Rig.Warehouse().Numbers(ctx, "SELECT count() FROM "+rig.Database+".events WHERE tenant = '"+s.tenant+"'")
		return err == nil && n[0] == good
	})
}

// replay sends again what the mended program can read, with the tool that people have.
func replay(f *fight.Fight, s *sender, reporter string, letters []letter, broken []*oracle.Event) {
	f.T.Helper()
	token := f.Rig.Key(s.tenant, "events:write", "usage:read", "dlq:read", "dlq:write")
	args := []string{"dlq", "replay", "-o", "json", "--url", strings.TrimSuffix(f.Rig.URL(), "/api/v1/events"), "--reporter-url", reporter, "--token", token}
	sent := 0
	for _, l := range letters {
		if l.reason == "poison" {
			args = append(args, l.position)
			sent++
		}
	}
	if sent != len(broken) {
		f.T.Errorf("%s seed=%d: %d dead letters of panics, want %d", f.Name, f.Seed, sent, len(broken))
	}
	out, err := exec.CommandContext(f.T.Context(), fight.Program(), args...).CombinedOutput()
	if err != nil {
		f.T.Fatalf("%s seed=%d: %v: %s", f.Name, f.Seed, err, out)
	}
	var rows []struct{ Result string }
	if err := json.Unmarshal(out, &rows); err != nil || len(rows) != len(broken) {
		f.T.Fatalf("%s seed=%d: %v: %s", f.Name, f.Seed, err, out)
	}
	for _, r := range rows {
		if r.Result != "stored" {
			f.T.Errorf("%s seed=%d: replayed: %s", f.Name, f.Seed, out)
		}
	}
}

// audited asks for the certificate: the log, read by the mended program, and the tables still tell one story.
func audited(f *fight.Fight, s *sender, reporter string) {
	f.T.Helper()
	auditor := *s
	auditor.token = f.Rig.Key(s.tenant, "reports:read")
	a := auditor.get(f.T.Context(), reporter+"/api/v1/audit")
	var certificate struct{ OK bool }
	if err := json.Unmarshal(a.body, &certificate); err != nil || a.status != 200 || !certificate.OK {
		f.T.Errorf("%s seed=%d: the audit: %.4000s", f.Name, f.Seed, a.body)
	}
}
