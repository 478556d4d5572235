package main_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countinghouse/countinghouse/internal/eventlog"
)

// TestImportKilled kills an import with SIGKILL again and again; each run goes on with --resume. In the
// end every line is counted once, whatever was sent twice.
func TestImportKilled(t *testing.T) {
	t.Parallel()
	r := up(t, dirIn(t))
	const rows = 60_000
	file := filepath.Join(t.TempDir(), "usage.csv")
	mapping := filepath.Join(t.TempDir(), "usage.yaml")
	var b strings.Builder
	b.WriteString("account,at,n\n")
	begin := time.Now().Add(-24 * time.Hour).Unix()
	sum := 0
	for i := range rows {
		fmt.Fprintf(&b, "a%d,%d,%d\n", i%7, begin+int64(i), i)
		sum += i
	}
	write(t, file, b.String())
	write(t, mapping, "format: csv\nsource: killed\nsubject: \"{account}\"\ntime: {from: at, layout: unix}\nevents: [{data: {meter: n, quantity: \"{n}\"}}]\n")
	args := []string{"events", "import", file, "--mapping", mapping, "--dir", r.dir, "--resume", "--batch", "50"}
	for kill := range 4 {
		cmd := exec.Command("countinghouse", args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		want := (kill + 1) * rows / 6 // some way further than the last time
		await(t, patience, "progress of the import", func() bool {
			got, err := r.sql(t, "SELECT count() FROM usage_api.events_v1 WHERE source = 'killed'")
			n, _ := strconv.Atoi(got)
			return err == nil && n >= want
		})
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed, as was meant
	}
	r.tool(t, 0, "events", "import", file, "--mapping", mapping, "--resume")
	r.awaitSQL(t, "SELECT sum(stored), sum(conflict), sum(quarantined), sum(accepted) = sum(stored) + sum(duplicate) FROM usage_api.ledger_v1", fmt.Sprintf("%d 0 0 1", rows))
	r.awaitSQL(t, "SELECT sum(sign), sum(quantity * sign), uniqExact(id) FROM usage_api.events_v1 WHERE source = 'killed'", fmt.Sprintf("%d %d %d", rows, sum, rows))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestImportRejects: what ingest refuses is named by line, and the rest is imported.
func TestImportRejects(t *testing.T) {
	t.Parallel()
	r := up(t, dirIn(t))
	file := filepath.Join(t.TempDir(), "events.ndjson")
	event := func(id, quantity string) string {
		return `{"specversion":"1.0","id":"` + id + `","source":"s","type":"usage.metered","subject":"a","data":{"meter":"m","quantity":` + quantity + `}}` + "\n"
	}
	write(t, file, event("1", "1")+event("2", "1e400")+"not json\n"+event("4", "2"))
	out, errs, code := tool(t, "events", "import", file, "--tenant", "acme", "--dir", r.dir, "-o", "csv")
	if code != 1 || !strings.Contains(out, "events.ndjson,4,3,2,2,") {
		t.Errorf("exit code %d, %q", code, out)
	}
	for _, want := range []string{"events.ndjson line 2 (2) rejected", "events.ndjson line 3 rejected: json"} {
		if !strings.Contains(errs, want) {
			t.Errorf("stderr %q does not say %q", errs, want)
		}
	}
	r.awaitSQL(t, "SELECT tenant, sum(quantity * sign) FROM usage_api.events_v1 GROUP BY tenant", "acme 3")
	if keys := r.tool(t, 0, "keys", "ls", "--tenant", "acme", "-o", "csv"); !strings.Contains(keys, "events import") || strings.HasSuffix(strings.TrimSpace(keys), ",") {
		t.Errorf("the key of the import was not revoked: %s", keys)
	}
}

// TestDeadLetters: poison published straight to NATS is listed, shown, mended and replayed.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	r := up(t, dirIn(t))
	cfg := eventlog.DefaultConfig()
	cfg.URL = r.endpoints(t).NATS
	l, err := eventlog.Dial(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	publish := func(body string) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		id := uuid.New()
		for {
			_, err := l.AppendMessage(ctx, "default", eventlog.KindEvents, map[string][]string{"Content-Type": {"application/json"}}, id, []byte(body))
			if err == nil {
				return
			}
			if !errors.Is(err, eventlog.ErrUnavailable) || ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
	const bad = `{"specversion":"1.0","id":"bad-1","source":"direct","type":"usage.metered","subject":"acme","data":{"meter":"tokens","quantity":1e400}}`
	publish(bad)
	publish("\x00\xffrubbish")
	type letter struct{ Position, Reason, ID, Source string }
	var letters []letter
	await(t, patience, "two dead letters", func() bool {
		letters = decode[[]letter](t, r.tool(t, 0, "dlq", "ls", "-o", "json"))
		return len(letters) == 2
	})
	var mend letter
	for _, d := range letters {
		if d.ID == "bad-1" {
			mend = d
		}
	}
	if mend.Position == "" {
		t.Fatalf("dead letters %+v do not name bad-1", letters)
	}
	if shown := r.tool(t, 0, "dlq", "show", mend.Position); !strings.Contains(shown, "1e400") {
		t.Errorf("dlq show: %s", shown)
	}
	r.tool(t, 1, "dlq", "replay", mend.Position) // as it is ingest refuses it
	out := decode[[]map[string]string](t, r.tool(t, 0, "dlq", "replay", mend.Position, "--set", "data.quantity=7", "-o", "json"))
	if len(out) != 1 || out[0]["result"] != "stored" || out[0]["new_position"] == mend.Position {
		t.Errorf("dlq replay: %v", out)
	}
	r.awaitSQL(t, "SELECT sum(quantity * sign) FROM usage_api.events_v1 WHERE id = 'bad-1'", "7")
	if status := r.tool(t, 0, "events", "status", "direct", "bad-1"); !strings.Contains(status, "stored") {
		t.Errorf("events status: %s", status)
	}
	r.tool(t, 1, "events", "status", "direct", "never-sent")
	if tail := r.tool(t, 0, "events", "tail", "--follow=false"); !strings.Contains(tail, "direct/bad-1  acme  7 tokens") {
		t.Errorf("events tail: %s", tail)
	}
}

// TestBackupRestore: a restored directory has the same log, and the aggregator builds the same warehouse
// from it.
func TestBackupRestore(t *testing.T) {
	t.Parallel()
	const figures = `
SELECT count(), sum(quantity * sign), groupBitXor(cityHash64(tenant, source, id, type, account, at, recorded_at, meter, quantity, sign, shard, seq, idx, correlation_id, data))
FROM usage_api.events_v1`
	const rollups = "SELECT sum(quantity), sum(events) FROM usage_api.usage_hourly_v1"
	r := up(t, dirIn(t))
	key := decode[struct{ Key string }](t, r.tool(t, 0, "keys", "create", "--tenant", "default", "--scope", "events:write", "-o", "json")).Key
	for i, meter := range []string{"tokens", "api_calls", "bandwidth_gib", "tokens", "tokens"} {
		r.tool(t, 0, "events", "send", "--meter", meter, "--account", fmt.Sprintf("a-%d", i), "--quantity", fmt.Sprintf("%d.25", i))
	}
	r.tool(t, 0, "events", "send", "--meter", "tokens", "--account", "acme", "--id", "marker")
	r.awaitSQL(t, "SELECT sum(stored) FROM usage_api.ledger_v1", "6") // the ledger comes last
	was, err := r.sql(t, figures)
	if err != nil {
		t.Fatal(err)
	}
	hourly, err := r.sql(t, rollups)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "backup.tar")
	r.tool(t, 0, "backup", "--to", file)
	if _, errs, code := tool(t, "restore", "--from", file, "--dir", r.dir); code != 69 {
		t.Errorf("restore into a running directory: exit code %d, %s", code, errs)
	}
	r.stop(t)
	if _, errs, code := tool(t, "restore", "--from", file, "--dir", r.dir); code != 1 || !strings.Contains(errs, "holds data already") {
		t.Errorf("restore over data: exit code %d, %s", code, errs)
	}

	dir := dirIn(t)
	if _, errs, code := tool(t, "restore", "--from", file, "--dir", dir); code != 0 {
		t.Fatalf("restore: exit code %d, %s", code, errs)
	}
	again := up(t, dir)
	again.awaitSQL(t, figures, strings.Join(strings.Fields(was), " "))
	again.awaitSQL(t, rollups, strings.Join(strings.Fields(hourly), " "))
	again.tool(t, 0, "events", "send", "--meter", "tokens", "--account", "acme", "--id", "marker", "--token", key)
	again.awaitSQL(t, "SELECT sum(conflict) + sum(duplicate) > 0, sum(stored) FROM usage_api.ledger_v1", "1 6") // identities are remembered
}

// TestDoctor: a healthy stack has no failing check; one that lost ClickHouse has.
func TestDoctor(t *testing.T) {
	t.Parallel()
	r := up(t, dirIn(t))
	var out string
	await(t, patience, "no check fails", func() bool { // a check has ten seconds, which a busy machine may need
		out, _, _ = tool(t, "doctor", "--dir", r.dir)
		failed := regexp.MustCompile(`(?m)^fail +(.*)`).FindAllStringSubmatch(out, -1)
		return !slices.ContainsFunc(failed, func(m []string) bool { return !strings.HasPrefix(m[1], "disk ") }) // the machine's own, and nearly full
	}, func() string { return out })
	for _, check := range []string{"nats durability", "log mapping", "clickhouse settings", "migrations", "analyst isolation", "ingest"} {
		if !strings.Contains(out, "ok    "+check) {
			t.Errorf("%s is not ok:\n%s", check, out)
		}
	}
	out = r.tool(t, 1, "doctor", "--clickhouse", "clickhouse://127.0.0.1:1/countinghouse")
	if !strings.Contains(out, "fail  clickhouse") || !strings.Contains(out, "ok    nats") {
		t.Errorf("doctor without ClickHouse:\n%s", out)
	}
}

// TestAudit: the certificate of a whole stack, and exit 1 with the place after a row was deleted behind
// its back.
func TestAudit(t *testing.T) {
	t.Parallel()
	r := up(t, dirIn(t))
	for _, id := range []string{"a-1", "a-2", "a-3"} {
		r.tool(t, 0, "events", "send", "--meter", "tokens", "--account", "acme", "--id", id, "--quantity", "0.000000001")
	}
	r.awaitSQL(t, ledger, "1 3 0 0")
	if out := r.tool(t, 0, "audit"); !strings.Contains(out, "complete: log = ledger = raw rows = rollups") || !strings.Contains(out, "0.000000003") {
		t.Errorf("audit:\n%s", out)
	}
	if c := decode[struct{ OK bool }](t, r.tool(t, 0, "audit", "-o", "json")); !c.OK {
		t.Error("the certificate as JSON is not ok")
	}
	if out, errs, code := tool(t, "audit", "--dir", r.dir, "--tenant", "zzz"); code != 1 || out != "" || !strings.Contains(errs, `no tenant "zzz"`) {
		t.Errorf("audit of a tenant that nobody knows: exit code %d\n%s%s", code, out, errs)
	}
	if _, errs, code := tool(t, "dlq", "ls", "--dir", r.dir, "--reason", "x"); code != 64 || !strings.Contains(errs, "reason") || !strings.Contains(errs, "conflict, poison") {
		t.Errorf("dead letters of no such reason: exit code %d\n%s", code, errs)
	}
	at, err := r.sql(t, "SELECT concat(toString(shard), ':', toString(seq), ':', toString(idx)) FROM countinghouse.events WHERE id = 'a-2'")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.sql(t, "ALTER TABLE countinghouse.events DELETE WHERE id = 'a-2' SETTINGS mutations_sync = 2"); err != nil {
		t.Fatal(err)
	}
	out, errs, code := tool(t, "audit", "--dir", r.dir)
	if code != 1 || !strings.Contains(errs, "difference: raw at "+at+", tenant default") || !strings.Contains(out, "NOT complete") {
		t.Errorf("audit of a deleted row: exit code %d\n%s%s", code, out, errs)
	}
}
