package rig

import (
	"github.com/countinghouse/countinghouse/internal/control"
	"github.com/countinghouse/countinghouse/internal/eventlog"
)

// GrowLog gives each partition of the log more room, as an operator does whose log is full.
func (r *Rig) GrowLog(maxBytes int64) {
	r.t.Helper()
	r.opts.LogMaxBytes = maxBytes
	err := r.control(func(l *eventlog.Log, _ *control.Store) error { return r.retry("grow the log", l.EnsureStreams) })
	if err != nil {
		r.t.Fatal(err)
	}
}
