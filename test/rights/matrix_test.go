package rights_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/access"
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/reporter/web"
)

var update = flag.Bool("update", false, "rewrite testdata/matrix.csv")

// operation of the API's own description.
type operation struct {
	ID         string `json:"operationId"`
	Parameters []struct {
		Name     string `json:"name"`
		In       string `json:"in"`
		Required bool   `json:"required"`
	} `json:"parameters"`
	method, path string
}

// operations are those of openapi.json, by id.
func (h *house) operations() []operation {
	h.Helper()
	_, _, body := h.nobody().do(http.MethodGet, "/api/v1/openapi.json", nil, nil)
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		h.Fatal(err)
	}
	var all []operation
	for path, methods := range doc.Paths {
		for method, raw := range methods {
			op := operation{method: strings.ToUpper(method), path: path}
			if err := json.Unmarshal(raw, &op); err != nil {
				h.Fatal(err)
			}
			all = append(all, op)
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// things are what requests are about: of a tenant, made anew for every request that ends them. Of operators, roles and
// keys there is the one that the path is about; each costs the log a sync.
type things struct{ operator, key, role, job, account, tenant string }

func (h *house) things(tenant, account, path string, n int) things {
	h.Helper()
	t := things{operator: fmt.Sprintf("victim-%s-%d", tenant, n), role: fmt.Sprintf("Victim %s %d", tenant, n), account: account, tenant: tenant, job: "00000000-0000-7000-8000-000000000000"}
	if tenant == "other" {
		t.operator, t.role = canary+t.operator, canary+" "+t.role
	}
	var err error
	switch {
	case strings.HasPrefix(path, "/operators"):
		_, err = h.people.CreateOperator(h.Context(), root, control.OperatorSpec{Tenant: tenant, Login: t.operator, Grants: []access.Grant{{Role: access.Technician}}})
	case strings.HasPrefix(path, "/roles"):
		_, err = h.people.CreateRole(h.Context(), root, tenant, access.Role{Name: t.role, Rights: access.Rights{access.Usage: {access.View}}})
	case strings.HasPrefix(path, "/keys"):
		t.key, _, err = h.store.Create(h.Context(), tenant, t.role, []string{"usage:read"}, now().AddDate(10, 0, 0))
	}
	if err != nil {
		h.Fatal(err)
	}
	return t
}

// request is a request of an operation about things.
func (op operation) request(t things) (path, body string) {
	path = op.path
	id := t.operator
	switch {
	case strings.HasPrefix(path, "/keys"):
		id = t.key
	case strings.HasPrefix(path, "/report-jobs"), strings.HasPrefix(path, "/schedules"):
		id = t.job
	}
	for name, value := range map[string]string{
		"id": id, "name": t.role, "meter": "tokens", "month": "2026-01", "source": "src-" + t.tenant, "shard": "0", "seq": "1", "idx": "0",
	} {
		path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(value))
	}
	if op.ID == "event" {
		path = "/events/src-" + t.tenant + "/" + t.tenant + "-e1"
	}
	query := url.Values{}
	report := strings.HasPrefix(path, "/reports/")
	for _, p := range op.Parameters {
		value := map[string]string{
			"account": t.account, "tenant": t.account, "organization": t.account, "partner": t.account, "processing_month": "2026-02", "month": "2026-01",
			"usage_type": "USERS", "aggregation": "MONTHLY", "role": access.Technician,
		}[p.Name]
		switch {
		case p.In != "query" || value == "":
		case op.ID == "explain" && p.Name != "account" && p.Name != "month":
		case p.Name == "tenant" && !report:
			if t.tenant == "other" { // a tenant of keys and certificates
				query.Set("tenant", t.tenant)
			}
		case op.ID == "remove-grant" && p.Name == "account", op.ID == "month-adjustments" || op.ID == "month-diff":
		case p.Name == "account" && strings.HasPrefix(path, "/audit"):
		default:
			query.Set(p.Name, value)
		}
	}
	for _, day := range []string{"from", "to"} {
		switch op.ID {
		case "sta-monthly-summary", "sta-monthly-summary-columns":
			query.Set(day, "2026-01")
		case "tenant-usage-api", "tenant-usage-api-columns":
			query.Set(day, "2026-01-31")
		}
	}
	if op.ID == "explain" {
		query.Set("meter", "tokens")
	}
	if op.method != http.MethodGet && op.method != http.MethodDelete {
		body = map[string]string{
			"create-key":        `{"scopes":["usage:read"]}`,
			"create-role":       fmt.Sprintf(`{"name":"New %s","rights":{"usage":["view"]}}`, strings.ReplaceAll(t.role, canary, "")),
			"edit-role":         `{"rights":{"usage":["view"]}}`,
			"create-operator":   fmt.Sprintf(`{"login":"new-%s"}`, strings.ReplaceAll(t.operator, canary, "")),
			"edit-operator":     `{"name":"Renamed"}`,
			"set-password":      `{"password":"another-good-password"}`,
			"create-grant":      `{"role":"Technician","account":"A-2"}`,
			"create-report-job": fmt.Sprintf(`{"report":"subscriptions","parameters":{"partner":%q}}`, t.account),
			"create-schedule":   fmt.Sprintf(`{"name":"s","report":"subscriptions","parameters":{"partner":%q},"recurrence":"Daily","recipients":"ann@example.com"}`, t.account),
			"edit-schedule":     fmt.Sprintf(`{"name":"s","report":"subscriptions","parameters":{"partner":%q},"recurrence":"Daily","recipients":"ann@example.com"}`, t.account),
		}[op.ID]
		if t.tenant == "other" && op.ID == "create-key" {
			body = `{"scopes":["usage:read"],"tenant":"other"}`
		}
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return path, body
}

// TestF24Matrix asks every operation as every kind of caller about own things, things of an account out of reach, and
// another tenant's. The statuses are those of testdata/matrix.csv, which people have read; no answer but the other
// tenant's own holds its canary.
func TestF24Matrix(t *testing.T) {
	h := open(t, 1, nil)
	h.operator("acme", "root", access.Grant{Role: access.SuperAdministrator})
	h.operator("acme", "auditor", access.Grant{Role: access.Auditor})
	h.operator("acme", "manager", access.Grant{Role: access.AccountManager, Account: "A-2"})
	h.operator("acme", "technician", access.Grant{Role: access.Technician, Account: "A-2"})
	h.operator("acme", "partner", access.Grant{Role: access.PartnerAdmin, Account: "A-2"})
	h.operator("acme", "norole")
	callers := []*caller{
		h.signed("super", "root"), h.signed("auditor", "auditor"), h.signed("manager of A-2", "manager"), h.signed("technician of A-2", "technician"),
		h.signed("partner of A-2", "partner"), h.signed("no role", "norole"), h.nobody(), h.keyed("acme", "usage:read", "reports:read"),
	}
	needs := access.Operations()
	got := map[string]map[string]int{}
	n, requests := 0, 0
	for _, op := range h.operations() {
		if _, listed := needs[op.ID]; !listed {
			t.Errorf("%s %s (%s) is not in the table of rights", op.method, op.path, op.ID)
		}
		got[op.ID] = map[string]int{}
		for about, account := range map[string]string{"own": "A-2", "out of reach": "A-3", "other tenant": canary + "-1"} {
			tenant := "acme"
			if about == "other tenant" {
				tenant = "other"
			}
			n++
			victim := h.things(tenant, account, op.path, n)
			for _, c := range callers {
				if op.method != http.MethodGet && (strings.HasPrefix(op.path, "/operators") || strings.HasPrefix(op.path, "/roles") || strings.HasPrefix(op.path, "/keys")) {
					n++
					victim = h.things(tenant, account, op.path, n)
				}
				path, body := op.request(victim)
				status, _, answer := c.api(op.method, path, body)
				requests++
				got[op.ID][about+", "+c.name] = status
				if echo := strings.ReplaceAll(answer, account, ""); tenant == "other" && strings.Contains(strings.ReplaceAll(strings.ReplaceAll(echo, victim.operator, ""), victim.role, ""), canary) {
					t.Errorf("%s %s as %s shows another tenant's: %.500s", op.method, path, c.name, answer)
				}
				if c.name == "nobody" && status != http.StatusUnauthorized {
					t.Errorf("%s %s without a key or session: %d", op.method, path, status)
				}
				if c.name == "no role" && status < 300 && len(needs[op.ID].Rights) > 0 {
					t.Errorf("%s %s without a role: %d", op.method, path, status)
				}
				if status >= 500 {
					t.Errorf("%s %s as %s: %d %s", op.method, path, c.name, status, answer)
				}
			}
		}
	}
	compare(t, got)
	pass(t, fmt.Sprintf("F24 PASS operations=%d callers=%d requests=%d canaries=0", len(got), len(callers), requests))
}

// compare holds the statuses against those that people have read.
func compare(t *testing.T, got map[string]map[string]int) {
	t.Helper()
	var b strings.Builder
	b.WriteString("operation,about,caller,status\n")
	for _, op := range slices.Sorted(maps.Keys(got)) {
		for _, which := range slices.Sorted(maps.Keys(got[op])) {
			about, who, _ := strings.Cut(which, ", ")
			fmt.Fprintf(&b, "%s,%s,%s,%d\n", op, about, who, got[op][which])
		}
	}
	const path = "testdata/matrix.csv"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	have, wanted := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
	for _, line := range have {
		if !slices.Contains(wanted, line) {
			t.Errorf("is not in %s: %s", path, line)
		}
	}
	for _, line := range wanted {
		if !slices.Contains(have, line) {
			t.Errorf("is in %s only: %s", path, line)
		}
	}
}

// TestF24Pages asks for every page of the table as operators without the right, and without any.
func TestF24Pages(t *testing.T) {
	h := open(t, 1, nil)
	h.operator("acme", "technician", access.Grant{Role: access.Technician, Account: "A-2"})
	h.operator("acme", "norole")
	technician, none, nobody := h.signed("technician", "technician"), h.signed("no role", "norole"), h.nobody()
	asked, partnerView := 0, access.Right{Entity: access.PartnerReports, Verb: access.View}
	for _, p := range web.Table() {
		method, path, _ := strings.Cut(p.Pattern, " ")
		if slices.Contains([]access.Entity{access.Months, access.Roles, access.Operators, access.Keys}, p.Right.Entity) && method != http.MethodGet && !p.Proof {
			t.Errorf("%s changes money or rights without a proof of who asks", p.Pattern)
		}
		path = strings.NewReplacer("{$}", "", "{month}", "2026-01", "{id}", "x", "{name}", "x", "{shard}", "0", "{seq}", "1", "{idx}", "0", "{meter}", "tokens", "{rest...}", "").Replace(path)
		for _, c := range []*caller{technician, none, nobody} {
			var status int
			var body string
			if method == http.MethodGet {
				status, _, body = c.do(method, path, nil, nil)
			} else {
				status, _, body = c.post(path, url.Values{"token": {c.form}})
			}
			asked++
			allowed := c == technician && p.Right == partnerView
			switch {
			case c == nobody && status != http.StatusSeeOther:
				t.Errorf("%s for nobody: %d", p.Pattern, status)
			case c != nobody && !allowed && status != http.StatusForbidden:
				t.Errorf("%s for %s: %d %.200s", p.Pattern, c.name, status, body)
			case strings.Contains(body, canary):
				t.Errorf("%s for %s shows another tenant's", p.Pattern, c.name)
			}
		}
	}
	pass(t, fmt.Sprintf("F24p PASS pages=%d requests=%d", len(web.Table()), asked))
}
