//go:build faultpoint

package faultpoint

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// Enabled tells whether this build can crash on demand.
const Enabled = true

type trap struct {
	name   string
	freeze bool
	left   atomic.Int64
}

// armed is read once: the environment of a process does not change.
var armed = sync.OnceValue(func() *trap {
	at, freeze := strings.CutSuffix(os.Getenv(Variable), Freeze)
	name, count, found := strings.Cut(at, ":")
	if name == "" {
		return nil
	}
	t := &trap{name: name, freeze: freeze}
	n, err := strconv.ParseInt(count, 10, 64)
	switch {
	case !found:
		n = 1
	case err != nil || n < 1:
		panic(Variable + ": want name:n with n from 1, or name:n" + Freeze) // only in a test build, where it must not pass unseen
	}
	t.left.Store(n)
	return t
})

// Hit kills the process if it was asked to die here, or stops it.
func Hit(name string) {
	t := armed()
	if t == nil || t.name != name || t.left.Add(-1) != 0 {
		return
	}
	if t.freeze {
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) // cannot fail for our own process
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // cannot fail for our own process
	select {}                                      // not one instruction more
}
