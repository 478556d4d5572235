package browser_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// newOperator makes an operator through the pages and answers the password that was shown once.
func newOperator(b *tab, login, role, account string) (password string) {
	b.Helper()
	b.visit("/operators/new")
	b.fill("input[name=login]", login)
	b.click("input[name=generate]")
	b.choose("select[name=role]", role)
	b.choose("select[name=account]", account)
	b.follow("Create")
	return eval[string](b, `document.getElementById("password").value`)
}

// TestRoleMatrix saves a role with its permissions, changes it, gives it, and removes it.
func TestRoleMatrix(t *testing.T) {
	b := open(t)
	b.visit("/roles/new")
	b.fill("input[name=name]", "Usage clerk")
	b.fill("textarea[name=description]", "generates usage reports")
	b.click(`input[name=right][value="export-reports:all"]`)
	b.click(`input[name=right][value="schedules:view"]`)
	b.click(`input[name=right][value="schedules:add"]`)
	b.click(`input[name=manages][value="Auditor"]`)
	b.follow("Save")
	matrix := func() string {
		var kept []string
		for _, r := range b.rows() {
			if strings.Contains(r, "✓") {
				kept = append(kept, r)
			}
		}
		return strings.Join(kept, "\n")
	}
	b.wants("the matrix", matrix(), "Export Reports | ✓ | ✓ | ✓ | ✓ | ✓\nScheduled Task Management | ✓ | ✓ | – | – | –")
	if !strings.Contains(b.text("main"), "Auditor") {
		t.Error("the role it manages is not shown")
	}
	b.follow("Edit")
	b.click(`input[name=right][value="schedules:add"]`)
	b.follow("Save")
	b.wants("the matrix", matrix(), "Export Reports | ✓ | ✓ | ✓ | ✓ | ✓\nScheduled Task Management | ✓ | – | – | – | –")
	b.visit("/roles/edit?name=Auditor")
	if !strings.Contains(b.text("h1"), "Not allowed") {
		t.Errorf("a system role can be edited: %s", b.text("main"))
	}
	b.visit("/roles/role?name=Usage+clerk")
	b.follow("Remove")
	b.follow("Remove")
	if b.row("Usage clerk") != "" {
		t.Error("the role is still there")
	}
	b.quiet("roles")
}

// TestTechnician sees the partner reports and exports nothing; outside its subtree there is nothing.
func TestTechnician(t *testing.T) {
	password := newOperator(open(t), "tess", "Technician", "certware")
	b := openAs(t, "tess", password)
	if status := b.visit("/partners/view?type=subscriptions&partner=certware"); status != http.StatusOK {
		t.Fatalf("view: %d", status)
	}
	if b.row("Kappa Clinics") == "" || b.row("Sigma Stores") != "" {
		t.Errorf("customers: %q", b.rows())
	}
	if strings.Contains(b.text("main"), "Export") {
		t.Error("there is an Export")
	}
	if menu := b.text("nav.menu"); strings.Contains(menu, "STA") || strings.Contains(menu, "Roles") {
		t.Errorf("menu: %s", menu)
	}
	for path, want := range map[string]int64{
		"/partners/file?type=subscriptions&partner=certware": http.StatusForbidden, "/sta": http.StatusForbidden, "/roles": http.StatusForbidden,
		"/partners/view?type=subscriptions&partner=keystone": http.StatusNotFound, "/partners/view?type=subscriptions&partner=nobody": http.StatusNotFound,
	} {
		if got := b.visit(path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
}

// TestPartnerColumns exports only the columns on display, in their order.
func TestPartnerColumns(t *testing.T) {
	b := open(t)
	b.visit("/partners/view?type=subscriptions&partner=trust&columns=Customer,Cost,End")
	b.click("details.chooser summary")
	b.click(`button[name=up][value="End"]`)
	b.await("moved", `document.readyState === "complete" && new URLSearchParams(location.search).get("columns") === "Customer,End,Cost"`)
	b.wants("headings", strings.Join(eval[[]string](b, `[...document.querySelectorAll("main thead th")].map(h => h.textContent)`), ","), "Customer,End,Cost")
	got := b.saves("Export CSV", "subscriptions_trust.csv")
	b.wants("the file and the API's", got, shared.file(t, "/reports/subscriptions?format=csv&partner=trust&columns=Customer,End,Cost"))
	b.visit("/partners/view?type=subscriptions&partner=trust&columns=Cost") // rows that look the same are of different subscriptions
	if links := eval[[]string](b, `[...document.querySelectorAll("main tbody a")].map(a => a.href)`); len(links) == 0 || len(slices.Compact(slices.Sorted(slices.Values(links)))) != len(links) {
		t.Errorf("the costs lead to %q", links)
	}
	if status := b.visit("/partners/view?type=certificate-usage&partner=trust&columns=Nonsense"); status != http.StatusOK {
		t.Errorf("a column that there is not: %d", status)
	}
	b.visit("/partners/view?type=certificate-usage&partner=trust")
	before := len(b.rows())
	b.follow("▸ Kappa Clinics")
	if after := len(b.rows()); after <= before {
		t.Errorf("%d rows, and %d unfolded", before, after)
	}
	b.quiet("partner reports")
}

// TestKey makes a key that is shown once and works until it is revoked; the log tells of it.
func TestKey(t *testing.T) {
	b := open(t)
	b.visit("/keys/new")
	b.fill("input[name=name]", "month reader")
	b.follow("Create")
	if b.text("main .fault") == "" {
		t.Error("a key without a scope was made")
	}
	b.wants("what was typed", eval[string](b, `document.querySelector("input[name=name]").value`), "month reader")
	b.click(`input[name=scope][value="reports:read"]`)
	b.follow("Create")
	key := eval[string](b, `document.getElementById("key").value`)
	works := func() int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shared.reporter+"/api/v1/months", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if got := works(); got != http.StatusOK {
		t.Errorf("the key answers %d", got)
	}
	b.visit("/keys")
	if strings.Contains(b.text("body"), key) {
		t.Error("the key is shown again")
	}
	eval[bool](b, `([...document.querySelectorAll("main tr")].find(r => r.textContent.includes("month reader")).querySelector("a").click(), true)`)
	b.await("the prompt", `location.pathname.endsWith("/revoke") && document.readyState === "complete"`)
	b.follow("Revoke")
	if got := b.row("month reader"); !strings.Contains(got, "revoked") {
		t.Errorf("after revoking: %q", got)
	}
	err := await(t.Context(), pageWait, func() error {
		if got := works(); got != http.StatusUnauthorized {
			return fmt.Errorf("the revoked key answers %d", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	b.visit("/audit-log")
	if b.row("key", "month reader") == "" && b.row("key-revoked") == "" {
		t.Errorf("the log does not tell: %q", b.rows())
	}
	if !strings.Contains(b.text("main"), "chain verified") {
		t.Errorf("the chain: %s", b.text("main .notice"))
	}
	b.quiet("keys")
}
