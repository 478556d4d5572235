package reporter

import (
	"net/http"
	"time"
)

// patienceBytes are what a client must read of an answer within HTTPConfig.ReadWait.
const patienceBytes = 64 << 10

// patience ends the connection of a client that does not read its answer: it would keep the answer in
// memory, and its place among the requests served, for as long as it likes.
type patience struct {
	http.ResponseWriter
	wait  time.Duration
	last  time.Time // the whole answer must be out by then
	begun bool      // something of the answer was written
}

func (p *patience) Write(b []byte) (n int, err error) {
	p.begun = true
	control := http.NewResponseController(p.ResponseWriter)
	for {
		piece := b[n:min(len(b), n+patienceBytes)]
		until := time.Now().Add(p.wait)
		if until.After(p.last) {
			until = p.last
		}
		if err := control.SetWriteDeadline(until); err != nil {
			return n, err
		}
		written, err := p.ResponseWriter.Write(piece)
		n += written
		if err != nil {
			panic(http.ErrAbortHandler) // the framework would take it for a defect of the answer
		}
		if n == len(b) {
			return n, nil
		}
	}
}

// Unwrap lets the server find its own writer.
func (p *patience) Unwrap() http.ResponseWriter { return p.ResponseWriter }
