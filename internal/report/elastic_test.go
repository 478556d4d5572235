package report_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countinghouse/countinghouse/internal/directory"
	"github.com/countinghouse/countinghouse/internal/report"
	"github.com/countinghouse/countinghouse/internal/report/sheet"
	"github.com/countinghouse/countinghouse/internal/warehouse"
	"github.com/countinghouse/countinghouse/schema"
)

// token is an elastic event of a generated history: an operation, or one of the directory.
type token struct {
	doc                       string
	id, source, kind, account string
	at, recorded, voided, seq int64
	instance, activation      string // of a directory event
	quantity                  string
	lines                     []tokenLine
}

type tokenLine struct {
	no                                         int
	activation, item, response, cost, quantity string
	count, mapped, used, meta                  string
}

func quoted(s string) string { b, _ := json.Marshal(s); return string(b) }

// drawTokens draws what may go wrong: unknown items, late ones, refunds, denials, several lines, voids, instants shared.
func drawTokens(t *rapid.T) []token {
	all := []token{}
	base := month.UnixMilli()
	names := rapid.SampledFrom([]string{"1", "2", "3"})
	for i := range rapid.IntRange(1, 60).Draw(t, "events") {
		e := token{
			id: fmt.Sprint("e", i), source: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "source"),
			at: base + rapid.Int64Range(0, 12).Draw(t, "at")*1000, seq: rapid.Int64Range(0, 2).Draw(t, "seq"),
			account: rapid.SampledFrom([]string{"A-1", "A-2", ""}).Draw(t, "account"), instance: "I" + names.Draw(t, "instance"), activation: "ACT" + names.Draw(t, "activation"),
		}
		e.recorded = e.at + rapid.Int64Range(0, 5).Draw(t, "late")*1000
		if rapid.IntRange(0, 9).Draw(t, "void") == 0 {
			e.voided = e.recorded + rapid.Int64Range(1, 4).Draw(t, "voided")*1000
		}
		data := ""
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			e.kind, data = "account.created", `"name":"n","kind":"customer"`
			if e.account == "" {
				e.account = "A-1"
			}
		case 1:
			e.kind, data = "instance.created", fmt.Sprintf(`"instance_id":%q`, e.instance)
		case 2, 3:
			e.kind, e.quantity = "lineitem.mapped", fmt.Sprint(rapid.IntRange(1, 9).Draw(t, "quantity")*10)
			data = fmt.Sprintf(`"activation_id":%q,"instance_id":%q,"quantity":%q,"start":"2025-01-01T00:00:00Z","state":"DEPLOYED","series":"S"`, e.activation, e.instance, e.quantity)
		case 4:
			e.kind, e.quantity = "lineitem.changed", fmt.Sprint(rapid.IntRange(1, 9).Draw(t, "quantity"))
			data = fmt.Sprintf(`"activation_id":%q,"quantity":%s`, e.activation, e.quantity)
		default:
			e.kind = "elastic.operation"
			data = drawLines(t, &e, names)
		}
		e.doc = fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":%q,"type":%q,"time":%q,"data":{"source_seq":%d,%s}`, e.id, e.source, e.kind, report.Instant(e.at).String(), e.seq, data)
		if e.account != "" {
			e.doc += fmt.Sprintf(`,"subject":%q`, e.account)
		}
		e.doc += "}"
		all = append(all, e)
	}
	return all
}

func drawLines(t *rapid.T, e *token, names *rapid.Generator[string]) string {
	var lines []string
	for n := range rapid.IntRange(1, 3).Draw(t, "lines") {
		l := tokenLine{no: 3 - n, activation: "ACT" + names.Draw(t, "line item"), item: rapid.SampledFrom([]string{"Photo", "C/A\"D"}).Draw(t, "item"), response: "101", cost: "3"}
		count := rapid.IntRange(-4, 9).Draw(t, "count")
		l.count, l.quantity = fmt.Sprint(count), fmt.Sprint(3*count)
		if rapid.IntRange(0, 4).Draw(t, "denied") == 0 {
			l.response, l.quantity = "202", "0"
		}
		text := fmt.Sprintf(`"line_no":%d,"item":%s,"item_quantity":%s,"response":%q,"activation_id":%q,"meter_quantity":%s,"series":"S/1","version":"1","meter_cost":3`,
			l.no, quoted(l.item), l.count, l.response, l.activation, l.quantity)
		if rapid.Bool().Draw(t, "mapped") {
			l.mapped = "77.5"
			text += `,"mapped_entitled_count":"77.50"`
		}
		if rapid.Bool().Draw(t, "used") {
			l.used = "6"
			text += `,"used":6`
		}
		if rapid.Bool().Draw(t, "meta") {
			l.meta = `{"a":"</b>"}`
			text += `,"meta_data":{"a":"</b>"}`
		}
		e.lines = append(e.lines, l)
		lines = append(lines, "{"+text+"}")
	}
	return fmt.Sprintf(`"operation":"access_request","instance_id":%q,"consumer":{"type":"user","value":"joe"},"lines":[%s]`, e.instance, strings.Join(lines, ","))
}

// elasticOracle is the table by brute force: every row asks the whole history again.
func elasticOracle(all []token, tenant string, asOf int64, keep func(row sheet.Row) bool) []sheet.Row {
	var known []token
	for _, e := range all {
		if e.recorded <= asOf && (e.voided == 0 || e.voided > asOf) {
			known = append(known, e)
		}
	}
	slices.SortFunc(known, func(a, b token) int {
		return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.source, b.source), cmp.Compare(a.seq, b.seq), strings.Compare(a.id, b.id))
	})
	first := func(kind string, at int64, is func(e token) bool) *token {
		for i := range known {
			if known[i].kind == kind && known[i].at <= at && is(known[i]) {
				return &known[i]
			}
		}
		return nil
	}
	used := map[string]*big.Int{}
	rows := []sheet.Row{}
	for _, e := range known {
		if e.kind != "elastic.operation" {
			continue
		}
		lines := slices.Clone(e.lines)
		slices.SortFunc(lines, func(a, b tokenLine) int { return a.no - b.no })
		for _, l := range lines {
			account := e.account
			if c := first("instance.created", 1<<60, func(c token) bool { return c.instance == e.instance }); c != nil && c.account != "" {
				account = c.account
			}
			made := first("instance.created", e.at, func(c token) bool { return c.instance == e.instance }) != nil ||
				first("lineitem.mapped", e.at, func(c token) bool { return c.instance == e.instance }) != nil
			if !made || first("account.created", e.at, func(c token) bool { return c.account == account }) == nil {
				continue
			}
			row := sheet.Row{"corr-" + e.id, tenant, report.Instant(e.at).String(), report.Instant(max(e.at, e.recorded)).String(), "joe", "user", account, e.instance,
				"", "", "", l.item, "", l.count, "", "", l.response, "elastic", "elastic token", `{"series":"S/1","version":"1"}`, l.cost, l.quantity, l.meta}
			if l.response == "101" {
				row[8], row[9] = l.activation, l.mapped
				for _, c := range known {
					if c.kind == "lineitem.mapped" && c.activation == l.activation && c.at <= e.at && row[8] != "" {
						row[8] = "!" + l.activation
					}
				}
				if !strings.HasPrefix(row[8], "!") {
					continue
				}
				row[8] = l.activation
				mapped := false
				for _, c := range known {
					mapped = mapped || c.kind == "lineitem.mapped" && c.activation == l.activation
					if l.mapped == "" && mapped && c.activation == l.activation && c.quantity != "" && c.at <= e.at {
						row[9] = c.quantity
					}
				}
				if used[l.activation] == nil {
					used[l.activation] = new(big.Int)
				}
				n, _ := new(big.Int).SetString(l.quantity, 10)
				row[10] = used[l.activation].Add(used[l.activation], n).String()
			}
			if keep(row) {
				rows = append(rows, row)
			}
		}
	}
	return rows
}

func printed(rows []sheet.Row) string {
	out := ""
	for _, r := range rows {
		out += strings.Join(r, "|") + "\n"
	}
	return out
}

func (b bench) elastic(t testing.TB, q report.Query) []sheet.Row {
	t.Helper()
	q.Report = "elastic-usage"
	result, err := b.reports.Run(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	rows := []sheet.Row{}
	for row, err := range result.Rows {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return rows
}

func (b bench) elasticView(t testing.TB) map[string][]sheet.Row {
	t.Helper()
	rows := map[string][]sheet.Row{}
	err := b.W.Query(t.Context(), `
SELECT CORRELATION_ID, TENANT_ID, toUnixTimestamp64Milli(USAGE_TIME), toUnixTimestamp64Milli(WRITE_TIME), CONSUMER_ID, CONSUMER_TYPE, ACCOUNT_ID, INSTANCE_ID,
    ACTIVATION_ID, ifNull(toString(MAPPED_ENTITLED_COUNT), ''), ifNull(toString(USED), ''), ITEM, ITEM_VERSION, toString(ITEM_QUANTITY), SESSION_ID,
    SESSION_STATE, REQUEST_RESPONSE, METER_TYPE, METER, METER_COST_LIST, ifNull(toString(METER_COST), ''), toString(METER_QUANTITY), META_DATA
FROM {{api}}.elastic_usage_v1`, nil, func(row warehouse.Rows) error {
		cells := make(sheet.Row, 23)
		var at, written int64
		dest := make([]any, 23)
		for i := range cells {
			dest[i] = &cells[i]
		}
		dest[2], dest[3] = &at, &written
		err := row.Scan(dest...)
		cells[2], cells[3] = report.Instant(at).String(), report.Instant(written).String()
		rows[cells[1]] = append(rows[cells[1]], cells)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestElasticUsageEqualsTheOracle(t *testing.T) {
	b := setUp(t)
	generator := rapid.Custom(drawTokens)
	all := make([][]token, 12)
	for i := range all {
		all[i] = generator.Example(i)
		b.storeTokens(t, fmt.Sprint("tenant-", i), all[i])
	}
	b.settle(t)
	view := b.elasticView(t)
	shown := 0
	for i, tokens := range all {
		tenant := fmt.Sprint("tenant-", i)
		want := elasticOracle(tokens, tenant, 1<<60, func(sheet.Row) bool { return true })
		shown += len(want)
		have := view[tenant]
		slices.SortFunc(have, func(a, b sheet.Row) int { return strings.Compare(strings.Join(a, "|"), strings.Join(b, "|")) })
		sorted := slices.Clone(want)
		slices.SortFunc(sorted, func(a, b sheet.Row) int { return strings.Compare(strings.Join(a, "|"), strings.Join(b, "|")) })
		if printed(have) != printed(sorted) {
			t.Fatalf("%s: elastic_usage_v1:\n%s\nwant\n%s", tenant, printed(have), printed(sorted))
		}
		for j := range 6 {
			asOf, values := int64(directory.Latest), map[string]string{}
			if j%3 == 1 {
				asOf = tokens[j%len(tokens)].recorded
			}
			from, to := month.UnixMilli()+int64(j%5)*1000, month.UnixMilli()+int64(j%5+6)*1000
			if j > 1 {
				values["from"], values["to"] = report.Instant(from).String(), report.Instant(to).String()
			} else {
				from, to = 0, 1<<60
			}
			for name, value := range map[string]string{"account": "A-1", "instance": "I1", "activation": "ACT2"} {
				if (j+len(name))%4 == 0 {
					values[name] = value
				}
			}
			want := elasticOracle(tokens, tenant, asOf, func(r sheet.Row) bool {
				return r[2] >= report.Instant(max(from, 1)).String() && (to == 1<<60 || r[2] < report.Instant(to).String()) &&
					(values["account"] == "" || values["account"] == r[6]) && (values["instance"] == "" || values["instance"] == r[7]) &&
					(values["activation"] == "" || values["activation"] == r[8])
			})
			q := report.Query{Tenant: tenant, Values: values, AsOf: asOf}
			if got := b.elastic(t, q); printed(got) != printed(want) {
				t.Fatalf("%s %v as of %d:\n%s\nwant\n%s", tenant, values, asOf, printed(got), printed(want))
			}
			paged := []sheet.Row{}
			for {
				limit := 5 + j%4
				page := b.elastic(t, report.Query{Tenant: tenant, Values: values, AsOf: asOf, Skip: len(paged), Limit: limit})
				paged = append(paged, page...)
				if len(page) < limit {
					break
				}
			}
			if printed(paged) != printed(want) {
				t.Fatalf("%s %v in pages of %d:\n%s\nwant\n%s", tenant, values, 5+j%4, printed(paged), printed(want))
			}
		}
	}
	if shown < 50 {
		t.Errorf("only %d rows were tried", shown)
	}
}

func (b bench) storeTokens(t testing.TB, tenant string, all []token) {
	t.Helper()
	type step struct {
		recorded int64
		do       func() error
	}
	var steps []step
	for _, e := range all {
		steps = append(steps, step{e.recorded, func() error { return b.Add(tenant, e.recorded, e.doc) }})
		if e.voided != 0 {
			steps = append(steps, step{e.voided, func() error { return b.Void(tenant, e.voided, e.source, e.id) }})
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return int(a.recorded - b.recorded) })
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkElasticUsage: a million lines of 200 line items in a month, first page, a page in the middle, and all.
func BenchmarkElasticUsage(b *testing.B) {
	d := setUp(b)
	exec := func(sql string) {
		b.Helper()
		if _, err := d.engine.Query(b.Context(), strings.ReplaceAll(sql, "{{db}}", d.W.Database())); err != nil {
			b.Fatal(err)
		}
	}
	exec(`INSERT INTO {{db}}.directory_events (shard, seq, idx, sign, tenant, source, id, type, account, at, recorded_at, correlation_id, data)
SELECT 0, 1, number, 1, 'big', 'crm', concat(kind, toString(number)), kind, 'A-1', toDateTime64('2026-01-01 00:00:00', 3, 'UTC'), toDateTime64('2026-01-01 00:00:00', 3, 'UTC'), '',
    format('{{"name":"A","kind":"customer","instance_id":"I{0}","activation_id":"ACT{0}","quantity":"1000","start":"2026-01-01T00:00:00Z","state":"DEPLOYED","series":"S"}}', toString(number))
FROM numbers(200) ARRAY JOIN ['account.created', 'instance.created', 'lineitem.mapped'] AS kind
WHERE kind != 'account.created' OR number = 0`)
	exec(`INSERT INTO {{db}}.elastic_lines (shard, seq, idx, line, sign, tenant, source, id, account, at, recorded_at, correlation_id, operation, consumer_type, consumer_id, instance_id,
    line_no, item, item_version, item_quantity, response, activation_id, series, version, meter_cost, meter_quantity, given, meta_data)
SELECT 0, 1 + intDiv(number, 500), number % 500, 0, 1, 'big', 'bench', toString(number), 'A-1', toDateTime64('2026-03-01 00:00:00', 3, 'UTC') + toIntervalMillisecond(number * 2600),
    toDateTime64('2026-03-31 23:00:00', 3, 'UTC'), toString(generateUUIDv4()), 'access_request', 'user', concat('u', toString(number % 1000)),
    concat('I', toString(number % 200)), 1, 'PhotoPrint', '1.0', 2, '101', concat('ACT', toString(number % 200)), 'S', '1', 3, 6, 1, '{"project":"blue"}'
FROM numbers(1000000)`)
	exec(`INSERT INTO {{db}}.ledger (shard, seq, tenant, logged_at, hash, missing, accepted, stored, duplicate, conflict, quarantined, voided)
SELECT 0, 1 + number, 'big', toDateTime64('2026-04-01 00:00:00', 3, 'UTC'), 0, 0, 500, 500, 0, 0, 0, 0 FROM numbers(2000)`)
	for name, sql := range map[string]string{
		"view, sums by item":   "SELECT ITEM, sum(METER_QUANTITY) FROM {{api}}.elastic_usage_v1 WHERE TENANT_ID = 'big' AND REQUEST_RESPONSE = '101' GROUP BY ITEM",
		"view, running totals": "SELECT ACTIVATION_ID, max(USED) FROM {{api}}.elastic_usage_v1 WHERE TENANT_ID = 'big' GROUP BY ACTIVATION_ID",
		"view, rows of a day":  "SELECT CORRELATION_ID, USED, META_DATA FROM {{api}}.elastic_usage_v1 WHERE TENANT_ID = 'big' AND USAGE_TIME >= '2026-03-20 00:00:00' AND USAGE_TIME < '2026-03-21 00:00:00'",
		"view, balances":       "SELECT activation_id, used FROM {{api}}.elastic_balance_v1 WHERE tenant = 'big'",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := d.W.Query(b.Context(), sql, nil, func(warehouse.Rows) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	for name, q := range map[string]report.Query{
		"first page":               {Limit: 1001},
		"first page from the 20th": {Limit: 1001, Values: map[string]string{"from": "2026-03-20T00:00:00Z"}},
		"page 800":                 {Skip: 800_000, Limit: 1001},
		"page of an instance":      {Limit: 1001, Values: map[string]string{"instance": "I7", "from": "2026-03-20T00:00:00Z"}},
		"all":                      {},
	} {
		b.Run(name, func(b *testing.B) {
			q.Tenant, q.AsOf = "big", directory.Latest
			if q.Values == nil {
				q.Values = map[string]string{}
			}
			rows := 0
			for b.Loop() {
				rows = len(d.elastic(b, q))
			}
			b.ReportMetric(float64(rows), "rows")
		})
	}
}

// Operations that were stored before there was a table of lines get the same rows from the migration.
func TestMigrationFillsElasticLines(t *testing.T) {
	b := setUp(t)
	for i := range 3 {
		b.storeTokens(t, fmt.Sprint("tenant-", i), rapid.Custom(drawTokens).Example(20+i))
	}
	const rows = `SELECT toString(tuple(shard, seq, idx, line, sign, tenant, source, id, source_seq, account, at, recorded_at, correlation_id, operation, consumer_type, consumer_id, instance_id,
    session_id, session_state, line_no, item, item_version, item_quantity, response, activation_id, series, version, meter_cost, meter_quantity, mapped_entitled_count, used, given,
    refund_correlation_id, refund_line_no, meta_data)) AS row FROM {{db}}.elastic_lines ORDER BY row`
	read := func() []string {
		all, err := warehouse.Collect(t.Context(), b.W, rows, nil, func(r warehouse.Rows, line *string) error { return r.Scan(line) })
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	text, err := fs.ReadFile(schema.ClickHouse, "clickhouse/0013_elastic.sql")
	if err != nil {
		t.Fatal(err)
	}
	fill := slices.IndexFunc(warehouse.Statements(string(text)), func(s string) bool { return strings.HasPrefix(s, "INSERT") })
	statement := strings.ReplaceAll(warehouse.Statements(string(text))[fill], "{{db}}", b.W.Database())
	written := read()
	for _, sql := range []string{
		statement, // nothing is missing: nothing is added
		"ALTER TABLE " + b.W.Database() + ".elastic_lines DELETE WHERE cityHash64(id, line) % 3 != 0 SETTINGS mutations_sync = 2",
		statement,
	} {
		if _, err := b.engine.Query(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if filled := read(); len(written) < 20 || !slices.Equal(filled, written) {
		t.Errorf("%d rows were written, %d are there after the migration:\n%s\nwant\n%s", len(written), len(filled), strings.Join(filled, "\n"), strings.Join(written, "\n"))
	}
}
