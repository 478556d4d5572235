package kill_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/rig"
)

// F13: ClickHouse dies inside a system call: at a rename that makes a part visible, at the fsync around
// it, and, in the full form, at any write, open or unlink.
func TestF13InsideClickHouse(t *testing.T) {
	if err := rig.CanTrace(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	f := fight.Begin(t, "F13", rig.Options{})
	atPart := 0 // lives that ended at the rename that makes an inserted part visible
	for i := 0; i < fight.Rounds(3, 40) || atPart == 0 && i < 60; i++ {
		calls, n := "rename,renameat,renameat2", 1+f.Rnd.IntN(6)
		switch {
		case i%4 == 1:
			calls, n = "fsync,fdatasync", 1+f.Rnd.IntN(12)
		case i%4 == 2 && fight.Soak:
			calls, n = "write,pwrite64", 1+f.Rnd.IntN(300)
		case i%8 == 5 && fight.Soak:
			calls, n = "unlink,unlinkat", 1+f.Rnd.IntN(10)
		case i%8 == 7 && fight.Soak:
			calls, n = "openat", 20+f.Rnd.IntN(300)
		}
		diesInside(f, calls, n, time.Duration(1+i/6)*lifeInside)
		if victim := f.Rig.Victim(); strings.Contains(victim, "rename") && strings.Contains(victim, "tmp_insert") {
			atPart++
		}
	}
	f.Note = fmt.Sprintf(" part_renames=%d", atPart)
	if atPart == 0 {
		t.Errorf("F13 seed=%d: no life ended at the rename of a part", f.Seed)
	}
	f.Recovered()
	f.End()
}

// lifeInside is how long a life is waited for whose threads do not make so many calls. On a machine at its limit that is
// too short for an insert, so the lives become longer with their number.
const lifeInside = 5 * time.Second

// diesInside gives ClickHouse a life that ends at the n-th of some calls, and waits until it has ended. A
// life that goes on for long has no thread that makes so many: it is killed like any other.
func diesInside(f *fight.Fight, calls string, n int, most time.Duration) {
	f.T.Helper()
	engine := f.Rig.ClickHouse
	f.Rig.Until("ClickHouse lives", rig.SettleWait, func(context.Context) bool { return engine.Alive() })
	before := engine.Doom(rig.Inject(calls, n)...)
	var deadline time.Time // counted from when it answers: it starts slowly under strace
	f.Rig.Until(fmt.Sprintf("ClickHouse dies at %d of %s", n, calls), 2*rig.SettleWait, func(context.Context) bool {
		switch {
		case engine.Dooms() > before:
			return true
		case !engine.Alive():
		case deadline.IsZero():
			deadline = time.Now().Add(most)
		case time.Now().After(deadline):
			f.T.Logf("no thread has reached %d of %s", n, calls)
			engine.Kill()
		}
		return false
	})
	f.T.Logf("died at %d of %s: %s", n, calls, f.Rig.Victim())
}
