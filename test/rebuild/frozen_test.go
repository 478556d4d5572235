//go:build soak

package rebuild_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

// A repair stands still in the middle of the partitions that it takes as they are, and goes on when another has
// finished: what it still has to take goes nowhere (I29).
func TestRepairFrozen(t *testing.T) {
	f := fight.Begin(t, "REPAIR-FROZEN", rig.Options{})
	f.Moment()
	damage(f, []string{"events"})
	var log bytes.Buffer
	frozen := f.Command(t.Context(), "repair", []string{faultpoint.Variable + "=rebuild/linked:2" + faultpoint.Freeze})
	frozen.Stderr = &log
	if err := frozen.Start(); err != nil {
		t.Fatal(err)
	}
	f.Rig.Until("it stands still", toolWait, func(context.Context) bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", frozen.Process.Pid))
		return err == nil && bytes.Contains(stat, []byte(") T "))
	})
	if r, code, stderr := repaired(f); code != 0 || !r.Exchanged || len(r.Left) > 0 {
		t.Fatalf("repair: exit %d, exchanged %v, left %v\n%s", code, r.Exchanged, r.Left, stderr)
	}
	if err := frozen.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := frozen.Wait(); frozen.ProcessState.ExitCode() != 1 {
		t.Errorf("the one that was frozen ends with %v\n%s", err, log.String())
	}
	t.Logf("the one that was frozen: %.300s", log.String())
	if left := looked(f); len(left) > 0 || databases(f) != "" {
		t.Errorf("damage %v, left over %q", left, databases(f))
	}
	f.Recovered()
	f.End()
}
