package abuse_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

// crowded is a month long ago in which a tenant has nothing but different values. No producer sent that: it
// is written behind the system's back, and taken away before the oracle looks.
const (
	crowdedFrom  = "2001-01-01T00:00:00Z"
	crowdedTo    = "2001-02-01T00:00:00Z"
	crowdedMonth = "200101"
)

// crowd gives a tenant n accounts in the rollup and m values of a dimension in the raw rows.
func crowd(f *fight.Fight, tenant string, accounts, values int) {
	f.T.Helper()
	for _, statement := range []string{
		fmt.Sprintf(`INSERT INTO %s.usage_hourly (tenant, account, meter, hour, quantity, events, rows, low, high, first_at, last_at)
			SELECT '%s', toString(cityHash64(number)), 'crowd', toDateTime64('2001-01-01 00:00:00', 3, 'UTC') + number %% 2000000 AS h, 1, 1, 1, 1, 1, h, h FROM numbers(%d)`, rig.Database, tenant, accounts),
		fmt.Sprintf(`INSERT INTO %[1]s.usage_monthly (tenant, account, meter, month, quantity, events, rows, low, high, first_at, last_at)
			SELECT tenant, account, meter, toDateTime64('2001-01-01 00:00:00', 3, 'UTC'), quantity, events, rows, low, high, first_at, last_at
			FROM %[1]s.usage_hourly WHERE tenant = '%[2]s' AND meter = 'crowd'`, rig.Database, tenant),
		fmt.Sprintf(`INSERT INTO %s.events (tenant, source, id, sign, type, account, meter, at, recorded_at, quantity, dimensions)
			SELECT '%s', '/crowd', toString(number), 1, 'usage.metered', 'crowd', 'crowd', toDateTime64('2001-01-01 00:00:00', 3, 'UTC') + number %% 2000000,
			toDateTime64('2001-01-01 00:00:00', 3, 'UTC'), 1, map('k', toString(cityHash64(number))) FROM numbers(%d)`, rig.Database, tenant, values),
	} {
		run(f, statement)
	}
}

func disperse(f *fight.Fight) {
	f.T.Helper()
	for _, table := range []string{"usage_hourly", "usage_monthly", "events"} {
		run(f, "ALTER TABLE "+rig.Database+"."+table+" DROP PARTITION "+crowdedMonth)
	}
}

func run(f *fight.Fight, statement string) {
	f.T.Helper()
	if _, err := f.Rig.Warehouse().Rows(f.T.Context(), statement); err != nil {
		f.T.Fatalf("%s seed=%d: %v", f.Name, f.Seed, err)
	}
}

// asked is the address of a question about crowded usage.
func asked(reporter string, params ...string) string {
	query := url.Values{"from": {crowdedFrom}, "to": {crowdedTo}}
	for i := 0; i < len(params); i += 2 {
		query.Set(params[i], params[i+1])
	}
	return reporter + "/api/v1/meters/crowd/usage?" + query.Encode()
}

// F20, the other side: questions with a million answers.
func TestF20Questions(t *testing.T) {
	f := fight.Begin(t, "F20q", rig.Options{})
	reporter, at := f.Rig.StartReporter()
	s := newSender(f, "crowd", "/crowd")
	accounts, values := fight.Rounds(200_000, 1_000_000), fight.Rounds(120_000, 1_000_000)
	crowd(f, s.tenant, accounts, values)
	small := s.get(t.Context(), asked(at, "window", "day"))
	if small.status != http.StatusOK {
		t.Fatalf("a question of 31 rows: %s", &small)
	}
	before := cost(f, reporter)
	for name, tt := range map[string]struct {
		params []string
		status int
		code   string
	}{
		"group by account":     {[]string{"group_by", "account"}, 422, "too-many-rows"},
		"group by a dimension": {[]string{"group_by", "dimensions.k"}, 422, "too-many-rows"},
		"as CSV":               {[]string{"group_by", "account", "window", "hour", "format", "csv"}, 422, "too-many-rows"},
		"by plan, one row":     {[]string{"group_by", "plan"}, 200, ""},
	} {
		a := s.get(t.Context(), asked(at, tt.params...))
		t.Logf("%s: %s", name, &a)
		if a.status != tt.status || a.code != tt.code {
			t.Errorf("%s: %s, want %d %s", name, &a, tt.status, tt.code)
		}
		if tt.code != "" {
			f.Within(name, a.took, refusedWithin)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at+"/api/v1/freshness", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Large", strings.Repeat("x", 128<<10))
	if a := s.do(req); a.status != 431 || a.code != "headers-too-large" {
		t.Errorf("a header of 128 KB: %s", &a)
	}
	more := grown(f, reporter, before)
	if more > memoryMax*memorySlack() {
		t.Errorf("%s seed=%d: the reporter took %d MiB more, promised at most %d", f.Name, f.Seed, more, memoryMax)
	}
	f.Note = fmt.Sprintf(" keys=%d small=%s memory=+%dMiB", accounts, small.took.Round(time.Millisecond), more)
	disperse(f)
	f.End()
}
