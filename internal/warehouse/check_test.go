package warehouse_test

import (
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// consistent fills shard 0 with two months of usage that agree with each other and with the ledger.
func consistent(b *bench) {
	b.Helper()
	b.store(shop())
	ledger := warehouse.NewLedgerBlock()
	for i, f := range shop() {
		r := warehouse.LedgerRow{Seq: uint64(i + 1), Tenant: "acme", LoggedAt: day("2026-02-20"), Accepted: 1, Stored: 1}
		if f.voided {
			r.Voided = 1
		}
		if i == 3 {
			r.Accepted, r.Duplicate, r.Conflict, r.Quarantined = 7, 3, 1, 2
		}
		ledger.Append(&r)
	}
	dead, repeats := warehouse.NewDeadLetterBlock(), warehouse.NewDuplicateBlock()
	for range 3 {
		dead.Append(&warehouse.DeadLetterRow{Position: warehouse.Position{Seq: 4}, Tenant: "acme", RecordedAt: day("2026-02-20")})
	}
	repeats.Append(&warehouse.DuplicateRow{Position: warehouse.Position{Seq: 4}, N: 3, Tenant: "acme", RecordedAt: day("2026-02-20")})
	wr := b.takeOver(0)
	for _, block := range []warehouse.Block{dead, repeats, ledger} {
		b.insert(wr, block)
	}
}

func (b *bench) check() warehouse.CheckReport {
	b.Helper()
	p, err := b.w.Progress(b.ctx, 0)
	if err != nil {
		b.Fatalf("Progress: %v", err)
	}
	report, err := b.w.Check(b.ctx, 0, p.Seq)
	if err != nil {
		b.Fatalf("Check: %v", err)
	}
	return report
}

// TestCheck: a warehouse that agrees with itself passes, and each kind of loss is named.
func TestCheck(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ damage, want string }{
		"nothing":                  {"", ""},
		"an event":                 {"ALTER TABLE {{db}}.events DELETE WHERE id = 'e019'", "events stored: "},
		"an event behind a rollup": {"ALTER TABLE {{db}}.events DELETE WHERE id = 'e019'", "rollup quantity in 202601: "},
		"a negation":               {"ALTER TABLE {{db}}.events DELETE WHERE sign = -1 AND meter = 'peak'", "events voided: "},
		"a piece":                  {"ALTER TABLE {{db}}.pieces DELETE WHERE piece = 1", "rollup rows in 202602: 2, want 1"},
		"a cell":                   {"ALTER TABLE {{db}}.usage_hourly DELETE WHERE account = 'ghost'", "rollup events in 202601: "},
		"a dead letter":            {"ALTER TABLE {{db}}.dead_letters DELETE WHERE 1", "dead letters: 0, want 3"},
		"a duplicate":              {"ALTER TABLE {{db}}.duplicates DELETE WHERE 1", "duplicates: 0, want 3"},
		"a message":                {"ALTER TABLE {{db}}.ledger DELETE WHERE seq = 9", "messages in the ledger without gaps: "},
		"a part":                   {"ALTER TABLE {{db}}.events DETACH PARTITION 202602", "was detached"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setUp(t)
			consistent(b)
			if tt.damage != "" {
				b.query("%s SETTINGS mutations_sync = 2", tt.damage)
			}
			report := b.check()
			if len(report.Pending) > 0 {
				t.Errorf("Pending = %v", report.Pending)
			}
			var all []string
			for _, d := range report.Differences {
				all = append(all, d.String())
			}
			if got := strings.Join(all, "\n"); tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("differences:\n%s\nwant %q", got, tt.want)
			}
		})
	}
}

// TestCheckBesideWriter: what is above the ledger is no difference, and a rollup ahead of it is pending.
func TestCheckBesideWriter(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	consistent(b)
	wr := b.takeOver(0)
	b.insert(wr, rowsOf(0, 1_000, 1_010)) // of a batch whose ledger rows are not there yet
	hourly := warehouse.NewHourlyBlock()
	hourly.Append(&warehouse.HourlyRow{Hi: 1_001, Tenant: "t", Meter: "m", Hour: day("2026-02-01"), Quantity: usage.Int(1), Events: 1, Rows: 1})
	b.insert(wr, hourly)
	report := b.check()
	if len(report.Differences) > 0 || len(report.Pending) != 1 || report.Pending[0] != 202602 {
		t.Errorf("Check = %+v", report)
	}
}
