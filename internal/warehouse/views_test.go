package warehouse_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/register"
	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/internal/warehouse"
)

// fact is an event of a view test; the zero value of a field is left out. at and end are "MM-DD hh:mm[:ss]"
// of 2026, or a whole date and time.
type fact struct {
	tenant, typ, account, at, end, meter, q, plan, region, consumer, data string
	voided                                                                bool
}

func instant(t testing.TB, s string) usage.Instant {
	t.Helper()
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04"} {
		for _, prefix := range []string{"", "2026-"} {
			if at, err := time.Parse(layout, prefix+s); err == nil {
				return usage.AtTime(at)
			}
		}
	}
	t.Fatalf("time %q", s)
	return usage.Instant{}
}

// store writes facts as the aggregator would: raw rows of both signs, pieces, rollup, directory.
func (b *bench) store(facts []fact) {
	b.Helper()
	events, pieces, directory := warehouse.NewEventBlock(), warehouse.NewPieceBlock(), warehouse.NewDirectoryBlock()
	hourly, monthly := warehouse.NewHourlyBlock(), warehouse.NewMonthlyBlock()
	for i, f := range facts {
		at := instant(b, f.at)
		r := warehouse.EventRow{Position: warehouse.Position{Seq: uint64(i + 1)}, Sign: 1, Tenant: "acme", Source: "s", ID: fmt.Sprintf("e%03d", i),
			Type: f.typ, Account: f.account, At: at, ReportedAt: at, RecordedAt: at, AcceptedAt: at, WrittenAt: at, CorrelationID: "c", CausationID: "c",
			Meter: f.meter, Region: f.region, Plan: f.plan, ConsumerID: f.consumer, Data: f.data}
		if f.tenant != "" {
			r.Tenant = f.tenant
		}
		if r.Type == "" {
			r.Type = usage.TypeMetered
		}
		r.IDHash = usage.IdentityHash(r.Tenant, usage.Identity{Source: r.Source, ID: r.ID})
		q := f.q
		if q == "" {
			q = "0"
		}
		var err error
		if r.Quantity, err = usage.ParseQuantity([]byte(q)); err != nil {
			b.Fatal(err)
		}
		var cut []usage.Piece
		if f.end != "" {
			r.EndAt = instant(b, f.end)
			m := usage.Metered{Meter: r.Meter, Quantity: r.Quantity, Start: at, End: r.EndAt}
			cut = m.Cut()
			r.Pieces = uint16(len(cut))
		}
		for sign := int8(1); sign >= -1; sign -= 2 {
			if sign < 0 && !f.voided {
				break
			}
			r.Sign = sign
			events.Append(&r)
			if strings.HasPrefix(r.Type, "account.") || strings.HasPrefix(r.Type, "service.") || strings.HasPrefix(r.Type, "meter.") {
				directory.Append(&warehouse.DirectoryRow{Position: r.Position, Sign: sign, Tenant: r.Tenant, Source: r.Source, ID: r.ID, Type: r.Type,
					Account: r.Account, At: at, RecordedAt: at, Data: r.Data})
			}
			if r.Meter == "" {
				continue
			}
			if len(cut) < 2 {
				cell(hourly, monthly, &r, at, r.Quantity, int64(sign))
				continue
			}
			for n, p := range cut {
				pieces.Append(&warehouse.PieceRow{Position: r.Position, Piece: uint16(n), Sign: sign, Tenant: r.Tenant, Source: r.Source, ID: r.ID,
					Account: r.Account, At: p.Start, EndAt: p.End, RecordedAt: at, Meter: r.Meter, Quantity: p.Quantity, Region: r.Region, Plan: r.Plan, ConsumerID: r.ConsumerID})
				count := int64(0)
				if n == 0 {
					count = int64(sign)
				}
				cell(hourly, monthly, &r, p.Start, p.Quantity, count)
			}
		}
	}
	wr := b.takeOver(0)
	for _, block := range []warehouse.Block{events, pieces, hourly, monthly, directory} {
		b.insert(wr, block)
	}
	if err := register.Project(b.ctx, b.w, []string{"acme", "other"}, nil); err != nil {
		b.Fatal(err)
	}
}

// cell adds one row or piece to the rollups, unmerged: readers must not care.
func cell(hourly, monthly *warehouse.RollupBlock, r *warehouse.EventRow, at usage.Instant, q usage.Quantity, events int64) {
	h := warehouse.RollupRow{Hi: r.Seq, Tenant: r.Tenant, Account: r.Account, Meter: r.Meter, At: usage.AtTime(at.Time().Truncate(time.Hour)), Region: r.Region,
		Plan: r.Plan, Quantity: q, Events: events, Rows: 1, Low: q, High: q, FirstAt: at, LastAt: at}
	if r.Sign < 0 {
		h.Quantity, h.Voids = q.Neg(), 1
	}
	hourly.Append(&h)
	h.At = usage.MonthOf(at).Start()
	monthly.Append(&h)
}

// shop is one tenant's directory and usage in which every rule of the monthly aggregates shows once.
func shop() []fact {
	return []fact{
		{typ: "meter.defined", at: "01-01 00:01", data: `{"aggregation":"sum","meter":"tokens","service":"cloud","unit":"token"}`},
		{typ: "meter.defined", at: "01-01 00:00", data: `{"aggregation":"max","meter":"tokens"}`}, // an earlier definition
		{typ: "meter.defined", at: "01-01 00:00", data: `{"aggregation":"max","meter":"peak","unit":"user"}`},
		{typ: "meter.defined", at: "01-01 00:00", data: `{"aggregation":"avg","meter":"load"}`},
		{typ: "meter.defined", at: "01-01 00:00", data: `{"aggregation":"unique","meter":"people"}`},
		{typ: "meter.defined", at: "01-01 00:00", data: `{"aggregation":"count","meter":"calls"}`},
		{typ: "meter.defined", at: "01-01 00:00", data: `{"aggregation":"latest","meter":"level"}`},
		{typ: "account.created", account: "root", at: "2025-11-01 00:00", data: `{"name":"Root","kind":"provider"}`},
		{typ: "account.created", account: "a", at: "2025-11-01 00:00", data: `{"name":"A","kind":"customer","parent_account_id":"root"}`},
		{typ: "account.renamed", account: "a", at: "01-20 00:00", data: `{"name":"A2"}`},
		{typ: "account.created", account: "b", at: "2025-11-01 00:00", data: `{"name":"B","kind":"customer","parent_account_id":"a"}`},
		{typ: "account.reparented", account: "b", at: "02-10 00:00", data: `{"new_parent_account_id":"root"}`},
		{typ: "account.created", account: "late", at: "01-05 12:00", data: `{"name":"Late","kind":"customer","parent_account_id":"nobody"}`},
		{typ: "service.plan_set", account: "a", at: "2025-11-02 00:00", data: `{"plan":"Basic","service":"cloud"}`},
		{typ: "service.plan_set", account: "a", at: "01-10 12:20", data: `{"plan":"Premium","service":"cloud"}`},
		{typ: "service.plan_set", account: "a", at: "01-10 12:10", data: `{"plan":"Never","service":"cloud"}`, voided: true},
		{typ: "service.plan_set", account: "b", at: "2025-11-02 00:00", data: `{"plan":"X","service":"idaas"}`},
		{typ: "service.plan_set", account: "b", at: "01-15 00:00", data: `{"plan":"Y","service":"spp"}`}, // two services: no single plan
		{typ: "service.plan_set", account: "late", at: "01-01 00:00", data: `{"plan":"Early","service":"cloud"}`},

		{account: "a", at: "01-10 12:00", meter: "tokens", q: "1"},
		{account: "a", at: "01-10 12:19:59", meter: "tokens", q: "2"},
		{account: "a", at: "01-10 12:20", meter: "tokens", q: "4"},
		{account: "a", at: "01-10 13:00", meter: "tokens", q: "8"},
		{account: "a", at: "01-11 00:00", meter: "tokens", q: "100", plan: "Own"},
		{account: "b", at: "01-02 00:00", meter: "tokens", q: "16"},
		{account: "b", at: "01-16 00:00", meter: "tokens", q: "32", region: "eu"},
		{account: "b", at: "01-17 00:00", meter: "tokens", q: "0.000000001"},
		{account: "b", at: "01-17 05:00", meter: "tokens", q: "7", voided: true},
		{account: "b", at: "02-11 00:00", meter: "tokens", q: "5"},
		{account: "late", at: "01-05 11:59", meter: "tokens", q: "64"},
		{account: "late", at: "01-05 12:00", meter: "tokens", q: "128"},
		{account: "ghost", at: "01-05 12:00", meter: "tokens", q: "3"},
		{account: "a", at: "01-31 23:00", end: "02-01 01:00", meter: "hours", q: "2"}, // cut at the border of months
		{account: "a", at: "01-03 01:00", meter: "peak", q: "9", voided: true},
		{account: "a", at: "01-03 01:30", meter: "peak", q: "5"},
		{account: "b", at: "01-03 01:40", meter: "peak", q: "6"},
		{account: "a", at: "01-03 01:00", meter: "load", q: "0.000000001"},
		{account: "a", at: "01-03 01:01", meter: "load", q: "0.000000002"},
		{account: "a", at: "01-03 01:00", meter: "people", q: "1", consumer: "u1"},
		{account: "a", at: "01-03 02:00", meter: "people", q: "1", consumer: "u1"},
		{account: "b", at: "01-03 02:00", meter: "people", q: "1", consumer: "u2"},
		{account: "a", at: "01-03 01:00", meter: "calls", q: "40"},
		{account: "a", at: "01-03 01:00", meter: "level", q: "40"},
		{account: "a", at: "01-03 01:05", meter: "level", q: "30"},
		{typ: "message.charged", account: "a", at: "01-04 01:00", meter: "voice_credits", q: "3", data: `{"channel":"voice","message_id":"m1"}`},
		{typ: "message.credit_returned", account: "a", at: "01-04 02:00", meter: "credits_returned", q: "-1", data: `{"message_id":"m1"}`},
		{typ: "message.credit_returned", account: "a", at: "01-04 02:00", meter: "credits_returned", q: "-5", data: `{"message_id":"unknown"}`},
		{typ: "message.credit_returned", account: "a", at: "01-04 02:30", meter: "credits_returned", q: "-2", data: `{"message_id":"m1"}`, voided: true},
		{account: "a", at: "01-06 01:00", meter: "nothing", q: "1", voided: true},
		{tenant: "other", typ: "account.created", account: "z", at: "01-01 00:00", data: `{"name":"Z","kind":"customer"}`},
		{tenant: "other", account: "a", at: "01-10 12:00", meter: "tokens", q: "1000"},
	}
}

var update = flag.Bool("update", false, "rewrite testdata")

// golden compares with a file of testdata; every line of it was checked by hand when it was written.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got+"\n" != string(want) {
		t.Errorf("%s\n got\n%s\nwant\n%s", name, got, want)
	}
}

// TestViews: the analysts' views on a directory and usage in which every rule shows once.
func TestViews(t *testing.T) {
	t.Parallel()
	b := setUp(t)
	b.store(shop())
	for name, sql := range map[string]string{
		"usage_monthly_v1.tsv": `
			SELECT month, account, account_name, plan, meter, unit, region, platform, trial, resolved, quantity, events, quantity_tree, events_tree,
				first_at, last_at, version, closed, log_shard, log_seq
			FROM {{api}}.usage_monthly_v1 WHERE tenant = 'acme' ORDER BY month, account, plan, meter, unit, region, platform, trial FORMAT TSVWithNames`,
		"usage_hourly_v1.tsv": `
			SELECT account, meter, hour, region, platform, trial, quantity, events
			FROM {{api}}.usage_hourly_v1 WHERE tenant = 'acme' ORDER BY account, meter, hour, region FORMAT TSVWithNames`,
		"usage_daily_v1.tsv": `
			SELECT account, meter, day, region, platform, trial, quantity, events
			FROM {{api}}.usage_daily_v1 WHERE tenant = 'acme' ORDER BY account, meter, day, region FORMAT TSVWithNames`,
		"events_v1.tsv": `
			SELECT account, meter, sum(quantity * sign) AS quantity, sum(sign) AS events, count() AS rows, any(toTypeName(at)) AS type_at
			FROM {{api}}.events_v1 WHERE tenant = 'acme' AND meter != '' GROUP BY account, meter ORDER BY account, meter FORMAT TSVWithNames`,
	} {
		golden(t, name, b.query("%s", sql))
	}
	b.want("0", `SELECT (SELECT sum(quantity) FROM {{api}}.usage_monthly_v1 WHERE tenant = 'acme' AND meter = 'tokens')
		- (SELECT sum(quantity_tree) FROM {{api}}.usage_monthly_v1 WHERE tenant = 'acme' AND meter = 'tokens' AND account IN ('root', 'late', 'ghost'))`)
	b.want("4", `SELECT count() FROM {{api}}.usage_monthly_v1 WHERE month = '2026-02' AND tenant = 'acme'`)
	b.want("1000\t1000", `SELECT sum(quantity), sum(quantity_tree) FROM {{api}}.usage_monthly_v1 WHERE tenant = 'other'`)
	b.query("OPTIMIZE TABLE {{db}}.usage_hourly FINAL")
	golden(t, "usage_hourly_v1.tsv", b.query("%s", `
			SELECT account, meter, hour, region, platform, trial, quantity, events
			FROM {{api}}.usage_hourly_v1 WHERE tenant = 'acme' ORDER BY account, meter, hour, region FORMAT TSVWithNames`))
}

// TestAnalyst: an analyst can read every view, and no view shows another tenant.
func TestAnalyst(t *testing.T) {
	t.Parallel()
	const db, user, password = "countinghouse", "ann", "secret"
	var tables []localstack.Table
	for _, r := range warehouse.AnalystTables(db) {
		tables = append(tables, localstack.Table{Database: r.Database, Name: r.Name, Tenant: r.Tenant})
	}
	s := localstack.Start(t, localstack.Options{NoNATS: true, ClickHouse: localstack.ClickHouseConfig{
		Analysts: []localstack.Analyst{{User: user, Password: password, Tenant: "acme"}}, Tables: tables,
	}})
	b := migrated(t, s.ClickHouse, db)
	b.store(shop())
	insertOneOfEach(b, b.takeOver(9))
	storeClosed(b, "t")
	if err := b.w.SetStatus(b.ctx, warehouse.StatusRow{Shard: 1, At: day("2026-01-02"), LogSeq: 9, WarehouseSeq: 8, LagEvents: 7, WatermarkAt: day("2026-01-01")}); err != nil {
		t.Fatalf("SetStatus: %v", err)
	}
	for view := range strings.Lines(b.query(`SELECT name FROM system.tables WHERE database = 'usage_api' ORDER BY name`)) {
		view = strings.TrimSpace(view)
		if _, err := s.ClickHouse.QueryAs(b.ctx, user, password, "SELECT count() FROM usage_api."+view); err != nil {
			t.Errorf("%s: %v", view, err)
		}
		// Of elastic lines: internal/report, TestD17AnalystsSQL; of assets: test/scenario, TestCViewSaysTheSame.
		if view == "freshness_v1" || view == "asset_usage_v1" || strings.HasPrefix(view, "elastic_") {
			continue
		}
		b.want("1", "SELECT count() > 0 FROM usage_api.%s WHERE tenant != 'acme'", view)
		if got, err := s.ClickHouse.QueryAs(b.ctx, user, password, "SELECT count() FROM usage_api."+view+" WHERE tenant != 'acme'"); err != nil || strings.TrimSpace(got) != "0" {
			t.Errorf("%s: %q rows of other tenants, %v", view, got, err)
		}
	}
	for sql, want := range map[string]string{
		"SELECT sum(quantity) FROM usage_api.usage_monthly_v1 WHERE meter = 'tokens'":                         "363.000000001",
		"SELECT sum(quantity) FROM usage_api.usage_hourly_v1 WHERE meter = 'tokens'":                          "363.000000001",
		"SELECT log_seq, warehouse_seq, lag_events, watermark_at FROM usage_api.freshness_v1 WHERE shard = 1": "9\t8\t7\t2026-01-01 00:00:00.000",
	} {
		got, err := s.ClickHouse.QueryAs(b.ctx, user, password, sql)
		if err != nil || strings.TrimSpace(got) != want {
			t.Errorf("%s = %q, %v; want %q", sql, got, err, want)
		}
	}
}
