package web

import (
	"context"
	"sync"
	"time"

	"github.com/countinghouse/countinghouse/internal/report"
)

// freshness is how fresh the numbers are, asked at most once in a while for all pages together.
type freshness struct {
	mu    sync.Mutex
	asked time.Time
	mark  report.Watermark
	err   error
}

const (
	freshFor  = 2 * time.Second        // how long an answer stands for all
	freshWait = 700 * time.Millisecond // a page does not wait longer for its last line
)

// freshLine is the last line of every page.
func (s *Site) freshLine(v *visit) string {
	at, err := s.watermark(v)
	switch {
	case err != nil:
		return "How fresh the numbers are is not known: the warehouse does not answer."
	case at == 0:
		return "Nothing is counted yet."
	}
	return "Counted up to " + time.UnixMilli(int64(at)).UTC().Format("2006-01-02 15:04:05") + "."
}

func (s *Site) watermark(v *visit) (report.Instant, error) {
	f := &s.fresh
	f.mu.Lock()
	defer f.mu.Unlock()
	if v.now.Sub(f.asked) < freshFor && !f.asked.After(v.now) {
		return f.mark.At, f.err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(v.Context()), freshWait) // the answer is for all: one visitor who leaves does not spoil it
	defer cancel()
	f.mark, f.err = s.Reports.Watermark(ctx)
	f.asked = v.now
	return f.mark.At, f.err
}
