package jobs_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/reporter/jobs"
)

// TestSheetLimit: a report that a sheet cannot hold is refused for good, naming the parameter and what to ask for instead;
// nothing of it is kept or mailed. As CSV it is made.
func TestSheetLimit(t *testing.T) {
	h := open(t, "2025-04-05T00:00:00Z")
	r := h.reporter()
	h.add(
		fmt.Sprintf(`{"specversion":"1.0","id":"a2","source":"s","type":"account.created","subject":"A-2","time":"2025-01-01T00:00:00Z","data":{"name":%q,"kind":"customer"}}`, strings.Repeat("long ", 8_000)),
		`{"specversion":"1.0","id":"u3","source":"s","type":"usage.metered","subject":"A-2","time":"2025-03-01T00:00:00Z","data":{"meter":"calls","quantity":"1"}}`,
	)
	ask := func(format string) jobs.Job {
		t.Helper()
		return h.until(r, h.submit(r, jobs.Request{Format: format, Recipients: []string{"finance@example.com"}}).ID, "the end", ended)
	}
	j := ask("xlsx")
	if j.State != control.JobFailed || j.Parameter != "format" || !strings.Contains(j.Error, "ask for csv") || j.File != nil || j.Tries != 1 {
		t.Errorf("as xlsx: %s %q %q, %d tries, file %+v", j.State, j.Parameter, j.Error, j.Tries, j.File)
	}
	if mails := h.smtp.Mails(); len(mails) != 0 {
		t.Errorf("%d mails about a file that is not there", len(mails))
	}
	if j := ask("csv"); j.State != control.JobDone || j.Rows != 3 || len(h.smtp.Mails()) != 1 {
		t.Errorf("as csv: %s %q, %d rows, %d mails", j.State, j.Error, j.Rows, len(h.smtp.Mails()))
	}
}
