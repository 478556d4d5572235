package scenario

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// A close that is asked for the moment an event was acknowledged has it in the version that it makes: the first of the month,
// and the second, for what was late.
func TestCloseHasWhatWasAcknowledged(t *testing.T) {
	w := newWorld(t)
	total := map[string]int{}
	send := func(month string, quantity int) {
		t.Helper()
		e := ev(month+"-10", "usage.metered", "A-1", d{"meter": "tokens", "quantity": fmt.Sprint(quantity)}).recordedAt("2025-06-01")
		if status, answer := w.post(e); status != http.StatusAccepted {
			t.Fatalf("POST /events: %d %s", status, answer)
		}
		total[month] += quantity
	}
	for i, step := range []struct {
		month   string
		version int
	}{{"2025-01", 1}, {"2025-02", 1}, {"2025-01", 2}} {
		for range 3 { // each is a batch of its own, perhaps
			send(step.month, i+1)
		}
		c := w.closed(step.month, "")
		if c.Version < step.version { // a third version follows where the second was made by itself, of less
			t.Errorf("%s: version %d, want %d", step.month, c.Version, step.version)
		}
		rows := w.monthCSV(step.month+"/usage", "version", fmt.Sprint(c.Version))
		if want := fmt.Sprintf(",%d,", total[step.month]); strings.Count(rows, "\n") != 2 || !strings.Contains(rows, want) {
			t.Errorf("version %d of %s, want %s tokens:\n%s", c.Version, step.month, want, rows)
		}
	}
}
