package report

import (
	"context"
	"sync"
)

// look is what is read once for all that is asked in its context.
type look struct {
	mu   sync.Mutex
	mark *Watermark
}

type lookKey struct{}

// OneLook is a context in which the watermark is read once, by the first question: a page that asks many is of one cut,
// and costs less. It is for what takes moments: in it nothing that comes later is seen.
func OneLook(ctx context.Context) context.Context {
	return context.WithValue(ctx, lookKey{}, &look{})
}

// Watermark is what the warehouse has of the log, now, or when the context's look began.
func (r *Reports) Watermark(ctx context.Context) (Watermark, error) {
	l, ok := ctx.Value(lookKey{}).(*look)
	if !ok {
		return r.watermark(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mark != nil {
		return *l.mark, nil
	}
	w, err := r.watermark(ctx)
	if err == nil {
		l.mark = &w
	}
	return w, err
}
