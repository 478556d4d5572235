package reporter_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/localstack"
	"github.com/countinghouse/countinghouse/internal/problem"
)

// TestWords holds what refusals say to people: where the fault is, once, and what is allowed; nothing of how this
// program is made inside.
func TestWords(t *testing.T) {
	d := open(t, localstack.Shared(t))
	d.fill()
	root := d.key("default", "admin", "usage:read", "reports:read", "reports:write", "months:close", "dlq:read", "dlq:write")
	packages, err := filepath.Glob("../*")
	if err != nil {
		t.Fatal(err)
	}
	prefixes := []string{"json", "jsontext", "invalid", "create key", "key", "parse", "strconv"}
	for _, p := range packages {
		if info, err := os.Stat(p); err == nil && info.IsDir() {
			prefixes = append(prefixes, filepath.Base(p))
		}
	}
	inside := regexp.MustCompile(`(^|: )(` + strings.Join(prefixes, "|") + `): |Go (struct|value)|unmarshal|strconv|reporter\.|<nil>`)
	seen := 0
	for _, row := range strings.Split(strings.TrimSpace(wrongRequests), "\n") {
		method, rest, _ := strings.Cut(row, " ")
		path, body, _ := strings.Cut(rest, " ")
		status, _, answer := d.send(method, root, path, "", body)
		var p problem.Problem
		if err := json.Unmarshal([]byte(answer), &p); err != nil || status < http.StatusBadRequest || status >= http.StatusInternalServerError || p.Status != status {
			t.Errorf("%s: %d %s, want a refusal", row, status, answer)
			continue
		}
		seen++
		said := []string{p.Detail}
		for _, item := range p.Errors {
			said = append(said, item.Detail)
			name := strings.TrimPrefix(item.Pointer, "/") // a body's member, or a parameter
			if name == "" {
				name = item.Parameter
			}
			if name == "" || strings.HasPrefix(item.Detail, name+" ") || strings.HasPrefix(item.Detail, name+":") {
				t.Errorf("%s: %+v names its place again, or has none", row, item)
			}
		}
		for _, text := range said {
			if text == "" || inside.MatchString(text) || stammers(text) {
				t.Errorf("%s: %d %s says %q", row, status, p.Code, text)
			}
		}
	}
	if seen < 60 {
		t.Errorf("only %d refusals were looked at", seen)
	}
}

// stammers reports whether a text says a word, a colon and the word again.
func stammers(text string) bool {
	words := strings.Fields(text)
	for i := 1; i < len(words); i++ {
		if before, ok := strings.CutSuffix(words[i-1], ":"); ok && before == strings.Trim(words[i], `"':,.`) {
			return true
		}
	}
	return false
}

// wrongRequests are requests that no administrator can make, one a line: method, path, body.
const wrongRequests = `
GET /months/2026-13
GET /months/x/usage
GET /months/2026-03/usage?version=0
GET /months/2026-03/usage?version=-1
GET /months/2026-03/usage?version=01
GET /months/2026-03/usage?version=x
GET /months/2026-03/usage?version=1&as_of=2026-03-20T11:00:20Z
GET /months/2026-03/usage?limit=0
GET /months/2026-03/usage?cursor=x
GET /months/2026-03/usage?as_of=yesterday
GET /months/2026-03/usage?format=xml
GET /months/2026-03/usage?colour=red
GET /months/2026-03/diff?from=0
GET /months/2026-03/adjustments?processing_month=x
GET /meters/tokens/usage?from=x
GET /meters/tokens/usage?from=2026-03-02T00:00:00Z&to=2026-03-01T00:00:00Z
GET /meters/tokens/usage?window=week
GET /meters/tokens/usage?group_by=colour
GET /reports/nothing
GET /reports/sta-usage
GET /reports/sta-usage?account=A-1
GET /reports/sta-usage?account=A-1&month=2026-3
GET /reports/sta-usage?account=A-1&month=2026-03&scope=x
GET /reports/sta-usage?account=A-1&month=2026-03&version=0
GET /reports/sta-usage?account=nobody&month=2026-03
GET /reports/tenant-usage?account=A-1&from=2026-03-40&to=2026-03-31
GET /reports/elastic-usage?from=1&to=2
GET /reports/asset-monthly-costs?organization=A-1&from=2020-01&to=2026-01
GET /explain
GET /explain?report=nothing&month=2026-03
GET /explain?month=2026-03&version=0
GET /events?source=crm
GET /dead-letters/0/x/0
GET /audit?month=x
GET /roles/nobody
GET /operators/nobody
GET /schedules/nothing
GET /report-jobs/nothing
POST /keys {}
POST /keys [
POST /keys []
POST /keys
POST /keys {"scopes":"x"}
POST /keys {"scopes":["x"]}
POST /keys {"scopes":["admin"],"tenant":"A B"}
POST /keys {"scopes":["admin"],"expires":"x"}
POST /keys {"scopes":["admin"],"expires":"2020-01-01T00:00:00Z"}
POST /keys {"scopes":["admin"],"expires":"1d","expires_at":"1d"}
POST /keys {"scopes":["admin"],"name":"a\u0001"}
POST /keys {"scopes":["admin"],"colour":1}
DELETE /keys/nothing
POST /roles {}
POST /roles {"name":"Auditor"}
POST /roles {"name":"a","rights":[]}
POST /roles {"name":"a","rights":{"x":["view"]}}
POST /roles {"name":"a","rights":{"keys":["x"]}}
POST /roles {"name":"a","manage_all_roles":true,"manages":["b"]}
PUT /roles/Auditor {"name":"Auditor"}
DELETE /roles/Auditor
POST /operators {}
POST /operators {"login":"a b"}
POST /operators {"login":"a","password":"short"}
POST /operators {"login":"a","email":"x"}
POST /operators {"login":"a","grants":[{"role":"nobody"}]}
POST /operators/nobody/password {"password":"long enough for anyone"}
POST /report-jobs {}
POST /report-jobs {"report":"x"}
POST /report-jobs {"report":"sta-usage"}
POST /report-jobs {"report":"sta-usage","format":"x","parameters":{"account":"A-1","month":"2026-03"}}
POST /report-jobs {"report":"sta-usage","parameters":{"account":"A-1","month":"2026-03","x":"1"}}
POST /report-jobs {"report":"sta-usage","parameters":{"account":"A-1","month":"2026-03"},"recipients":[1]}
POST /report-jobs {"report":"sta-usage","parameters":{"account":"A-1","month":"2026-03"},"keep_days":-1}
POST /report-jobs {"report":"sta-usage","parameters":{"account":"A-1","month":"2026-03"},"keep_days":"x"}
POST /schedules {}
POST /schedules {"name":"a","report":"sta-usage","recurrence":"x"}
POST /schedules {"name":"a","report":"monthly-usage","recurrence":"monthly","month_day":40}
POST /schedules {"name":"a","report":"monthly-usage","recurrence":"daily","at":"25:00"}
POST /schedules {"name":"a","report":"monthly-usage","recurrence":"daily","at":"05:00","zone":"Nowhere/City"}
POST /months/2026-12/close {}
POST /months/2026-03/close {"as_of":"x"}
POST /months/2026-03/close {"accept_gaps":true}
POST /months/x/close {}`
