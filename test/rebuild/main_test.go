// Package rebuild makes all tables again under load, or those partitions that were damaged, kills who does it, and asks
// an oracle what is left.
package rebuild_test

import (
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/rebuild"
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

// flushWait is that of the aggregators: who dies here is the command, at its own points, and what its tables cost is
// the number of inserts.
const flushWait = 100 * time.Millisecond

func TestMain(m *testing.M) { fight.Main(m) }

// outcome is what the tool did.
type outcome struct {
	rebuild.Result
	code   int // -1: killed
	stderr string
}

// tool runs `countinghouse rebuild`; env arms a crash point.
func tool(f *fight.Fight, env []string, args ...string) (o outcome) {
	f.T.Helper()
	o.code, o.stderr = f.Tool("rebuild", env, &o.Result, args...)
	return o
}

// exchanged checks that a run did all that it should.
func (o outcome) exchanged(t *testing.T) {
	t.Helper()
	if o.code != 0 || !o.Exchanged {
		t.Fatalf("rebuild: exit %d, exchanged %v\n%s", o.code, o.Exchanged, o.stderr)
	}
	if o.Resumed {
		return // the run that was interrupted had proved it
	}
	if !o.AuditOK || o.Difference != 0 || len(o.Tables) < 5 {
		t.Errorf("rebuild: audit %v, %d differences, tables %+v", o.AuditOK, o.Difference, o.Tables)
	}
	for _, p := range o.Reports {
		t.Logf("%s: %d questions, %d rows, %d refused, %.12s", p.Report, p.Questions, p.Rows, p.Refused, p.After)
		if !p.Same() {
			t.Errorf("%s differs: %v", p.Report, p.Differ)
		}
	}
}

// databases are those of the rig's ClickHouse that a rebuild made.
func databases(f *fight.Fight) string {
	f.T.Helper()
	rows, err := f.Rig.Warehouse().Rows(f.T.Context(), "SELECT name FROM system.databases WHERE name LIKE '"+rig.Database+"\\_%' ORDER BY name")
	if err != nil {
		f.T.Fatal(err)
	}
	var names []string
	for _, row := range rows {
		names = append(names, row[0])
	}
	return strings.Join(names, " ")
}

// events identifies the table of events that is in use.
func events(f *fight.Fight) string {
	f.T.Helper()
	rows, err := f.Rig.Warehouse().Rows(f.T.Context(), "SELECT toString(uuid) FROM system.tables WHERE database = '"+rig.Database+"' AND name = 'events'")
	if err != nil || len(rows) != 1 {
		f.T.Fatalf("the table of events: %v, %v", rows, err)
	}
	return rows[0][0]
}
