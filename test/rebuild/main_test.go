// Package rebuild makes all tables again under load, or those partitions that were damaged, kills who does it, and asks
// an oracle what is left.
package rebuild_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/internal/rebuild"
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

func TestMain(m *testing.M) { fight.Main(m) }

// toolWait bounds one rebuild of what a test has counted, on a machine with other work.
const toolWait = 4 * time.Minute

// outcome is what the tool did.
type outcome struct {
	rebuild.Result
	code   int // -1: killed
	stderr string
}

// tool runs `countinghouse rebuild`; env arms a crash point.
func tool(f *fight.Fight, env []string, args ...string) outcome {
	f.T.Helper()
	ctx, cancel := context.WithTimeout(f.T.Context(), toolWait)
	defer cancel()
	o := ran(f, command(ctx, f, env, args...))
	if ctx.Err() != nil {
		f.T.Fatalf("rebuild does not end\n%s", o.stderr)
	}
	return o
}

func command(ctx context.Context, f *fight.Fight, env []string, args ...string) *exec.Cmd {
	return verb(ctx, f, "rebuild", env, args...)
}

// verb is a command of the tool that has a lease.
func verb(ctx context.Context, f *fight.Fight, name string, env []string, args ...string) *exec.Cmd {
	all := append([]string{name, "-o", "json", "--lease-ttl", "2s"}, f.Rig.ToolFlags()...)
	cmd := exec.CommandContext(ctx, fight.Program(), append(all, args...)...)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

func ran(f *fight.Fight, cmd *exec.Cmd) outcome {
	f.T.Helper()
	var o outcome
	o.code, o.stderr = said(f, cmd, &o.Result)
	return o
}

// said runs a command and decodes what it says into answer; the code is -1 where it was killed.
func said(f *fight.Fight, cmd *exec.Cmd, answer any) (code int, stderr string) {
	f.T.Helper()
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		f.T.Fatalf("%s: %v", cmd.Args[1], err)
	}
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), answer); err != nil {
			f.T.Fatalf("%s says no JSON: %v\n%s", cmd.Args[1], err, out.String())
		}
	}
	return cmd.ProcessState.ExitCode(), log.String()
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
