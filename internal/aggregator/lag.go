package aggregator

import "sync/atomic"

// lag counts what a session has read of the log and not committed yet, in events: a message may hold one
// event or five hundred, so the difference of two sequences says little.
type lag struct {
	seq      atomic.Uint64 // last sequence read
	messages atomic.Uint64 // read in this session
	accepted atomic.Uint64 // events in them
	counted  atomic.Uint64 // of those, committed
}

func (l *lag) read(c *chunk) {
	l.accepted.Add(uint64(c.accepted()))
	l.messages.Add(1)
	l.seq.Store(c.seq)
}

func (l *lag) committed(b *batch) {
	l.counted.Add(uint64(b.accepted))
}

// pending is the number of events not in the warehouse yet when the log ends at last: exact for what has
// been read; each message not read yet is taken for an average one of this session, and for one event
// before any was read.
func (l *lag) pending(last uint64) uint64 {
	// counted before accepted: what is committed in between must not make the difference negative.
	counted := l.counted.Load()
	n := l.accepted.Load() - counted
	seq := l.seq.Load()
	if last <= seq {
		return n
	}
	unread, average := last-seq, uint64(1)
	if m := l.messages.Load(); m > 0 {
		average = max(1, (l.accepted.Load()+m/2)/m)
	}
	return n + unread*average
}
