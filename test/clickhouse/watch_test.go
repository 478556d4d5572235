package clickhouse_test

import (
	"fmt"
	"sync"
	"time"

	"github.com/countinghouse/countinghouse/test/fight"
	"github.com/countinghouse/countinghouse/test/proxy"
)

// watch looks at every insert on the wire, for two promises: one that is not answered is given up at its
// deadline, and no other into the same table follows before its writer has taken over anew.
type watch struct {
	mu       sync.Mutex
	inserts  map[int]*insert    // open, by connection
	last     map[string]*insert // by table
	gaveUp   []time.Duration    // how long the unanswered ones were waited for
	breaches []string
	seen     int
}

type insert struct {
	table      string
	epoch      uint64
	connection int
	begun      time.Time
	answered   bool
}

func watchInserts(p *proxy.Proxy) *watch {
	w := &watch{inserts: map[int]*insert{}, last: map[string]*insert{}}
	p.Tap(w.see)
	return w
}

func (w *watch) see(connection int, d proxy.Direction, chunk []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	open := w.inserts[connection]
	if table, epoch := fight.InsertOf(d, chunk); table != "" {
		w.begins(&insert{table: table, epoch: epoch, connection: connection, begun: time.Now()})
		return
	}
	switch {
	case open == nil:
	case len(chunk) == 0 && d == proxy.ToServer: // who waited has left
		w.gaveUp = append(w.gaveUp, time.Since(open.begun))
		delete(w.inserts, connection)
	case d == proxy.ToClient && len(chunk) > 0 && chunk[len(chunk)-1] == fight.EndOfStream:
		open.answered = true // or it looks so: the next one on this connection will tell
	}
}

func (w *watch) begins(next *insert) {
	w.seen++
	earlier := w.last[next.table]
	switch {
	case earlier == nil || next.epoch > earlier.epoch:
	case next.connection != earlier.connection:
		w.breaches = append(w.breaches, fmt.Sprintf("owner %d inserts into %s on another connection", next.epoch, next.table))
	case !earlier.answered:
		w.breaches = append(w.breaches, fmt.Sprintf("owner %d inserts into %s before the answer to the insert before it", next.epoch, next.table))
	}
	w.last[next.table], w.inserts[next.connection] = next, next
}

// take is how long unanswered inserts were waited for since it was asked last, and what was broken.
func (w *watch) take() (gaveUp []time.Duration, breaches []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	gaveUp, w.gaveUp = w.gaveUp, nil
	return gaveUp, w.breaches
}
