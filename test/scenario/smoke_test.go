package scenario

import (
	"net/http"
	"strings"
	"testing"
)

// An account and some usage are in the month's numbers; a report nobody knows is 404.
func TestWorldIsThere(t *testing.T) {
	w := newWorld(t)
	w.send(
		ev("2025-01-01", "account.created", "a", d{"name": "Acme", "kind": "customer"}),
		ev("2025-01-02", "usage.metered", "a", d{"meter": "tokens", "quantity": "1.5"}),
	)
	if status, answer := w.get("/months/2025-01/usage"); status != http.StatusOK || !strings.Contains(answer, `"quantity":"1.5"`) {
		t.Errorf("GET /months/2025-01/usage: %d %s", status, answer)
	}
	if status, answer := w.get("/reports/nothing"); status != http.StatusNotFound {
		t.Errorf("GET /reports/nothing: %d %s", status, answer)
	}
}
